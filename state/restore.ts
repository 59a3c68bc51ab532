/**
 * Brings a store's rows up to its changelog. It reads by position to the end captured first,
 * writes rows and the position reached in one batch, and so goes on where it was stopped.
 */
import type { Database } from '../log/database.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { appliedOffset, writeAppliedOffset } from './applied-offset.ts'
import { stateError } from './errors.ts'
import { rowsPrefix } from './keys.ts'

export interface RestoreOptions {
  readonly store: { readonly name: string; readonly partition: number }
  readonly log: EventLog
  readonly changelog: TopicPartition
  readonly database: Database
  readonly onProgress?: (position: number, end: number) => void
}

const FETCH_BYTES = 4 * 1024 * 1024

export async function restoreRows(options: RestoreOptions): Promise<void> {
  const { store, log, changelog, database, onProgress } = options
  const prefix = Buffer.from(rowsPrefix(store.name, store.partition), 'latin1')
  const [range] = await log.offsets([changelog])
  const { startOffset, endOffset } = range!
  let position = Math.max(await appliedOffset(database, store), startOffset)
  while (position < endOffset) {
    const [response] = await log.fetch([{ ...changelog, offset: position, bytesMax: FETCH_BYTES }])
    const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: position })
    if (nextOffset <= position) {
      throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset })
    }
    const batch = database.batch()
    for (const columns of runs) {
      for (let i = 0; i < columns.length; i++) {
        const key = Buffer.concat([prefix, keyOf(columns, i)])
        const start = columns.valueStart[i]!
        if (start < 0) batch.delete(key)
        else batch.put(key, columns.bytes.subarray(start, columns.valueEnd[i]!))
      }
    }
    writeAppliedOffset(batch, store, nextOffset)
    await batch.commit()
    position = nextOffset
    onProgress?.(position, endOffset)
  }
}

function keyOf(columns: RecordColumns, i: number): Buffer {
  return columns.bytes.subarray(columns.keyStart[i]!, columns.keyEnd[i]!)
}

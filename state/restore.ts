/**
 * Brings a store's rows up to its changelog. It reads by position to the end captured first,
 * writes rows and the position reached in one batch, and so goes on where it was stopped.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { appliedOffset, writeAppliedOffset } from './applied-offset.ts'
import { stateError } from './errors.ts'
import { afterPrefix, rowsPrefix } from './keys.ts'

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
  const [range] = await log.offsets([changelog])
  const { startOffset, endOffset } = range!
  const applied = await appliedOffset(database, store)
  let position = Math.max(applied, startOffset)
  if (applied > endOffset) {
    await clear(options)
    position = startOffset
  }
  while (position < endOffset) {
    const [response] = await log.fetch([{ ...changelog, offset: position, bytesMax: FETCH_BYTES }])
    const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: position })
    if (nextOffset <= position) {
      throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset })
    }
    const batch = database.batch()
    try {
      for (const columns of runs) writeRows(options, columns, batch)
      writeAppliedOffset(batch, store, nextOffset)
      await batch.commit()
    } finally {
      batch.discard()
    }
    position = nextOffset
    onProgress?.(position, endOffset)
  }
}

/** Local rows that are ahead of the log are of a log that is gone: they are built anew. */
async function clear({ store, database }: RestoreOptions): Promise<void> {
  const prefix = rowsPrefix(store.name, store.partition)
  const batch = database.batch()
  batch.deleteRange(Buffer.from(prefix, 'latin1'), Buffer.from(afterPrefix(prefix)!, 'latin1'))
  writeAppliedOffset(batch, store, 0)
  await batch.commit()
}

function writeRows(options: RestoreOptions, columns: RecordColumns, batch: WriteBatch): void {
  const { store, changelog } = options
  const prefix = Buffer.from(rowsPrefix(store.name, store.partition), 'latin1')
  const { bytes } = columns
  for (let i = 0; i < columns.length; i++) {
    const keyStart = columns.keyStart[i]!
    if (keyStart < 0) {
      const offset = columns.offsets[i]
      throw stateError('CHANGELOG_FOREIGN', { ...changelog, offset, reason: 'a key is null' })
    }
    const key = Buffer.concat([prefix, bytes.subarray(keyStart, columns.keyEnd[i]!)])
    const valueStart = columns.valueStart[i]!
    if (valueStart < 0) batch.delete(key)
    else batch.put(key, bytes.subarray(valueStart, columns.valueEnd[i]!))
  }
}

/** Brings a store of rows up to its changelog: the last record of each key, as it stands. */
import type { WriteBatch } from '../log/database.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { type ReplayOptions, replayChangelog } from './changelog-replay.ts'
import { stateError } from './errors.ts'
import { afterPrefix, rowsPrefix } from './keys.ts'

/** Resolves with the changelog topic's id. */
export function restoreRows(options: ReplayOptions): Promise<string> {
  const { store } = options
  return replayChangelog(options, {
    compacted: true,
    clear(batch) {
      const prefix = rowsPrefix(store.name, store.partition)
      batch.deleteRange(Buffer.from(prefix, 'latin1'), Buffer.from(afterPrefix(prefix)!, 'latin1'))
    },
    read(bytes, position, batch) {
      const { runs, nextOffset } = decodeBatches(bytes, { fromOffset: position })
      for (const columns of runs) writeRows(options, columns, batch)
      return { next: nextOffset }
    },
  })
}

function writeRows(options: ReplayOptions, columns: RecordColumns, batch: WriteBatch): void {
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

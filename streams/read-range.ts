/** Reads a range of a partition, record by record, passing over batches that cannot be read. */
import type { EventLog, TopicPartition } from '../log/port.ts'
import { batchEnd } from '../log/record-batch.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'

const FETCH_BYTES = 1024 * 1024
const WAIT_MS = 500
/** Answers without anything new, one after the other. */
const IDLE_MAX = 60

export interface OffsetSpan extends TopicPartition {
  readonly from: number
  /** Exclusive. */
  readonly to: number
}

/** Resolves with the offset it has come to: `to`, unless the log gives nothing more. */
export async function readRange(
  log: EventLog,
  { topic, partition, from, to }: OffsetSpan,
  visit: (columns: RecordColumns, row: number) => void,
): Promise<number> {
  let offset = from
  for (let idle = 0; offset < to && idle < IDLE_MAX; ) {
    const request = { topic, partition, offset, bytesMax: FETCH_BYTES }
    const [response] = await log.fetch([request], idle === 0 ? {} : { waitMsMax: WAIT_MS })
    const { bytes, nextOffset, error, startOffset } = response!
    if (error === 'offset-out-of-range' && startOffset > offset) {
      offset = startOffset
      continue
    }
    if (error !== undefined) break
    for (const columns of readable(bytes, offset)) {
      for (let row = 0; row < columns.length; row++) {
        if (columns.offsets[row]! < to) visit(columns, row)
      }
    }
    idle = nextOffset > offset ? 0 : idle + 1
    offset = Math.max(offset, nextOffset)
  }
  // What lies behind `to` was fetched, but not visited.
  return Math.max(from, Math.min(offset, to))
}

/** The records of the batches that are whole. */
function* readable(bytes: Buffer, fromOffset: number): Generator<RecordColumns> {
  try {
    yield* decodeBatches(bytes, { fromOffset }).runs
  } catch {
    for (let position = 0; position < bytes.length; ) {
      const end = safeEnd(bytes, position)
      if (end < 0) return
      try {
        yield* decodeBatches(bytes.subarray(position, end), { fromOffset }).runs
      } catch {
        // The one that is broken.
      }
      position = end
    }
  }
}

function safeEnd(bytes: Buffer, position: number): number {
  try {
    return batchEnd(bytes, position)
  } catch {
    return -1
  }
}

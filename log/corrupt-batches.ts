/**
 * Decoding that goes on after a corrupt batch, so that one bad batch can be dead-lettered whole
 * instead of stopping its partition. Off the hot path: it starts when decoding has failed.
 */
import { logError, MillraceError } from './errors.ts'
import { AT, type BatchHeader, batchEnd, HEADER_BYTES, readInt64 } from './record-batch.ts'
import {
  type DecodedBatches,
  type DecodeOptions,
  decodeBatches,
  type RecordColumns,
} from './record-columns.ts'

export interface CorruptBatch {
  readonly error: MillraceError
  readonly baseOffset: number
  /** Where to read on: what the header says, believed only where it agrees with itself. */
  readonly nextOffset: number
  readonly bytes: Buffer
}

/**
 * As `decodeBatches`, but hands corrupt batches to `onCorrupt` and goes on behind them. Throws
 * where the damage leaves no trustworthy end: a frame or an offset range that cannot be.
 */
export function decodeAroundCorrupt(
  bytes: Buffer,
  options: DecodeOptions,
  onCorrupt: (batch: CorruptBatch) => void,
): DecodedBatches {
  try {
    return decodeBatches(bytes, options)
  } catch (error) {
    if (!isCorrupt(error)) throw error
  }
  const batches: BatchHeader[] = []
  const runs: RecordColumns[] = []
  let nextOffset = options.fromOffset ?? 0
  let position = 0
  while (position < bytes.length) {
    const end = batchEnd(bytes, position)
    if (end < 0) break
    const batch = bytes.subarray(position, end)
    try {
      const decoded = decodeBatches(batch, options)
      batches.push(...decoded.batches)
      runs.push(...decoded.runs)
      nextOffset = Math.max(nextOffset, decoded.nextOffset)
    } catch (cause) {
      if (!isCorrupt(cause)) throw cause
      const error = logError('BATCH_CORRUPT', { ...cause.details, position }, { cause })
      const range = offsetRange(batch)
      if (!range) throw error
      if (range.nextOffset > nextOffset) onCorrupt({ error, ...range, bytes: batch })
      nextOffset = Math.max(nextOffset, range.nextOffset)
    }
    position = end
  }
  return { batches, runs, nextOffset, consumed: position, truncated: position < bytes.length }
}

function isCorrupt(error: unknown): error is MillraceError {
  return error instanceof MillraceError && error.code === 'BATCH_CORRUPT'
}

/** A damaged header that still says the same thing twice is believed. */
function offsetRange(batch: Buffer): { baseOffset: number; nextOffset: number } | undefined {
  const baseOffset = readInt64(batch, AT.baseOffset)
  const lastDelta = batch.readInt32BE(AT.lastOffsetDelta)
  const count = batch.readInt32BE(AT.recordCount)
  if (lastDelta < 0 || count !== lastDelta + 1 || count > batch.length - HEADER_BYTES) {
    return undefined
  }
  return { baseOffset, nextOffset: baseOffset + count }
}

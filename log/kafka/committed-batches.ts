/**
 * What a read_committed reader gets to see of fetched records, as Kafka's Java consumer sees it.
 *
 * The broker names the aborted transactions of the range: producer and first offset, nothing of
 * their ends. Walking the batches in order, a producer is aborting from its transaction's first
 * offset to its next abort marker; its transactional batches there are dropped. A producer can
 * abort several times in a range, so the list is used up in order of the first offsets. A marker
 * that is not in this range is in a later one, for which the broker names the transaction again.
 */
import { AT, ATTRIBUTE, batchEnd, controlTypeAt, readInt64 } from '../record-batch.ts'
import type { AbortedTransaction } from './fetch-api.ts'

export interface CommittedBatches {
  /** Whole batches back to back, the same memory as the records. */
  readonly bytes: Buffer
  /** Past the last whole batch, also of those that were dropped. */
  readonly nextOffset: number
}

/**
 * Drops control batches, aborted ones and a cut-off one at the end, in place. Bytes that are no
 * batch are kept from there on: to say so is the decoder's.
 */
export function keepCommitted(
  records: Buffer,
  aborted: readonly AbortedTransaction[],
  fromOffset: number,
): CommittedBatches {
  const starts = [...aborted].sort((a, b) => a.firstOffset - b.firstOffset)
  const aborting = new Set<number>()
  let started = 0
  let kept = 0
  let nextOffset = fromOffset
  for (let start = 0; start < records.length; ) {
    const end = endOf(records, start)
    if (end === 'cut') break
    if (end === 'unframed')
      return { bytes: moved(records, start, records.length, kept), nextOffset }
    const lastOffset =
      readInt64(records, start + AT.baseOffset) + records.readInt32BE(start + AT.lastOffsetDelta)
    while (started < starts.length && starts[started]!.firstOffset <= lastOffset) {
      aborting.add(starts[started++]!.producerId)
    }
    const attributes = records.readInt16BE(start + AT.attributes)
    const producerId = readInt64(records, start + AT.producerId)
    if ((attributes & ATTRIBUTE.control) !== 0) {
      if (controlTypeAt(records, start, end) === 'abort') aborting.delete(producerId)
    } else if ((attributes & ATTRIBUTE.transactional) === 0 || !aborting.has(producerId)) {
      kept = moved(records, start, end, kept).length
    }
    nextOffset = Math.max(nextOffset, lastOffset + 1)
    start = end
  }
  return { bytes: records.subarray(0, kept), nextOffset }
}

function endOf(records: Buffer, start: number): number | 'cut' | 'unframed' {
  try {
    const end = batchEnd(records, start)
    return end < 0 ? 'cut' : end
  } catch {
    return 'unframed'
  }
}

/** Moves a range to the end of what was kept; returns all that is kept. */
function moved(records: Buffer, start: number, end: number, kept: number): Buffer {
  if (start !== kept) records.copyWithin(kept, start, end)
  return records.subarray(0, kept + end - start)
}

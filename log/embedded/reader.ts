/** Reading batches of a partition: from memory where they are new, otherwise by one scan. */
import type { Database, Entry } from '../database.ts'
import { logError } from '../errors.ts'
import { type BatchHeader, batchEnd, readBatchHeader, readInt64 } from '../record-batch.ts'
import { decodeBatches } from '../record-columns.ts'
import { batchKey, batchKeyOffset, timeKey, timeRange } from './keys.ts'
import type { Partition } from './partition.ts'

const EMPTY = Buffer.alloc(0)
const SCAN_GROWTH = 8

/** A stored batch and its header. */
export interface StoredBatch {
  readonly key: Buffer
  readonly bytes: Buffer
  readonly header: BatchHeader
}

/** Checks that a stored value is the one batch that its key says. */
export function storedBatch(partition: Partition, { key, value }: Entry): StoredBatch {
  const where = () => `${partition.name}-${partition.id.partition} offset ${batchKeyOffset(key)}`
  if (batchEnd(value, 0) !== value.length) {
    throw logError('LOG_CORRUPT', { where: where(), reason: 'its batch is cut off' })
  }
  const header = readBatchHeader(value, 0, value.length, false)
  if (header.baseOffset !== batchKeyOffset(key)) {
    throw logError('LOG_CORRUPT', { where: where(), reason: 'another batch is in its place' })
  }
  return { key, bytes: value, header }
}

/** The last batch that begins before `offset`, if any. */
export async function batchBefore(
  database: Database,
  partition: Partition,
  offset: number,
): Promise<StoredBatch | undefined> {
  const range = {
    gte: batchKey(partition.id, 0),
    lt: batchKey(partition.id, offset),
    reverse: true,
    limit: 1,
  }
  for await (const entries of database.scan(range)) {
    if (entries.length > 0) return storedBatch(partition, entries[0])
  }
  return undefined
}

/**
 * Batches of which some offset is in `[from, to)`, in order. Most callers stop after a few, so
 * the first scans read few; each sees the log as it is then.
 */
export async function* batchesOf(
  database: Database,
  partition: Partition,
  from: number,
  to: number,
): AsyncGenerator<StoredBatch> {
  const before = await batchBefore(database, partition, from)
  if (before && before.header.nextOffset > from) yield before
  const lt = batchKey(partition.id, to)
  let gte = batchKey(partition.id, from)
  for (let limit = 1; ; limit *= SCAN_GROWTH) {
    let entries = 0
    for await (const chunk of database.scan({ gte, lt, limit })) {
      entries += chunk.length
      for (const entry of chunk) {
        const batch = storedBatch(partition, entry)
        yield batch
        gte = batchKey(partition.id, batch.header.nextOffset)
      }
    }
    if (entries < limit) return
  }
}

/**
 * Whole batches from the one that holds `offset` on, all before `endOffset`, about `bytesMax`
 * of them. A single batch is not copied.
 */
export async function readBytes(
  database: Database,
  partition: Partition,
  { offset, endOffset, bytesMax }: { offset: number; endOffset: number; bytesMax: number },
): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  const range = {
    gte: batchKey(partition.id, offset),
    lt: batchKey(partition.id, endOffset),
    limit: partition.batchesIn(bytesMax),
  }
  scan: for await (const entries of database.scan(range)) {
    for (const { key, value } of entries) {
      // Only when no batch begins at the offset can it lie inside an earlier one.
      if (parts.length === 0 && batchKeyOffset(key) !== offset) {
        bytes += await startInside(database, partition, offset, parts)
      }
      if (parts.length > 0 && bytes + value.length > bytesMax) break scan
      parts.push(value)
      bytes += value.length
      partition.noteSize(value.length)
    }
  }
  if (parts.length === 0) await startInside(database, partition, offset, parts)
  if (parts.length < 2) return parts[0] ?? EMPTY
  return Buffer.concat(parts)
}

async function startInside(
  database: Database,
  partition: Partition,
  offset: number,
  parts: Buffer[],
): Promise<number> {
  const before = await batchBefore(database, partition, offset)
  if (before === undefined || before.header.nextOffset <= offset) return 0
  parts.push(before.bytes)
  return before.bytes.length
}

/**
 * First offset in `[startOffset, endOffset)` whose record timestamp is at or after
 * `timestampMs`; `endOffset` when there is none.
 *
 * Before the batch of the first time row at or above it, all is earlier: unless that row's batch
 * lies before the start, where the rows of what came between are gone, so the search begins at
 * the start. Compaction may have taken the very record, so it goes on until it finds one.
 */
export async function findTimestamp(
  database: Database,
  partition: Partition,
  timestampMs: number,
): Promise<number> {
  const { startOffset, endOffset } = partition
  const range = {
    gte: timeKey(partition.id, timestampMs),
    lt: timeRange(partition.id).lt,
    limit: 1,
  }
  let from: number | undefined
  for await (const entries of database.scan(range)) {
    if (entries.length > 0) from = readInt64(entries[0].value, 0)
  }
  if (from === undefined) return endOffset
  const batches = batchesOf(database, partition, Math.max(from, startOffset), endOffset)
  for await (const { bytes, header } of batches) {
    if (header.maxTimestamp < timestampMs) continue
    for (const columns of decodeBatches(bytes, { fromOffset: startOffset }).runs) {
      const index = columns.timestamps.subarray(0, columns.length).findIndex(t => t >= timestampMs)
      if (index >= 0) return columns.offsets[index]
    }
  }
  return endOffset
}

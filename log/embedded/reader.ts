/** Reading batches of a partition: from memory where they are new, otherwise by one scan. */
import { crc32c } from '../crc32c.ts'
import type { Database, Entry } from '../database.ts'
import { logError, MillraceError } from '../errors.ts'
import {
  AT,
  type BatchHeader,
  batchEnd,
  HEADER_BYTES,
  LENGTH_OVERHEAD,
  MAGIC,
  readBatchHeader,
  readInt64,
  writeInt64,
} from '../record-batch.ts'
import { decodeBatches } from '../record-columns.ts'
import { batchKey, batchKeyOffset, OFFSET_END, timeKey, timeRange } from './keys.ts'
import type { Partition } from './partition.ts'

const EMPTY = Buffer.alloc(0)
const SCAN_GROWTH = 8

/** A stored batch and its header. */
export interface StoredBatch {
  readonly key: Buffer
  readonly bytes: Buffer
  readonly header: BatchHeader
}

/**
 * A stored batch for readers, who check its CRC. What the CRC does not cover (base offset, length,
 * format) is held against the row. Where it differs, a copy goes out that has its place and its
 * length by the row and a CRC that cannot match: a corrupt batch, with an end to read on at.
 */
export function framedBatch({ key, value }: Entry): Buffer {
  const baseOffset = batchKeyOffset(key)
  const sound =
    value.length >= HEADER_BYTES &&
    readInt64(value, AT.baseOffset) === baseOffset &&
    value.readInt32BE(AT.batchLength) === value.length - LENGTH_OVERHEAD &&
    value[AT.magic] === MAGIC
  if (sound) return value
  const batch = Buffer.alloc(Math.max(value.length, HEADER_BYTES))
  value.copy(batch)
  writeInt64(batch, AT.baseOffset, baseOffset)
  batch.writeInt32BE(batch.length - LENGTH_OVERHEAD, AT.batchLength)
  batch[AT.magic] = MAGIC
  batch.writeUInt32BE(~crc32c(batch, AT.attributes, batch.length) >>> 0, AT.crc)
  return batch
}

function placeOf({ name, id }: Partition, offset: number): string {
  return `${name}-${id.partition} offset ${offset}`
}

/** Checks that a stored value is the one batch that its key says. */
export function storedBatch(partition: Partition, { key, value }: Entry): StoredBatch {
  const where = () => placeOf(partition, batchKeyOffset(key))
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
  const entry = await entryBefore(database, partition, offset)
  return entry && storedBatch(partition, entry)
}

/** The last batch of a partition, checked: its end is where the next append begins. */
export async function lastBatch(
  database: Database,
  partition: Partition,
): Promise<StoredBatch | undefined> {
  const last = await batchBefore(database, partition, OFFSET_END)
  if (last === undefined) return undefined
  try {
    readBatchHeader(last.bytes, 0, last.bytes.length, true)
  } catch (cause) {
    const where = placeOf(partition, last.header.baseOffset)
    throw logError('LOG_CORRUPT', { where, reason: (cause as Error).message }, { cause })
  }
  return last
}

async function entryBefore(
  database: Database,
  partition: Partition,
  offset: number,
): Promise<Entry | undefined> {
  const range = {
    gte: batchKey(partition.id, 0),
    lt: batchKey(partition.id, offset),
    reverse: true,
    limit: 1,
  }
  for await (const entries of database.scan(range)) return entries[0]
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
 * of them; none when nothing is left there. A single batch is not copied.
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
    for (const entry of entries) {
      // Only when no batch begins at the offset can it lie inside an earlier one.
      if (parts.length === 0 && batchKeyOffset(entry.key) !== offset) {
        bytes += await startInside(database, partition, offset, parts)
      }
      const batch = framedBatch(entry)
      if (parts.length > 0 && bytes + batch.length > bytesMax) break scan
      parts.push(batch)
      bytes += batch.length
      partition.noteSize(batch.length)
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
  const entry = await entryBefore(database, partition, offset)
  if (entry === undefined) return 0
  const batch = framedBatch(entry)
  try {
    const { nextOffset } = readBatchHeader(batch, 0, batch.length, true)
    if (nextOffset <= offset) return 0
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error
    // A corrupt batch is met at its base offset, once; what it says of its end counts for nothing.
    return 0
  }
  parts.push(batch)
  return batch.length
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

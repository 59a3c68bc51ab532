/**
 * Compaction: of each key only the last record stays, with its offset. What a reader folds into
 * a table is the same before, during and after.
 *
 *     [start, cleanedTo)   clean: no key twice
 *     [cleanedTo, until)   dirty: read once to learn the last offset of each key
 *     [until, end)         active: the newest bytes, never touched, so the end stays in the data
 *
 * Then the batches of [start, until) are written again without what was overtaken, at their old
 * keys, a bounded group at a time through the writer. A tombstone goes when a pass finds it
 * `deleteRetentionMs` after the pass that first kept it; that time stands in its batch as in
 * Kafka. Records without a key and control batches stay.
 */

import { ATTRIBUTE, type BatchHeader } from '../record-batch.ts'
import { RecordBatchBuilder } from '../record-batch-builder.ts'
import { decodeBatches, type RecordColumns } from '../record-columns.ts'
import * as keys from './keys.ts'
import type { MaintenanceHost } from './maintenance.ts'
import type { Partition } from './partition.ts'
import { batchesOf, type StoredBatch } from './reader.ts'

const ACTIVE_BYTES = 1 << 20
const KEYS_MAX = 500_000
const GROUP_BYTES_MAX = 4 << 20
/** Share of records not yet cleaned from which on a pass is worth its writes; as in Kafka. */
const DIRTY_RATIO_MIN = 0.5

export interface CompactionTimes {
  readonly nowMs: number
  readonly deleteRetentionMs: number
}

/** The last offset of each key in the dirty part, and how far that part was read. */
interface Plan {
  readonly latest: ReadonlyMap<string, number>
  readonly until: number
}

interface Replacement {
  readonly stored: StoredBatch
  /** Undefined when no record is left. */
  readonly bytes: Buffer | undefined
}

/**
 * Runs one pass if it is due; returns how many records it took. Where the active part begins is
 * looked for only once half as much has come: many partitions get a little now and then.
 */
export async function compact(
  host: MaintenanceHost,
  partition: Partition,
  times: CompactionTimes,
): Promise<number> {
  const activeBytes = host.options.activeBytes ?? ACTIVE_BYTES
  if (partition.bytesSinceLook * 2 < activeBytes) return 0
  partition.bytesSinceLook = 0
  try {
    return await pass(host, partition, { ...times, activeBytes })
  } catch (error) {
    partition.bytesSinceLook = Number.POSITIVE_INFINITY
    throw error
  }
}

async function pass(
  host: MaintenanceHost,
  partition: Partition,
  { activeBytes, ...times }: CompactionTimes & { readonly activeBytes: number },
): Promise<number> {
  const boundary = await activeStart(host, partition, activeBytes)
  const dirty = boundary - Math.max(partition.cleanedTo, partition.startOffset)
  if (dirty <= 0 || dirty / (dirty + partition.cleanedRecords) < DIRTY_RATIO_MIN) return 0
  const plan = await readKeys(host, partition, boundary)
  let group: Replacement[] = []
  let bytes = 0
  let kept = 0
  let removed = 0
  const flush = async () => {
    if (group.length > 0) await replace(host, partition, group)
    group = []
    bytes = 0
  }
  const all = batchesOf(host.database, partition, partition.startOffset, plan.until)
  for await (const stored of all) {
    const cleaned = clean(stored, plan, times)
    kept += stored.header.recordCount - cleaned.removed
    removed += cleaned.removed
    if (!cleaned.replacement) continue
    group.push(cleaned.replacement)
    bytes += stored.bytes.length
    if (bytes >= GROUP_BYTES_MAX) await flush()
  }
  await flush()
  await finish(host, partition, plan.until, kept)
  // There were too many keys for one pass.
  if (plan.until < boundary) partition.bytesSinceLook = Number.POSITIVE_INFINITY
  return removed
}

/** Where the newest `activeBytes` begin: at least the last batch is active. */
async function activeStart(
  host: MaintenanceHost,
  partition: Partition,
  activeBytes: number,
): Promise<number> {
  const range = {
    gte: keys.batchKey(partition.id, 0),
    lt: keys.batchKey(partition.id, partition.endOffset),
    reverse: true,
  }
  let bytes = 0
  let start = partition.endOffset
  for await (const entries of host.database.scan(range)) {
    for (const { key, value } of entries) {
      if (bytes > 0 && bytes + value.length > activeBytes) return start
      bytes += value.length
      start = keys.batchKeyOffset(key)
    }
  }
  return start
}

async function readKeys(
  host: MaintenanceHost,
  partition: Partition,
  boundary: number,
): Promise<Plan> {
  const keysMax = host.options.compactionKeysMax ?? KEYS_MAX
  const latest = new Map<string, number>()
  const from = Math.max(partition.cleanedTo, partition.startOffset)
  let until = from
  for await (const { bytes, header } of batchesOf(host.database, partition, from, boundary)) {
    if (latest.size > keysMax) return { latest, until }
    for (const columns of decodeBatches(bytes).runs) {
      for (let i = 0; i < columns.length; i++) {
        if (columns.keyStart[i] >= 0) latest.set(keyOf(columns, i), columns.offsets[i])
      }
    }
    until = header.nextOffset
  }
  return { latest, until: Math.max(until, boundary) }
}

function keyOf(columns: RecordColumns, i: number): string {
  return columns.bytes.latin1Slice(columns.keyStart[i], columns.keyEnd[i])
}

interface Cleaned {
  readonly removed: number
  /** Undefined when the batch stays as it is. */
  readonly replacement?: Replacement
}

function clean(stored: StoredBatch, plan: Plan, times: CompactionTimes): Cleaned {
  const { header } = stored
  if (header.isControl || header.recordCount === 0) return { removed: 0 }
  const [columns] = decodeBatches(stored.bytes).runs
  const hasHorizon = (header.attributes & ATTRIBUTE.deleteHorizon) !== 0
  const expired = hasHorizon && header.baseTimestamp <= times.nowMs
  const keep: number[] = []
  let tombstones = 0
  for (let i = 0; i < columns.length; i++) {
    const keyed = columns.keyStart[i] >= 0
    const latest = keyed ? plan.latest.get(keyOf(columns, i)) : undefined
    if (latest !== undefined && latest > columns.offsets[i]) continue
    const tombstone = keyed && columns.valueStart[i] < 0
    if (tombstone && expired) continue
    if (tombstone) tombstones++
    keep.push(i)
  }
  const removed = columns.length - keep.length
  const stamp = tombstones > 0 && !hasHorizon
  if (removed === 0 && !stamp) return { removed }
  const horizon = stamp
    ? times.nowMs + times.deleteRetentionMs
    : hasHorizon && tombstones > 0
      ? header.baseTimestamp
      : undefined
  const bytes = keep.length > 0 ? rebuild(header, columns, keep, horizon) : undefined
  return { removed, replacement: { stored, bytes } }
}

const builder = new RecordBatchBuilder()

/** The batch with the records `keep` alone; it begins and ends where it did. */
function rebuild(
  header: BatchHeader,
  columns: RecordColumns,
  keep: readonly number[],
  horizonMs: number | undefined,
): Buffer {
  const { bytes } = columns
  const key = { bytes, start: 0, end: 0 }
  const value = { bytes, start: 0, end: 0 }
  const headers = { bytes, start: 0, end: 0 }
  builder.reset({ baseTimestampMs: horizonMs, deleteHorizon: horizonMs !== undefined })
  for (const i of keep) {
    key.start = columns.keyStart[i]
    key.end = columns.keyEnd[i]
    value.start = columns.valueStart[i]
    value.end = columns.valueEnd[i]
    headers.start = columns.headersStart[i]
    headers.end = columns.headersEnd[i]
    builder.offsetDelta = columns.offsets[i] - header.baseOffset
    builder.append(
      columns.timestamps[i],
      key.start < 0 ? null : key,
      value.start < 0 ? null : value,
      headers.start < 0 ? undefined : headers,
    )
  }
  return builder.finish({
    compression: header.codec,
    producerId: header.producerId,
    producerEpoch: header.producerEpoch,
    baseSequence: header.baseSequence,
    transactional: header.isTransactional,
    baseOffset: header.baseOffset,
    lastOffsetDelta: header.lastOffset - header.baseOffset,
  })
}

/** Writes a group of batches again, but for those that were deleted since they were read. */
function replace(
  host: MaintenanceHost,
  partition: Partition,
  group: readonly Replacement[],
): Promise<void> {
  return host.writer.exclusive(async () => {
    if (partition.deleted) return
    const batch = host.database.batch()
    for (const { stored, bytes } of group) {
      if (stored.header.nextOffset <= partition.startOffset) continue
      if (bytes) batch.put(stored.key, bytes)
      else batch.delete(stored.key)
    }
    if (batch.size > 0) await batch.commit()
    else batch.discard()
    partition.forgetBefore(group[group.length - 1].stored.header.nextOffset)
  })
}

function finish(
  host: MaintenanceHost,
  partition: Partition,
  cleanedTo: number,
  cleanedRecords: number,
): Promise<void> {
  return host.writer.exclusive(async () => {
    if (partition.deleted) return
    const { startOffset } = partition
    const batch = host.database.batch()
    const row = keys.encodePartition({ startOffset, cleanedTo, cleanedRecords })
    batch.put(keys.partitionRowKey(partition.id), row)
    await batch.commit()
    partition.cleanedTo = cleanedTo
    partition.cleanedRecords = cleanedRecords
  })
}

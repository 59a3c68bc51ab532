/** Upkeep of a partition: moving its start, retention by record time, compaction when due. */
import type { Database } from '../database.ts'
import type { TopicConfig } from '../port.ts'
import { readInt64 } from '../record-batch.ts'
import { compact } from './compaction.ts'
import * as keys from './keys.ts'
import type { Partition } from './partition.ts'
import { batchBefore, batchesOf } from './reader.ts'
import type { Writer } from './writer.ts'

export interface MaintenanceReport {
  /** Batches that retention took. */
  batchesDeleted: number
  /** Records that compaction took. */
  recordsCompacted: number
}

export interface MaintenanceHost {
  readonly database: Database
  readonly writer: Writer
  readonly options: { readonly activeBytes?: number; readonly compactionKeysMax?: number }
}

export async function maintainTopic(
  host: MaintenanceHost,
  partition: Partition,
  config: TopicConfig,
  nowMs: number,
): Promise<MaintenanceReport> {
  const report = { batchesDeleted: 0, recordsCompacted: 0 }
  if (config.cleanup === 'compact') {
    report.recordsCompacted = await compact(host, partition, {
      nowMs,
      deleteRetentionMs: config.deleteRetentionMs,
    })
  } else if (config.retentionMs >= 0) {
    report.batchesDeleted = await retain(host, partition, nowMs - config.retentionMs)
  }
  return report
}

/** Drops batches from the start on, up to the first that has a record at or after `sinceMs`. */
async function retain(host: MaintenanceHost, partition: Partition, sinceMs: number) {
  let batches = 0
  let start = partition.startOffset
  for await (const { header } of batchesOf(host.database, partition, start, partition.endOffset)) {
    if (header.maxTimestamp >= sinceMs) break
    start = header.nextOffset
    batches++
  }
  if (batches === 0) return 0
  return host.writer.exclusive(async () => {
    if (partition.deleted) return 0
    await trimTo(host.database, partition, start)
    return batches
  })
}

/**
 * Moves the start of a partition to `offset`; only within the writer. The batch that holds the
 * offset stays, and so does the last time row before the start: it says up to which time
 * earlier rows are missing (see `findTimestamp`).
 */
export async function trimTo(
  database: Database,
  partition: Partition,
  offset: number,
): Promise<void> {
  if (offset <= partition.startOffset) return
  const { id } = partition
  const before = await batchBefore(database, partition, offset)
  const first = before && before.header.nextOffset > offset ? before.header.baseOffset : offset
  const batch = database.batch()
  try {
    const { cleanedTo, cleanedRecords } = partition
    const row = keys.encodePartition({ startOffset: offset, cleanedTo, cleanedRecords })
    batch.put(keys.partitionRowKey(id), row)
    batch.deleteRange(keys.batchKey(id, 0), keys.batchKey(id, first))
    const floor = await lastTimeRowBefore(database, partition, first)
    if (floor) batch.deleteRange(keys.timeRange(id).gte, floor)
    await batch.commit()
  } finally {
    batch.discard()
  }
  partition.startOffset = offset
}

async function lastTimeRowBefore(
  database: Database,
  partition: Partition,
  offset: number,
): Promise<Buffer | undefined> {
  let last: Buffer | undefined
  for await (const entries of database.scan(keys.timeRange(partition.id))) {
    for (const { key, value } of entries) {
      if (readInt64(value, 0) >= offset) return last
      last = key
    }
  }
  return last
}

/** The records of the bench: no key, a value of 100 B; and topics filled with and read for them. */
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'

export const RECORD_BYTES = 100
export const BATCH_BYTES = 256 << 10
/** A record's length, attributes, deltas, key length, value length and header count. */
const RECORD_OVERHEAD = 10
export const BATCH_RECORDS = Math.floor(BATCH_BYTES / (RECORD_BYTES + RECORD_OVERHEAD))
export const PARTITIONS = 4
export const value = Buffer.alloc(RECORD_BYTES, 'x')

export function batchOf(builder: RecordBatchBuilder, count: number): Buffer {
  const slice = { bytes: value, start: 0, end: value.length }
  const nowMs = Date.now()
  for (let i = 0; i < count; i++) builder.append(nowMs, null, slice)
  return builder.finish()
}

/** A new topic with so many records, in batches of 16 KB as a producer's defaults make them. */
export async function fillTopic(log: EventLog, topic: string, records: number): Promise<void> {
  const count = Math.floor((16 << 10) / (RECORD_BYTES + RECORD_OVERHEAD))
  await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
  const builder = new RecordBatchBuilder()
  let written = 0
  let turn = 0
  while (written < records) {
    const transaction = log.begin()
    for (let i = 0; i < 128 && written < records; i++) {
      const size = Math.min(count, records - written)
      transaction.append({ topic, partition: turn++ % PARTITIONS }, batchOf(builder, size))
      written += size
    }
    await transaction.commit()
  }
}

/** What a read_committed reader finds in a topic. */
export async function countRecords(log: EventLog, topic: string): Promise<number> {
  let records = 0
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const [range] = await log.offsets([{ topic, partition }])
    for (let offset = 0; offset < range!.endOffset; ) {
      const request = { topic, partition, offset, bytesMax: 1 << 22 }
      const [response] = await log.fetch([request], { waitMsMax: 1_000 })
      const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
      for (const { length } of runs) records += length
      offset = Math.max(nextOffset, response!.nextOffset)
    }
  }
  return records
}

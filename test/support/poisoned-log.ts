/** A data folder whose log holds what no API would have let in. */
import { join } from 'node:path'
import { effects } from '../../cli/effects.ts'
import { inputPartitions, inputTopics } from '../../contracts/topics.ts'
import type { Database } from '../../log/database.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import { batchKey, decodeJson, type TopicRow, topicKey } from '../../log/embedded/keys.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { openRocksDB } from '../../state/rocksdb.ts'

export interface RawRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly timestamp: number
  /** Changes the stored batch, as a failing disk would. */
  readonly damage?: (batch: Buffer) => Buffer
}

/** Writes the records to partition 0 of a topic, a batch each: offset = index. */
export async function writeRawRecords(
  dataDir: string,
  topic: string,
  records: readonly RawRecord[],
): Promise<void> {
  const database = await openRocksDB(join(dataDir, 'db'))
  const log = await openEmbeddedLog(database, effects)
  for (const name of inputTopics) {
    await log.createTopic(name, inputPartitions, { retentionMs: -1 })
  }
  for (const { key, value, timestamp } of records) {
    const builder = new RecordBatchBuilder()
    builder.append(timestamp, slice(key), slice(value))
    const transaction = log.begin()
    transaction.append({ topic, partition: 0 }, builder.finish())
    await transaction.commit()
  }
  await log.close()
  await damageBatches(database, topic, records)
  await database.close()
}

function slice(bytes: Buffer | null) {
  return bytes === null ? null : { bytes, start: 0, end: bytes.length }
}

async function damageBatches(
  database: Database,
  topic: string,
  records: readonly RawRecord[],
): Promise<void> {
  for (const [offset, { damage }] of records.entries()) {
    if (damage === undefined) continue
    await damageBatch(database, { topic, partition: 0, offset }, damage)
  }
}

/** Changes the stored batch that begins at an offset. */
export async function damageBatch(
  database: Database,
  { topic: name, partition, offset }: { topic: string; partition: number; offset: number },
  damage: (batch: Buffer) => Buffer,
): Promise<void> {
  const [stored] = await database.getMany([topicKey(name)])
  const { topic } = decodeJson<TopicRow>(stored!, name)
  const key = batchKey({ topic, partition }, offset)
  const [batch] = await database.getMany([key])
  const writes = database.batch()
  writes.put(key, damage(Buffer.from(batch!)))
  await writes.commit()
}

/** Flips one bit of the last byte: the checksum does not fit any more. */
export function flipLastBit(batch: Buffer): Buffer {
  batch[batch.length - 1]! ^= 1
  return batch
}

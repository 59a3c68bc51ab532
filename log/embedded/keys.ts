/**
 * Where the embedded log keeps what, in the database it shares with the state stores. Integers
 * are big-endian, so that keys lie in numeric order.
 *
 *     "L" "B" topic:u32 partition:u32 baseOffset:u64     → record batch v2 (`../record-batch.ts`)
 *     "L" "T" topic:u32 partition:u32 time:u64           → baseOffset:u64
 *     "T" "N" name:utf8                                  → version:u8=1 JSON (`TopicRow`)
 *     "T" "C"                                            → version:u8=1 nextTopic:u32
 *     "T" "P" topic:u32 partition:u32                    → version:u8=1 startOffset:u64
 *                                                          cleanedTo:u64 cleanedRecords:u64
 *     "G" groupLength:u16 group:utf8 topic:u32 partition:u32
 *                                                        → version:u8=1 offset:u64 metadata:utf8
 *     "I"                                                → version:u8=1 JSON (`IncarnationRow`)
 *
 * `topic` is a number given at creation and never again. `time` is a record timestamp plus 2^63;
 * a time row stands for each batch whose latest timestamp is above all before it. First bytes
 * "S", "B" and "M" belong to the state stores.
 */
import { logError } from '../errors.ts'
import type { TopicConfig } from '../port.ts'
import { readInt64, writeInt64 } from '../record-batch.ts'

export const FORMAT_VERSION = 1

const LOG = 0x4c
const BATCH = 0x42
const TIME = 0x54
const TOPIC = 0x54
const NAME = 0x4e
const COUNTER = 0x43
const PARTITION = 0x50
const GROUP = 0x47
const PARTITION_KEY_BYTES = 10
/** Above every offset: a range up to it has the whole partition. */
export const OFFSET_END: number = Number.MAX_SAFE_INTEGER

export interface KeyRange {
  readonly gte: Buffer
  readonly lt: Buffer
}

export interface TopicRow {
  readonly topic: number
  readonly id: string
  readonly partitions: number
  readonly config: TopicConfig
}

export interface PartitionRow {
  readonly startOffset: number
  /** Compaction has seen everything before it. */
  readonly cleanedTo: number
  /** How many records it left there. */
  readonly cleanedRecords: number
}

export interface IncarnationRow {
  readonly incarnation: string
  readonly bootId: string
  readonly clean: boolean
}

/** The number of a topic and of one of its partitions. */
export interface PartitionId {
  readonly topic: number
  readonly partition: number
}

function partitionKey(kind: readonly [number, number], id: PartitionId, extra: number): Buffer {
  const key = Buffer.allocUnsafe(PARTITION_KEY_BYTES + extra)
  key[0] = kind[0]
  key[1] = kind[1]
  key.writeUInt32BE(id.topic, 2)
  key.writeUInt32BE(id.partition, 6)
  return key
}

export function batchKey(id: PartitionId, baseOffset: number): Buffer {
  const key = partitionKey([LOG, BATCH], id, 8)
  writeInt64(key, PARTITION_KEY_BYTES, baseOffset)
  return key
}

export function batchKeyId(key: Buffer): PartitionId {
  return { topic: key.readUInt32BE(2), partition: key.readUInt32BE(6) }
}

export function batchKeyOffset(key: Buffer): number {
  return readInt64(key, PARTITION_KEY_BYTES)
}

export function timeKey(id: PartitionId, timestampMs: number): Buffer {
  const key = partitionKey([LOG, TIME], id, 8)
  writeInt64(key, PARTITION_KEY_BYTES, timestampMs)
  key[PARTITION_KEY_BYTES] ^= 0x80
  return key
}

export function timeKeyTimestamp(key: Buffer): number {
  const time = Buffer.from(key.subarray(PARTITION_KEY_BYTES))
  time[0] ^= 0x80
  return readInt64(time, 0)
}

/** All time rows of a partition. */
export function timeRange(id: PartitionId): KeyRange {
  return {
    gte: partitionKey([LOG, TIME], id, 0),
    lt: partitionKey([LOG, TIME], { topic: id.topic, partition: id.partition + 1 }, 0),
  }
}

export function topicKey(name: string): Buffer {
  return Buffer.concat([Buffer.from([TOPIC, NAME]), Buffer.from(name)])
}

export function topicKeyName(key: Buffer): string {
  return key.utf8Slice(2)
}

export const topicCounterKey: Buffer = Buffer.from([TOPIC, COUNTER])
export const incarnationKey: Buffer = Buffer.from('I')
export const topicRange: KeyRange = {
  gte: Buffer.from([TOPIC, NAME]),
  lt: Buffer.from([TOPIC, NAME + 1]),
}
export const groupRange: KeyRange = { gte: Buffer.from([GROUP]), lt: Buffer.from([GROUP + 1]) }

export function partitionRowKey(id: PartitionId): Buffer {
  return partitionKey([TOPIC, PARTITION], id, 0)
}

/** The key ranges that hold everything of a topic but its name and its groups' offsets. */
export function topicDataRanges(topic: number): KeyRange[] {
  const from = { topic, partition: 0 }
  const to = { topic: topic + 1, partition: 0 }
  return (
    [
      [LOG, BATCH],
      [LOG, TIME],
      [TOPIC, PARTITION],
    ] as const
  ).map(kind => ({
    gte: partitionKey(kind, from, 0),
    lt: partitionKey(kind, to, 0),
  }))
}

export function groupKey(group: string, id: PartitionId): Buffer {
  const name = Buffer.from(group)
  const key = Buffer.allocUnsafe(3 + name.length + 8)
  key[0] = GROUP
  key.writeUInt16BE(name.length, 1)
  name.copy(key, 3)
  key.writeUInt32BE(id.topic, 3 + name.length)
  key.writeUInt32BE(id.partition, 7 + name.length)
  return key
}

export function parseGroupKey(key: Buffer): { group: string } & PartitionId {
  const end = 3 + key.readUInt16BE(1)
  return {
    group: key.utf8Slice(3, end),
    topic: key.readUInt32BE(end),
    partition: key.readUInt32BE(end + 4),
  }
}

function checkVersion(value: Buffer): void {
  if (value[0] !== FORMAT_VERSION) {
    throw logError('LOG_FORMAT', { found: value[0], expected: FORMAT_VERSION })
  }
}

export function encodeJson(row: TopicRow | IncarnationRow): Buffer {
  return Buffer.concat([Buffer.from([FORMAT_VERSION]), Buffer.from(JSON.stringify(row))])
}

export function decodeJson<Row extends TopicRow | IncarnationRow>(value: Buffer, where: string) {
  checkVersion(value)
  try {
    return JSON.parse(value.utf8Slice(1)) as Row
  } catch (cause) {
    throw logError('LOG_CORRUPT', { where, reason: 'its row is not JSON' }, { cause })
  }
}

export function encodeCounter(next: number): Buffer {
  const value = Buffer.from([FORMAT_VERSION, 0, 0, 0, 0])
  value.writeUInt32BE(next, 1)
  return value
}

export function decodeCounter(value: Buffer): number {
  checkVersion(value)
  return value.readUInt32BE(1)
}

export function encodeOffset(offset: number): Buffer {
  const value = Buffer.allocUnsafe(8)
  writeInt64(value, 0, offset)
  return value
}

export function encodePartition(row: PartitionRow): Buffer {
  const value = Buffer.allocUnsafe(25)
  value[0] = FORMAT_VERSION
  writeInt64(value, 1, row.startOffset)
  writeInt64(value, 9, row.cleanedTo)
  writeInt64(value, 17, row.cleanedRecords)
  return value
}

export function decodePartition(value: Buffer | null): PartitionRow {
  if (value === null) return { startOffset: 0, cleanedTo: 0, cleanedRecords: 0 }
  checkVersion(value)
  return {
    startOffset: readInt64(value, 1),
    cleanedTo: readInt64(value, 9),
    cleanedRecords: readInt64(value, 17),
  }
}

export function encodeGroupOffset(offset: number, metadata: string): Buffer {
  const head = Buffer.allocUnsafe(9)
  head[0] = FORMAT_VERSION
  writeInt64(head, 1, offset)
  return Buffer.concat([head, Buffer.from(metadata)])
}

export function decodeGroupOffset(value: Buffer): { offset: number; metadata: string } {
  checkVersion(value)
  return { offset: readInt64(value, 1), metadata: value.utf8Slice(9) }
}

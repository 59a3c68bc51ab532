/**
 * What an epoch writes to topics: sinks and dead letters, one growing record batch a partition,
 * sealed into the epoch's transaction.
 */
import { partitionOf } from '../log/murmur2.ts'
import type { TopicPartition } from '../log/port.ts'
import { type HeaderSource, RecordBatchBuilder } from '../log/record-batch-builder.ts'
import type { Batch } from './batch.ts'
import type { KeySerde } from './serde.ts'
import type { DroppedRecord } from './task.ts'
import type { TopicLimits } from './topic-limits.ts'
import type { SinkNode } from './topology.ts'

/** A partition's batch is sealed beyond this, so that no single one grows past a topic's limit. */
const BATCH_BYTES_MAX = 512 * 1024

/** Of a value kept as a dead letter. */
const LETTER_BYTES_MAX = 1024 * 1024

const scratch = Buffer.allocUnsafeSlow(64 * 1024)

const keySlice = { bytes: scratch, start: 0, end: 0 }

/** The bytes of a binary-string key, in an object and memory that the next call uses again. */
export function keyBytes(row: string): { bytes: Buffer; start: number; end: number } {
  if (row.length > scratch.length) {
    const bytes = Buffer.from(row, 'latin1')
    return { bytes, start: 0, end: bytes.length }
  }
  keySlice.end = scratch.latin1Write(row, 0)
  return keySlice
}

/** Partition of a key, as Kafka's default partitioner gives it. */
export function partitionOfKey(serde: KeySerde<unknown>, key: unknown, partitions: number): number {
  if (partitions === 1 || key === null || key === undefined) return 0
  const { bytes, start, end } = keyBytes(serde.encode(key))
  return partitionOf(bytes, start, end, partitions)
}

export class PartitionWriter {
  readonly target: TopicPartition
  readonly builder = new RecordBatchBuilder()
  readonly full: Buffer[] = []
  readonly #limits: TopicLimits | undefined

  constructor(target: TopicPartition, limits?: TopicLimits) {
    this.target = target
    this.#limits = limits
  }

  roomFor(bytes: number): RecordBatchBuilder {
    const { builder } = this
    const bytesMax = Math.min(
      BATCH_BYTES_MAX,
      this.#limits?.of(this.target.topic) ?? Number.POSITIVE_INFINITY,
    )
    if (builder.count > 0 && builder.sizeBytes + bytes > bytesMax) this.#finish()
    return builder
  }

  #finish(): void {
    this.full.push(this.builder.finish())
    this.builder.reset()
  }

  take(): Buffer[] {
    if (this.builder.count > 0) this.#finish()
    return this.full.splice(0)
  }
}

export interface DeadLetterOrigin {
  readonly topic: string
  readonly partition: number
}

/** A record that its topic would not take. */
export interface Oversized {
  readonly index: number
  readonly detail: string
}

export class Sinks {
  readonly #writers = new Map<string, PartitionWriter>()
  readonly #partitions: ReadonlyMap<string, number>
  readonly #limits: TopicLimits
  recordsWritten = 0

  /** Partition counts of every topic that will be written. */
  constructor(partitions: ReadonlyMap<string, number>, limits: TopicLimits) {
    this.#partitions = partitions
    this.#limits = limits
  }

  /** Where batches for a partition grow. */
  writer(topic: string, partition: number): PartitionWriter {
    const id = `${topic}/${partition}`
    let writer = this.#writers.get(id)
    if (writer === undefined) {
      writer = new PartitionWriter({ topic, partition }, this.#limits)
      this.#writers.set(id, writer)
    }
    return writer
  }

  /** The records that are too large for the topic are not written but returned. */
  write(node: SinkNode, batch: Batch): readonly Oversized[] {
    const partitions = this.#partitions.get(node.topic)!
    const bytesMax = this.#limits.of(node.topic)
    const oversized: Oversized[] = []
    for (let i = 0; i < batch.length; i++) {
      const key = batch.keys[i]
      const value = batch.values[i]
      const encoded = value === null || value === undefined ? null : node.value.encode(value)
      const valueBytes = encoded && { bytes: encoded, start: 0, end: encoded.length }
      const partition = partitionOfKey(node.key, key, partitions)
      const writer = this.writer(node.topic, partition)
      const row = key === null || key === undefined ? null : keyBytes(node.key.encode(key))
      const headers = headersOf(batch, i)
      const size = (encoded?.length ?? 0) + (row?.end ?? 0) + sizeOf(headers) + 64
      if (size > bytesMax) {
        const detail = `${size} bytes, and ${node.topic} takes ${bytesMax}`
        oversized.push({ index: i, detail })
      } else writer.roomFor(size).append(batch.times[i]!, row, valueBytes, headers)
    }
    this.recordsWritten += batch.length - oversized.length
    return oversized
  }

  /**
   * Keeps a record that left the flow, with its own bytes where they are at hand: of a large value
   * the beginning, with its size.
   */
  deadLetter(topic: string, record: DroppedRecord, origin: DeadLetterOrigin | undefined): void {
    const { batch, index, reason, detail, node } = record
    const { columns } = batch
    const row = batch.rows[index]!
    const slice = (start: number, end: number) =>
      start < 0 || columns === undefined ? null : { bytes: columns.bytes, start, end }
    const key = columns && slice(columns.keyStart[row]!, columns.keyEnd[row]!)
    const value = columns && slice(columns.valueStart[row]!, columns.valueEnd[row]!)
    const bytes = value ? value.end - value.start : 0
    const kept = Math.min(bytes, LETTER_BYTES_MAX, this.#limits.of(topic) / 2)
    if (value) value.end = value.start + kept
    const cut = bytes > kept ? ` (the first ${kept} of ${bytes} bytes)` : ''
    const entries: [string, string][] = [
      ['dl_reason', reason],
      ['dl_detail', detail + cut],
      ['dl_step', node.name],
      ['dl_topic', origin?.topic ?? ''],
      ['dl_partition', String(origin?.partition ?? '')],
      ['dl_offset', String(batch.offsets[index])],
    ]
    const headers = entries.map(([name, text]) => [name, Buffer.from(text)] as const)
    this.writer(topic, 0)
      .roomFor(kept + 512)
      .append(Math.max(batch.times[index]!, 0), key ?? null, value ?? null, headers)
    this.recordsWritten++
  }

  /** All batches written since the last call, by partition. */
  take(): { target: TopicPartition; batch: Buffer }[] {
    const appends: { target: TopicPartition; batch: Buffer }[] = []
    for (const writer of this.#writers.values()) {
      for (const batch of writer.take()) appends.push({ target: writer.target, batch })
    }
    return appends
  }
}

function sizeOf(headers: HeaderSource | undefined): number {
  return headers !== undefined && 'end' in headers ? headers.end - headers.start : 0
}

export function headersOf(batch: Batch, i: number): HeaderSource | undefined {
  const { columns } = batch
  if (columns === undefined) return undefined
  const row = batch.rows[i]!
  const start = columns.headersStart[row]!
  if (start < 0) return undefined
  return { bytes: columns.bytes, start, end: columns.headersEnd[row]! }
}

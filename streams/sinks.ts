/**
 * What an epoch writes to topics: sinks and dead letters, one growing record batch a partition,
 * sealed into the epoch's transaction.
 */
import { partitionOf } from '../log/murmur2.ts'
import type { TopicPartition } from '../log/port.ts'
import { type HeaderSource, RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'
import type { Batch } from './batch.ts'
import { type DeadLetter, encodeLetter } from './dead-letter-record.ts'
import { mayBeReplay, withoutReplay } from './replay-header.ts'
import type { KeySerde } from './serde.ts'
import type { Spans } from './spans.ts'
import type { TopicLimits } from './topic-limits.ts'
import type { SinkNode } from './topology.ts'
import { traceparentHeader, traceparentOf } from './trace-context.ts'

/** A partition's batch is sealed beyond this, so that no single one grows past a topic's limit. */
const BATCH_BYTES_MAX = 512 * 1024

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

/** A record that is larger than its topic takes, or that cannot be written at all. */
export type Unwritten =
  | { readonly index: number; readonly detail: string }
  | { readonly index: number; readonly error: unknown }

export class Sinks {
  readonly #writers = new Map<string, PartitionWriter>()
  readonly #partitions: ReadonlyMap<string, number>
  readonly #limits: TopicLimits
  readonly #spans: Spans | undefined
  recordsWritten = 0

  /** Partition counts of every topic that will be written. */
  constructor(partitions: ReadonlyMap<string, number>, limits: TopicLimits, spans?: Spans) {
    this.#partitions = partitions
    this.#limits = limits
    this.#spans = spans
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

  /** The records that cannot be written are returned. */
  write(node: SinkNode, batch: Batch): readonly Unwritten[] {
    const unwritten: Unwritten[] = []
    for (let index = 0; index < batch.length; index++) {
      try {
        const detail = this.#write(node, batch, index)
        if (detail !== undefined) unwritten.push({ index, detail })
      } catch (error) {
        unwritten.push({ index, error })
      }
    }
    this.recordsWritten += batch.length - unwritten.length
    return unwritten
  }

  /** Says why, if the record is too large for the topic. */
  #write(node: SinkNode, batch: Batch, i: number): string | undefined {
    const bytesMax = this.#limits.of(node.topic)
    const key = batch.keys[i]
    const value = batch.values[i]
    const encoded = value === null || value === undefined ? null : node.value.encode(value)
    const valueBytes = encoded && { bytes: encoded, start: 0, end: encoded.length }
    const partition = partitionOfKey(node.key, key, this.#partitions.get(node.topic)!)
    const row = key === null || key === undefined ? null : keyBytes(node.key.encode(key))
    const own = this.#ownHeaders(node, batch, i, partition)
    const headers = own === undefined ? resultHeaders(batch, i) : withOwn(batch, i, own)
    const size = (encoded?.length ?? 0) + (row?.end ?? 0) + sizeOf(headers) + 64
    if (size > bytesMax) return `${size} bytes, and ${node.topic} takes ${bytesMax}`
    const writer = this.writer(node.topic, partition)
    writer.roomFor(size).append(batch.times[i]!, row, valueBytes, headers)
    return undefined
  }

  /** What the sink gives the record, and its place in its trace if it has one. */
  #ownHeaders({ headers, topic }: SinkNode, batch: Batch, i: number, partition: number) {
    const own = headers?.(batch.values[i], batch.keys[i])
    if (this.#spans === undefined) return own
    const traceparent = own?.[traceparentHeader]
    const before = batch.traces?.get(i)
    if (traceparent === undefined && before === undefined) return own
    const next = this.#spans.write(before, traceparent, { topic, partition, id: own?.ce_id })
    return next === undefined ? own : { ...own, [traceparentHeader]: next }
  }

  deadLetter(topic: string, letter: DeadLetter): void {
    const encoded = encodeLetter(letter, this.#limits.of(topic))
    const { timestampMs, key, value, headers, sizeBytes } = encoded
    const whole = (bytes: Buffer | null) => bytes && { bytes, start: 0, end: bytes.length }
    this.writer(topic, 0).roomFor(sizeBytes).append(timestampMs, whole(key), whole(value), headers)
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
  if (headers === undefined) return 0
  if ('end' in headers) return headers.end - headers.start
  // Both lengths are varints, of at most 5 bytes.
  return headers.reduce((sum, [name, value]) => sum + 10 + name.length + (value?.length ?? 0), 0)
}

/** The record's headers, those named in `own` instead of its own of that name. */
function withOwn(batch: Batch, i: number, own: Readonly<Record<string, string>>): Header[] {
  const { columns } = batch
  const kept = columns === undefined ? [] : readHeaders(columns, batch.rows[i]!)
  return [
    ...withoutReplay(kept).filter(([name]) => !Object.hasOwn(own, name)),
    ...Object.entries(own).map(([name, text]) => [name, Buffer.from(text)] as const),
  ]
}

/** A result of a replayed record is not itself one. */
function resultHeaders(batch: Batch, i: number): HeaderSource | undefined {
  const { columns, rows } = batch
  if (columns === undefined || !mayBeReplay(columns, rows[i]!)) return headersOf(batch, i)
  return withoutReplay(readHeaders(columns, rows[i]!))
}

/** The record's headers as an exchange keeps them: with its place in its trace. */
export function exchangedHeaders(batch: Batch, i: number): HeaderSource | undefined {
  const span = batch.traces?.get(i)
  if (span === undefined) return headersOf(batch, i)
  const { columns, rows } = batch
  const headers = columns === undefined ? [] : readHeaders(columns, rows[i]!)
  const traceparent = Buffer.from(traceparentOf(span.spanContext()))
  // Before all others: the mark of a replayed record is the last one.
  const others = headers.filter(([name]) => name !== traceparentHeader)
  return [[traceparentHeader, traceparent], ...others]
}

export function headersOf(batch: Batch, i: number): HeaderSource | undefined {
  const { columns } = batch
  if (columns === undefined) return undefined
  const row = batch.rows[i]!
  const start = columns.headersStart[row]!
  if (start < 0) return undefined
  return { bytes: columns.bytes, start, end: columns.headersEnd[row]! }
}

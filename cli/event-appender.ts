/** Puts validated events into the log: one transaction a call, batches by partition. */

import type { EventRecord } from '../contracts/event-record.ts'
import { inputTopics } from '../contracts/topics.ts'
import { partitionOf } from '../log/murmur2.ts'
import type { CommittedOffset, EventLog, TopicPartition } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { encodePosition } from '../streams/position.ts'
import { acceptRecords, type FirstSpans } from './first-spans.ts'

/** Finishes a batch before it passes this; a single record may be larger. */
const BATCH_BYTES = 512 * 1024

/** An event, or a command: what comes from outside. */
type AppendedRecord = Omit<EventRecord, 'topic'> & { readonly topic: string }

/** Progress of the caller that is committed with its records. */
export interface CallerProgress {
  readonly group: string
  readonly offsets: readonly CommittedOffset[]
}

export interface AppendOptions {
  readonly progress?: CallerProgress
  /** What records follow from that have no `traceparent` of their own. */
  readonly traceparent?: string | undefined
}

interface OpenBatch {
  readonly target: TopicPartition
  readonly builder: RecordBatchBuilder
}

export class EventAppender {
  readonly #log: EventLog
  readonly #first: FirstSpans | undefined
  readonly #partitions = new Map<string, number>()
  readonly #targets: TopicPartition[] = []

  private constructor(log: EventLog, first: FirstSpans | undefined) {
    this.#log = log
    this.#first = first
  }

  /** Of the topics those that are there are written to. */
  static async open(
    log: EventLog,
    topics: readonly string[] = inputTopics,
    first?: FirstSpans,
  ): Promise<EventAppender> {
    const appender = new EventAppender(log, first)
    for (const topic of topics) {
      const found = await log.describeTopic(topic)
      if (found === undefined) continue
      appender.#partitions.set(topic, found.partitions)
      for (let partition = 0; partition < found.partitions; partition++) {
        appender.#targets.push({ topic, partition })
      }
    }
    return appender
  }

  /** Appends all or nothing. Resolves with the position that covers all acknowledged input. */
  async append(
    records: readonly AppendedRecord[],
    { progress, traceparent }: AppendOptions = {},
  ): Promise<string> {
    const transaction = this.#log.begin()
    const open = new Map<string, OpenBatch>()
    const accepted = acceptRecords(records, traceparent, this.#first)
    for (const record of accepted.records) {
      const { target, builder } = this.#batchOf(record, open)
      const size = record.key.length + record.value.length
      if (builder.count > 0 && builder.sizeBytes + size > BATCH_BYTES) {
        transaction.append(target, builder.finish())
      }
      builder.append(record.timestamp, whole(record.key), whole(record.value), record.headers)
    }
    for (const { target, builder } of open.values()) transaction.append(target, builder.finish())
    await transaction.commit(progress)
    accepted.appended()
    return this.position()
  }

  #batchOf({ topic, key }: AppendedRecord, open: Map<string, OpenBatch>): OpenBatch {
    const partition = partitionOf(key, 0, key.length, this.#partitions.get(topic) ?? 1)
    const id = `${topic}/${partition}`
    let batch = open.get(id)
    if (batch === undefined) {
      batch = { target: { topic, partition }, builder: new RecordBatchBuilder() }
      open.set(id, batch)
    }
    return batch
  }

  /** All that the input topics hold now, acknowledged and not visible yet included. */
  async position(): Promise<string> {
    const ranges = await this.#log.offsets(this.#targets)
    const offsets: Record<string, number[]> = {}
    this.#targets.forEach(({ topic }, i) => {
      offsets[topic] ??= []
      offsets[topic].push(ranges[i].highWatermark)
    })
    return encodePosition({ incarnation: this.#log.incarnation, offsets })
  }
}

function whole(bytes: Buffer) {
  return { bytes, start: 0, end: bytes.length }
}

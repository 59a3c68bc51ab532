/**
 * The embedded log: the event log of one machine, in the database that it shares with the state
 * stores. What a commit acknowledged survives the process; with a database that syncs at close,
 * only a power cut can take the last moments, and then leaves a consistent prefix.
 *
 * Reads come from memory or the database, all writes pass `writer.ts`, keys are in `keys.ts`.
 */
import type { Database } from '../database.ts'
import { logError } from '../errors.ts'
import type {
  BatchReader,
  CommittedOffset,
  EventLog,
  ExclusiveWriter,
  FetchRequest,
  FetchResponse,
  LogEnvironment,
  OffsetRange,
  TopicConfig,
  TopicDescription,
  TopicPartition,
  Transaction,
} from '../port.ts'
import { checkTopic, topicConfig } from '../topics.ts'
import { type FetchWait, fetchAll } from './fetch.ts'
import { closeIncarnation, openIncarnation } from './incarnation.ts'
import * as keys from './keys.ts'
import { type MaintenanceReport, maintainTopic, trimTo } from './maintenance.ts'
import { Partition, TailBudget } from './partition.ts'
import { findTimestamp, lastBatch } from './reader.ts'
import { EmbeddedTransaction } from './transaction.ts'
import { Writer, type WriterHost } from './writer.ts'

export interface EmbeddedLogOptions {
  /** Changes when the machine starts anew: `/proc/sys/kernel/random/boot_id` on Linux. */
  readonly bootId?: string
  /** Newest batches kept in memory for readers that keep up, bytes; default 32 MiB. */
  readonly tailBytesMax?: number
  /** The newest bytes of a partition that compaction leaves alone; default 1 MiB. */
  readonly activeBytes?: number
  /** Keys that one compaction pass remembers, some 100 B each; default 500,000. Others wait. */
  readonly compactionKeysMax?: number
}

/** The embedded log and what only it can do. */
export interface EmbeddedLog extends EventLog, BatchReader {
  /**
   * Retention and compaction, as of `nowMs`. The caller schedules it; transactions go on
   * meanwhile. Passes do not overlap: a second call waits for the first.
   */
  maintain(nowMs: number): Promise<MaintenanceReport>
}

interface Topic {
  readonly name: string
  readonly row: keys.TopicRow
  readonly partitions: readonly Partition[]
}

const OPEN_AT_ONCE = 64

/** Opens the log in a database, making one where there is none. The database stays the caller's. */
export async function openEmbeddedLog(
  database: Database,
  environment: LogEnvironment,
  options: EmbeddedLogOptions = {},
): Promise<EmbeddedLog> {
  const row = await openIncarnation(database, environment, options.bootId ?? '')
  const log = new DatabaseLog(database, environment, options, row)
  await log.load()
  return log
}

class DatabaseLog implements EmbeddedLog, WriterHost {
  readonly incarnation: string
  readonly database: Database
  readonly environment: LogEnvironment
  readonly tail: TailBudget
  readonly #row: keys.IncarnationRow
  readonly #options: EmbeddedLogOptions
  readonly #topics = new Map<string, Topic>()
  /** Who writes under a name now. */
  readonly #exclusive = new Map<string, Pick<Writer, 'commit'>>()
  readonly #writer: Writer
  readonly #reads = new Set<Promise<unknown>>()
  #nextTopic = 1
  #closing: Promise<void> | undefined
  #maintenance: Promise<unknown> = Promise.resolve()

  constructor(
    database: Database,
    environment: LogEnvironment,
    options: EmbeddedLogOptions,
    row: keys.IncarnationRow,
  ) {
    this.database = database
    this.environment = environment
    this.tail = new TailBudget(options.tailBytesMax ?? 32 << 20)
    this.#options = options
    this.#row = row
    this.incarnation = row.incarnation
    this.#writer = new Writer(this)
  }

  async load(): Promise<void> {
    const [counter] = await this.database.getMany([keys.topicCounterKey])
    if (counter) this.#nextTopic = keys.decodeCounter(counter)
    const opening: Partition[] = []
    for await (const entries of this.database.scan(keys.topicRange)) {
      for (const { key, value } of entries) {
        const name = keys.topicKeyName(key)
        const topic = makeTopic(name, keys.decodeJson<keys.TopicRow>(value, `topic ${name}`))
        this.#topics.set(name, topic)
        opening.push(...topic.partitions)
      }
    }
    const rows = await this.database.getMany(opening.map(({ id }) => keys.partitionRowKey(id)))
    opening.forEach((partition, i) => {
      const row = keys.decodePartition(rows[i])
      partition.startOffset = row.startOffset
      partition.cleanedTo = row.cleanedTo
      partition.cleanedRecords = row.cleanedRecords
    })
    for (let i = 0; i < opening.length; i += OPEN_AT_ONCE) {
      const some = opening.slice(i, i + OPEN_AT_ONCE).map(each => this.recover(each))
      const failed = (await Promise.allSettled(some)).find(each => each.status === 'rejected')
      if (failed) throw failed.reason
    }
  }

  async recover(partition: Partition): Promise<void> {
    const last = await lastBatch(this.database, partition)
    partition.endOffset = Math.max(partition.startOffset, last?.header.nextOffset ?? 0)
    if (last) partition.noteSize(last.bytes.length)
    partition.maxTimestamp = Number.NEGATIVE_INFINITY
    const range = { ...keys.timeRange(partition.id), reverse: true, limit: 1 }
    for await (const entries of this.database.scan(range)) {
      if (entries.length > 0) partition.maxTimestamp = keys.timeKeyTimestamp(entries[0].key)
    }
    partition.rollback()
  }

  find(topic: string, partition: number): Partition | undefined {
    return this.#topics.get(topic)?.partitions[partition]
  }

  partition({ topic, partition }: TopicPartition): Partition {
    const found = this.find(topic, partition)
    if (found) return found
    if (!this.#topics.has(topic)) throw logError('TOPIC_MISSING', { topic })
    throw logError('PARTITION_MISSING', { topic, partition })
  }

  batchBytesMax(topic: string): number {
    return this.#topics.get(topic)?.row.config.batchBytesMax ?? 0
  }

  checkOpen(): void {
    if (this.#closing) throw logError('LOG_CLOSED')
  }

  async createTopic(
    name: string,
    partitions: number,
    config: Partial<TopicConfig> = {},
  ): Promise<TopicDescription> {
    this.checkOpen()
    const whole = topicConfig(config)
    checkTopic(name, partitions, whole)
    return this.#writer.exclusive(async () => {
      if (this.#topics.has(name)) throw logError('TOPIC_EXISTS', { topic: name })
      const id = this.environment.randomBytes(16).toString('base64url')
      const topic = makeTopic(name, { topic: this.#nextTopic, id, partitions, config: whole })
      const batch = this.database.batch()
      batch.put(keys.topicKey(name), keys.encodeJson(topic.row))
      batch.put(keys.topicCounterKey, keys.encodeCounter(this.#nextTopic + 1))
      await batch.commit()
      this.#nextTopic++
      this.#topics.set(name, topic)
      return describe(topic)
    })
  }

  async describeTopic(name: string): Promise<TopicDescription | undefined> {
    const topic = this.#topics.get(name)
    return topic && describe(topic)
  }

  async listTopics(): Promise<readonly TopicDescription[]> {
    return [...this.#topics.values()].map(describe).sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async deleteTopic(name: string): Promise<void> {
    this.checkOpen()
    await this.#writer.exclusive(async () => {
      const topic = this.#topics.get(name)
      if (!topic) throw logError('TOPIC_MISSING', { topic: name })
      const batch = this.database.batch()
      try {
        batch.delete(keys.topicKey(name))
        for (const { gte, lt } of keys.topicDataRanges(topic.row.topic)) batch.deleteRange(gte, lt)
        for await (const entries of this.database.scan(keys.groupRange)) {
          for (const { key } of entries) {
            if (keys.parseGroupKey(key).topic === topic.row.topic) batch.delete(key)
          }
        }
        await batch.commit()
      } finally {
        batch.discard()
      }
      this.#topics.delete(name)
      for (const partition of topic.partitions) {
        partition.deleted = true
        partition.wake()
      }
    })
  }

  async deleteRecords(target: TopicPartition, beforeOffset: number): Promise<void> {
    this.checkOpen()
    await this.#writer.exclusive(async () => {
      const partition = this.partition(target)
      const { startOffset, endOffset } = partition
      if (!(beforeOffset >= 0 && beforeOffset <= endOffset)) {
        throw logError('OFFSET_OUT_OF_RANGE', {
          ...target,
          offset: beforeOffset,
          startOffset,
          endOffset,
        })
      }
      await trimTo(this.database, partition, beforeOffset)
    })
  }

  fetch(
    requests: readonly FetchRequest[],
    options: FetchWait = {},
  ): Promise<readonly FetchResponse[]> {
    return this.#read(fetchAll(this, requests, options))
  }

  async readBatches(
    target: TopicPartition,
    baseOffsets: readonly number[],
  ): Promise<readonly (Buffer | null)[]> {
    this.checkOpen()
    const { id } = this.partition(target)
    const wanted = baseOffsets.map(offset => keys.batchKey(id, offset))
    return this.#read(this.database.getMany(wanted))
  }

  async offsets(targets: readonly TopicPartition[]): Promise<readonly OffsetRange[]> {
    this.checkOpen()
    return targets.map(target => {
      const { startOffset, endOffset } = this.partition(target)
      return { startOffset, endOffset, highWatermark: endOffset }
    })
  }

  async offsetForTimestamp(target: TopicPartition, timestampMs: number): Promise<number> {
    this.checkOpen()
    return this.#read(findTimestamp(this.database, this.partition(target), timestampMs))
  }

  async committed(
    group: string,
    targets: readonly TopicPartition[],
  ): Promise<readonly (CommittedOffset | null)[]> {
    this.checkOpen()
    const wanted = targets.map(target => keys.groupKey(group, this.partition(target).id))
    const values = await this.#read(this.database.getMany(wanted))
    return values.map((value, i) => {
      const { topic, partition } = targets[i]
      return value && { topic, partition, ...keys.decodeGroupOffset(value) }
    })
  }

  async listGroups(): Promise<readonly string[]> {
    this.checkOpen()
    const groups = new Set<string>()
    const scan = async () => {
      for await (const entries of this.database.scan(keys.groupRange)) {
        for (const { key } of entries) groups.add(keys.parseGroupKey(key).group)
      }
    }
    await this.#read(scan())
    return [...groups].sort()
  }

  begin(): Transaction {
    return new EmbeddedTransaction(this.#writer, () => this.#closing !== undefined)
  }

  async exclusive(name: string): Promise<ExclusiveWriter> {
    this.checkOpen()
    const writer: Pick<Writer, 'commit'> = {
      commit: (appends, request) =>
        this.#exclusive.get(name) === writer
          ? this.#writer.commit(appends, request)
          : Promise.reject(logError('WRITER_REPLACED', { name })),
    }
    this.#exclusive.set(name, writer)
    // What the one before has handed over already is written first.
    await this.#writer.exclusive(async () => {})
    return {
      begin: () => new EmbeddedTransaction(writer, () => this.#closing !== undefined),
      close: async () => {
        if (this.#exclusive.get(name) === writer) this.#exclusive.delete(name)
      },
    }
  }

  maintain(nowMs: number): Promise<MaintenanceReport> {
    const pass = this.#maintenance.then(async () => {
      const report = { batchesDeleted: 0, recordsCompacted: 0 }
      for (const { row, partitions } of [...this.#topics.values()]) {
        for (const partition of partitions) {
          if (this.#closing) return report
          const host = { database: this.database, writer: this.#writer, options: this.#options }
          const done = await maintainTopic(host, partition, row.config, nowMs)
          report.batchesDeleted += done.batchesDeleted
          report.recordsCompacted += done.recordsCompacted
        }
      }
      return report
    })
    this.#maintenance = pass.catch(() => {})
    return this.#read(pass)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // `#closing` is set when this has returned once; only then do woken readers see it.
    await undefined
    for (const { partitions } of this.#topics.values()) for (const each of partitions) each.wake()
    await this.#writer.idle()
    await Promise.allSettled(this.#reads)
    await closeIncarnation(this.database, this.#row)
  }

  /** Counts a read, so that `close` leaves no iterator behind. */
  #read<T>(promise: Promise<T>): Promise<T> {
    const done = promise.finally(() => this.#reads.delete(done))
    this.#reads.add(done)
    return done
  }
}

function makeTopic(name: string, row: keys.TopicRow): Topic {
  const bounds = { startOffset: 0, endOffset: 0, maxTimestamp: Number.NEGATIVE_INFINITY }
  const partitions = Array.from(
    { length: row.partitions },
    (_, partition) => new Partition({ topic: row.topic, partition }, name, bounds),
  )
  return { name, row, partitions }
}

function describe({ name, row }: Topic): TopicDescription {
  return { name, id: row.id, partitions: row.partitions, config: row.config }
}

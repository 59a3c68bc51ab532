/**
 * Runs a topology in memory, without a broker and with the clock in the caller's hand: the real
 * engine over the real embedded log, on a memory database. Nothing happens between calls:
 * every call that takes records or moves the clock returns when all of it has been processed,
 * committed and published.
 */

import type { Database } from '../../log/database.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { Engine } from '../engine.ts'
import type { CrashPoint, EngineSettings } from '../environment.ts'
import { assert } from '../errors.ts'
import { keyBytes, partitionOfKey } from '../sinks.ts'
import type { Tracing } from '../spans.ts'
import type { SourceNode, Topology } from '../topology.ts'
import { viewService } from '../view-service.ts'
import type { ViewRow, ViewService } from '../views.ts'
import { type OutputRecord, type ReadSerdes, readTopic } from './read-topic.ts'

export interface TestDriverOptions {
  /** Partitions of topics that do not exist yet; 1 unless given. */
  readonly partitions?: number
  /** The clock's first reading, epoch ms. */
  readonly startMs?: number
  readonly settings?: Partial<EngineSettings>
  /** State and log of an earlier driver: what a restart finds. */
  readonly database?: Database
  readonly reached?: (point: CrashPoint) => void
  readonly tracing?: Tracing
  /** Another application's driver: both then have one log, one database and one clock. */
  readonly beside?: TopologyTestDriver
}

export interface TestRecord<K, V> {
  readonly key: K | null
  readonly value: V | null
  readonly timeMs: number
  /** By key unless given. */
  readonly partition?: number
  readonly headers?: Readonly<Record<string, string>>
}

export class TopologyTestDriver {
  readonly database: Database
  readonly log: EventLog
  readonly engine: Engine
  readonly views: ViewService
  readonly #clock: TestClock
  readonly #isBeside: boolean
  readonly #read = new Map<string, number>()

  private constructor(parts: {
    database: Database
    log: EventLog
    engine: Engine
    clock: TestClock
    isBeside: boolean
  }) {
    this.database = parts.database
    this.log = parts.log
    this.engine = parts.engine
    this.#clock = parts.clock
    this.#isBeside = parts.isBeside
    const { schedule } = parts.clock
    const { incarnation } = parts.log
    this.views = viewService({ engine: parts.engine, schedule, incarnation })
  }

  static async open(
    topology: Topology,
    options: TestDriverOptions = {},
  ): Promise<TopologyTestDriver> {
    const { beside } = options
    const database = options.database ?? beside?.database ?? new MemoryDatabase()
    const clock = beside ? beside.#clock : new TestClock(options.startMs ?? 0)
    let serial = 0
    const environment = {
      clock: clock.now,
      schedule: clock.schedule,
      randomBytes: (size: number) => Buffer.alloc(size, ++serial),
      yieldNow: () => Promise.resolve(),
      reached: options.reached,
      ...(options.tracing && { tracing: options.tracing }),
    }
    const log = beside?.log ?? (await openEmbeddedLog(database, environment))
    const settings = { createPartitions: options.partitions ?? 1, ...options.settings }
    const engine = await Engine.open({ topology, log, database, environment, settings })
    const isBeside = beside !== undefined
    return new TopologyTestDriver({ database, log, engine, clock, isBeside })
  }

  /** Name of the topology's application. */
  get application(): string {
    return this.engine.topology.application
  }

  get nowMs(): number {
    return this.#clock.now()
  }

  #source(topic: string): SourceNode {
    const node = this.engine.plan.sources.find(source => source.topic === topic)
    assert(node !== undefined, `the topology reads the topic ${topic}`)
    return node
  }

  /** Appends records to an input topic, in order, and processes them. */
  async pipe<K, V>(topic: string, ...records: TestRecord<K, V>[]): Promise<void> {
    await this.append(topic, records)
    await this.process()
  }

  /** Appends records without processing them: they are there when `process` is called. */
  async append<K, V>(topic: string, records: readonly TestRecord<K, V>[]): Promise<void> {
    const { key: keySerde, value: valueSerde } = this.#source(topic)
    const { partitions } = (await this.log.describeTopic(topic))!
    const transaction = this.log.begin()
    const builder = new RecordBatchBuilder()
    let target = -1
    const flush = () => {
      if (builder.count > 0) transaction.append({ topic, partition: target }, builder.finish())
    }
    for (const { key, value, timeMs, partition, headers } of records) {
      const wanted = partition ?? partitionOfKey(keySerde, key, partitions)
      if (wanted !== target) flush()
      target = wanted
      const bytes = value === null ? null : valueSerde.encode(value)
      builder.append(
        timeMs,
        key === null ? null : keyBytes(keySerde.encode(key)),
        bytes && { bytes, start: 0, end: bytes.length },
        headers &&
          Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)] as const),
      )
    }
    flush()
    await transaction.commit()
  }

  /** Appends bytes as they are: for records that no serde would write. */
  async appendRaw(topic: string, partition: number, batch: Buffer): Promise<void> {
    const transaction = this.log.begin()
    transaction.append({ topic, partition }, batch)
    await transaction.commit()
  }

  /** Processes everything that the log holds. */
  async process(): Promise<void> {
    await this.engine.drain()
  }

  /** Moves the clock and runs the timers due, and nothing else. */
  tick(byMs: number): void {
    this.#clock.advance(byMs)
  }

  /** Moves the clock, runs the timers due, idleness and wall-clock punctuation. */
  async advanceWallClock(byMs: number): Promise<void> {
    await this.process()
    this.#clock.advance(byMs)
    await this.process()
  }

  /** Records written to a topic since the last call, partition by partition. */
  output<K, V>(topic: string, serdes: ReadSerdes<K, V>): Promise<OutputRecord<K, V>[]> {
    return readTopic({ log: this.log, topic, serdes, positions: this.#read })
  }

  /** All rows of a view, as of a time where one is given. */
  async rows(view: string, asOf?: number): Promise<ViewRow[]> {
    const rows: ViewRow[] = []
    let cursor: string | undefined
    do {
      const page = await this.views.rows(view, { key: {}, limit: 1000, asOf, cursor })
      rows.push(...page.rows)
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
    return rows
  }

  /** Stops the engine; the database stays open, so that another driver can go on with it. */
  async close(): Promise<void> {
    await this.engine.stop()
    if (!this.#isBeside) await this.log.close()
  }
}

/** A clock and timers that only move when told. */
class TestClock {
  #nowMs: number
  readonly #timers = new Set<{ atMs: number; task: () => void }>()

  constructor(startMs: number) {
    this.#nowMs = startMs
  }

  readonly now = (): number => this.#nowMs

  readonly schedule = (task: () => void, delayMs: number): (() => void) => {
    const timer = { atMs: this.#nowMs + delayMs, task }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  advance(byMs: number): void {
    this.#nowMs += byMs
    const due = [...this.#timers].filter(timer => timer.atMs <= this.#nowMs)
    due.sort((a, b) => a.atMs - b.atMs)
    for (const timer of due) {
      this.#timers.delete(timer)
      timer.task()
    }
  }
}

/**
 * The engine: runs a topology as epochs over a log and a database (docs/ARCHITECTURE.md has
 * the lifecycle). One dataflow; while an epoch commits, the next one runs over its overlay.
 *
 *   collect → run to quiescence → seal → commit (one transaction) → apply → publish
 *
 * An epoch that fails, in a step or in the commit, is dropped whole with the one that runs over
 * it: everything is built again from committed state and the input is read again.
 */
import type { Database } from '../log/database.ts'
import type { EventLog } from '../log/port.ts'
import { verifyFingerprint } from '../state/fingerprint.ts'
import { Assembly } from './assembly.ts'
import { Collector } from './collector.ts'
import { DeadLetters } from './dead-letters.ts'
import { defaultSettings, type EngineEnvironment, type EngineSettings } from './environment.ts'
import { applyEpoch, describeCut, sealEpoch } from './epoch.ts'
import { MillraceError } from './errors.ts'
import { type Plan, planTopology } from './plan.ts'
import { Publisher } from './publisher.ts'
import { stateIdentity } from './state-identity.ts'
import { prepareTopics } from './topics.ts'
import type { Topology } from './topology.ts'
import type { TaskState, TaskStatus } from './views.ts'

export interface EngineOptions {
  readonly topology: Topology
  readonly log: EventLog
  readonly database: Database
  readonly environment: EngineEnvironment
  readonly settings?: Partial<EngineSettings>
  /** Called when an epoch failed and is tried again, or when the engine gave up. */
  readonly onError?: (error: unknown) => void
}

/** Work done without a pause, before timers and sockets get their turn. */
const WORK_MS_MAX = 2
const FETCH_WAIT_MS = 200
const RETRY_MS_FIRST = 100
const RETRY_MS_MAX = 10_000

export class Engine {
  readonly topology: Topology
  readonly settings: EngineSettings
  readonly publisher: Publisher
  readonly deadLetters: DeadLetters
  readonly plan: Plan
  readonly #options: EngineOptions
  readonly #topicPartitions: ReadonlyMap<string, number>
  readonly #stopping = new AbortController()
  #assembly!: Assembly
  #collector!: Collector
  #inFlight: Promise<void> | undefined
  #state: TaskState = 'starting'
  #detail = 'building stores and tasks'
  #running: Promise<void> | undefined
  #punctuatedMs: number
  epochs = 0

  private constructor(options: EngineOptions, plan: Plan, partitions: ReadonlyMap<string, number>) {
    this.#options = options
    this.topology = options.topology
    this.settings = { ...defaultSettings, ...options.settings }
    this.plan = plan
    this.#topicPartitions = partitions
    this.#punctuatedMs = options.environment.clock()
    const { database, onError } = options
    this.publisher = new Publisher({ plan, database, onError: onError ?? (() => {}) })
    this.deadLetters = new DeadLetters(options.topology.application)
  }

  /** Validates the topology, creates its topics and restores its state. Does not process yet. */
  static async open(options: EngineOptions): Promise<Engine> {
    const settings = { ...defaultSettings, ...options.settings }
    const partitions = await prepareTopics(options.log, options.topology, settings)
    const plan = planTopology(options.topology, partitions)
    await verifyFingerprint(options.database, stateIdentity(plan))
    const engine = new Engine(options, plan, partitions)
    await engine.#assemble()
    return engine
  }

  get assembly(): Assembly {
    return this.#assembly
  }

  get state(): TaskState {
    return this.#state
  }

  async #assemble(): Promise<void> {
    const { log, database, environment } = this.#options
    this.#state = 'restoring'
    this.#assembly = await Assembly.build({
      plan: this.plan,
      log,
      database,
      clock: environment.clock,
      topicPartitions: this.#topicPartitions,
      storeCacheBytes: this.settings.storeCacheBytes,
      onRestore: (task, store, position, end) => {
        this.#detail = `${task}: restoring ${store}, ${position} of ${end}`
        environment.reached?.('restore-mid')
      },
      reached: point => environment.reached?.(point),
      onDrop: record => this.deadLetters.drop(this.#assembly, record),
    })
    this.#collector = new Collector({
      assembly: this.#assembly,
      log,
      settings: this.settings,
      clock: environment.clock,
      onReject: (source, record) => this.deadLetters.reject(this.#assembly, source, record),
      onBroken: (source, batch) => this.deadLetters.rejectBatch(this.#assembly, source, batch),
    })
    await this.#seek()
    this.publisher.begin(this.#assembly, describeCut(this.#assembly, log))
    this.#state = 'running'
    this.#detail = 'processing'
  }

  /** Goes to the committed offsets; where none was ever committed, to the start of the log. */
  async #seek(): Promise<void> {
    const { log } = this.#options
    const { sources } = this.#assembly
    const targets = sources.map(({ topic, partition }) => ({ topic, partition }))
    const committed = await log.committed(this.topology.application, targets)
    const ranges = await log.offsets(targets)
    sources.forEach((source, i) => {
      source.seek(committed[i]?.offset ?? ranges[i]!.startOffset)
      source.endOffset = ranges[i]!.endOffset
    })
  }

  tasks(): TaskStatus[] {
    return this.#assembly.tasks.map(task => ({
      task: task.name,
      state: this.#state,
      detail: this.#detail,
    }))
  }

  /** Processes until `stop`. Resolves when stopped, rejects when the engine gave up. */
  run(): Promise<void> {
    this.#running ??= this.#loop()
    return this.#running
  }

  async #loop(): Promise<void> {
    let retryMs = RETRY_MS_FIRST
    let fetching: Promise<void> | undefined
    while (!this.#stopping.signal.aborted) {
      try {
        if (!this.#collector.hasRecords) {
          await (fetching ?? this.#fetchAhead())
          fetching = undefined
        }
        fetching ??= this.#fetchAhead()
        await this.epoch()
        retryMs = RETRY_MS_FIRST
      } catch (error) {
        await fetching?.catch(() => {})
        fetching = undefined
        retryMs = await this.#recover(retryMs, error)
      }
    }
    await fetching?.catch(() => {})
    await this.settle()
  }

  /** The fetch that runs beside the epoch; its failure is seen when it is awaited. */
  #fetchAhead(): Promise<void> {
    const fetching = this.#collector.fetch(FETCH_WAIT_MS, this.#stopping.signal)
    fetching.catch(() => {})
    return fetching
  }

  /**
   * Drops everything not committed and builds again from committed state, waiting longer after
   * each failure. An error that the catalogue says to stop at is thrown.
   */
  async #recover(firstDelayMs: number, failure: unknown): Promise<number> {
    const { onError } = this.#options
    let error = failure
    let delayMs = firstDelayMs
    await this.#inFlight?.catch(() => {})
    this.#inFlight = undefined
    while (!this.#stopping.signal.aborted) {
      onError?.(error)
      const gaveUp = error instanceof MillraceError && error.recovery === 'stop'
      this.#state = gaveUp ? 'failed' : 'restoring'
      this.#detail = `an epoch failed: ${error instanceof Error ? error.message : error}`
      if (gaveUp) throw error
      await this.#pause(delayMs)
      if (this.#stopping.signal.aborted) break
      delayMs = Math.min(delayMs * 2, RETRY_MS_MAX)
      try {
        await this.#assemble()
        break
      } catch (again) {
        error = again
      }
    }
    return delayMs
  }

  /** Waits, but not for a stop. */
  #pause(delayMs: number): Promise<void> {
    const { signal } = this.#stopping
    return new Promise(resolve => {
      const cancel = this.#options.environment.schedule(resolve, delayMs)
      signal.addEventListener('abort', () => {
        cancel()
        resolve()
      })
    })
  }

  /**
   * Runs one epoch over what is buffered. Its commit goes on in the background; the one before
   * has been committed and published when this seals. False when there was nothing to commit.
   */
  async epoch(): Promise<boolean> {
    const { environment, log } = this.#options
    const { clock } = environment
    const startedMs = clock()
    const deadlineMs = startedMs + this.settings.epochMsMax
    const recordsMax = this.#recordsRead() + this.settings.epochRecordsMax
    let changed = this.#collector.updateIdleness()
    changed = this.#punctuate(startedMs) || changed
    if (this.#collector.hasRecords) environment.reached?.('polled')
    let yieldedMs = startedMs
    for (let round = 0; ; round++) {
      const collected = this.#collector.collect()
      changed ||= collected
      if (!collected && (round > 0 || !changed)) break
      for (const task of this.#assembly.tasks) {
        await task.run()
        if (clock() - yieldedMs >= WORK_MS_MAX) {
          await environment.yieldNow()
          yieldedMs = clock()
        }
      }
      if (clock() >= deadlineMs || this.#recordsRead() >= recordsMax) break
    }
    if (!changed) {
      await this.settle()
      return false
    }
    environment.reached?.('run')
    await this.settle()
    const sealed = sealEpoch(this.#assembly, log, clock())
    this.epochs++
    this.#inFlight = sealed.commit().then(async () => {
      environment.reached?.('log-committed')
      await this.publisher.publish(sealed, () => {
        applyEpoch(this.#assembly.stores)
        environment.reached?.('store-applied')
      })
      environment.reached?.('published')
    })
    this.#inFlight.catch(() => {})
    return true
  }

  /** Resolves when the last epoch is committed and published; rejects when it failed. */
  async settle(): Promise<void> {
    const inFlight = this.#inFlight
    await inFlight
    if (this.#inFlight === inFlight) this.#inFlight = undefined
  }

  #recordsRead(): number {
    let records = 0
    for (const source of this.#assembly.sources) records += source.recordsRead
    return records
  }

  #punctuate(nowMs: number): boolean {
    if (nowMs - this.#punctuatedMs < this.settings.wallClockIntervalMs) return false
    this.#punctuatedMs = nowMs
    const tasks = this.#assembly.tasks.filter(task => task.hasWallClock)
    for (const task of tasks) task.punctuate(nowMs)
    return tasks.length > 0
  }

  /** Fetches and runs until all that the log holds is processed, committed and published. */
  async drain(): Promise<void> {
    for (;;) {
      const changed = await this.step()
      if (!changed && this.#collector.atEnd) break
    }
    await this.settle()
  }

  /** Fetches what is there and runs one epoch over it. False when there was nothing to commit. */
  async step(): Promise<boolean> {
    await this.#collector.fetch(0)
    return this.epoch()
  }

  /** Finishes the epoch that runs, commits it and stops. Idempotent. */
  async stop(): Promise<void> {
    this.#state = 'draining'
    this.#detail = 'finishing the last epoch'
    this.#stopping.abort()
    try {
      await this.#running
      await this.settle()
    } finally {
      this.publisher.close()
      this.#state = 'stopped'
      this.#detail = 'stopped'
    }
  }
}

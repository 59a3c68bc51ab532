/**
 * Runs epochs over one assembly: collect, run to quiescence, seal, commit, apply, publish. While
 * an epoch commits, the next one runs over its overlay. It also drains repartition topics, so
 * that edges with both ends here can go in memory (law 5).
 */
import type { EventLog, GroupMember } from '../log/port.ts'
import { type Assembly, closingBranches } from './assembly.ts'
import { Collector } from './collector.ts'
import type { EngineEnvironment, EngineSettings } from './environment.ts'
import { applyEpoch, sealEpoch } from './epoch.ts'
import { assert } from './errors.ts'
import { repartitionTopic } from './exchange-router.ts'
import { ExchangeTrim } from './exchange-trim.ts'
import type { InputPartition } from './input-partition.ts'
import { withDownstream } from './plan.ts'
import type { Publisher } from './publisher.ts'
import type { Task } from './task.ts'
import type { ExchangeNode } from './topology.ts'

/** Work done without a pause, before timers and sockets get their turn. */
const WORK_MS_MAX = 2
const FETCH_WAIT_MS = 200
/** An edge is tried to be brought to memory when its topic holds no more than this for it. */
const DRAIN_RECORDS_MAX = 10_000
/**
 * Input stands still meanwhile, so the attempt is given up after a while, sooner if nothing comes:
 * the transaction of a dead instance may be open there. It is made again later.
 */
const DRAIN_MS_MAX = 500
const DRAIN_IDLE_MS = 150
const DRAIN_AGAIN_MS = 3000

export interface EpochRunnerOptions {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly settings: EngineSettings
  readonly environment: EngineEnvironment
  readonly publisher: Publisher
  /** False while the group has to be followed first: no transaction begins before. */
  readonly mayBegin: () => boolean
  /** Who the instance is to its group now; throws when it is nobody. */
  readonly member: () => GroupMember | undefined
  /** How long nothing at all is to run, ms. */
  readonly heldMs: () => number
  /** Called as an epoch is sealed; what it gives is called once that is committed. */
  readonly onSeal: () => () => void
}

/** Which part of the assembly an epoch runs; all of it unless given. */
interface Scope {
  readonly inputs: readonly InputPartition[]
  readonly tasks: readonly Task[]
}

export class EpochRunner {
  readonly #options: EpochRunnerOptions
  readonly #collector: Collector
  readonly #trim: ExchangeTrim
  #inFlight: Promise<void> | undefined
  #fetching: Promise<void> | undefined
  #signal: AbortSignal | undefined
  #punctuatedMs: number
  #sealedMs = Number.NEGATIVE_INFINITY
  /** No attempt to bring an edge to memory before. */
  #drainMs = Number.NEGATIVE_INFINITY

  constructor(options: EpochRunnerOptions) {
    const { assembly, log, settings, environment } = options
    this.#options = options
    this.#punctuatedMs = environment.clock()
    const { clock } = environment
    this.#collector = new Collector({ assembly, log, settings, clock })
    this.#trim = new ExchangeTrim({ log, clock, intervalMs: settings.trimIntervalMs })
  }

  /** Nothing can be run now, as records wait to be tried again. */
  get isHeld(): boolean {
    const { heldMs } = this.#options
    return heldMs() > 0 || (!this.#collector.hasReady && this.#collector.heldMs > 0)
  }

  get #heldMs(): number {
    return Math.max(this.#collector.heldMs, this.#options.heldMs())
  }

  get atEnd(): boolean {
    return this.#collector.atEnd
  }

  /** Waits until something was fetched; fetching goes on beside the epochs. */
  async fetch(signal: AbortSignal): Promise<void> {
    this.#signal = signal
    if (!this.#collector.hasReady && this.#options.assembly.closing.size === 0) {
      this.#fetchAhead()
      await this.#finishFetch()
    }
    this.#fetchAhead()
  }

  /** Begins the next fetch once the last one has ended. */
  #fetchAhead(): void {
    if (this.#fetching !== undefined || !this.#collector.hasRoom) return
    const fetching = this.#collector.fetch(this.#fetchWaitMs, this.#signal)
    this.#fetching = fetching
    // A failure is kept, to be seen when it is awaited.
    const ended = () => {
      if (this.#fetching === fetching) this.#fetching = undefined
    }
    fetching.then(ended, () => {})
  }

  get #fetchWaitMs(): number {
    const { assembly, environment } = this.#options
    const untilTellMs = assembly.router.tellAtMs - environment.clock()
    const heldMs = this.#heldMs || FETCH_WAIT_MS
    return Math.min(FETCH_WAIT_MS, heldMs, Math.max(untilTellMs, 1))
  }

  /** Fetches what is there, without waiting for more. */
  async fetchNow(): Promise<void> {
    await this.#finishFetch()
    await this.#collector.fetch(0)
  }

  async #finishFetch(): Promise<void> {
    const fetching = this.#fetching
    this.#fetching = undefined
    await fetching
  }

  /** When the next epoch may be sealed: transactions have a price on a real log. */
  pauseMs(nowMs: number): number {
    const { settings, heldMs } = this.#options
    const untilMs = this.#sealedMs + settings.epochMsMin
    const isStuck = this.isHeld && !this.#collector.hasRoom
    return Math.max(0, untilMs - nowMs, heldMs(), isStuck ? this.#heldMs : 0)
  }

  /**
   * Runs one epoch over what is buffered. Its commit goes on in the background; the one before
   * has been committed and published when this seals. False when there was nothing to commit, or
   * none may begin.
   */
  async epoch(scope?: Scope): Promise<boolean> {
    const { assembly, environment, log, publisher, mayBegin, heldMs } = this.#options
    const { clock } = environment
    if (!mayBegin() || heldMs() > 0) return false
    const startedMs = clock()
    const member = this.#options.member()
    let changed = false
    if (scope === undefined) {
      changed = assembly.router.tellAtMs <= startedMs
      changed = this.#collector.updateIdleness() || changed
      changed = this.#collector.hasSkipped || changed
      changed = this.#punctuate(startedMs) || changed
    }
    if (this.#collector.hasRecords) {
      environment.reached?.('polled')
      // Several engines may have been woken at the same time.
      await environment.yieldNow()
    }
    changed = (await this.#rounds(startedMs, changed, scope)) || changed
    if (!changed) {
      await this.settle()
      return false
    }
    environment.reached?.('run')
    await this.settle()
    await environment.yieldNow()
    // It may have run out while the epoch ran.
    this.#options.member()
    const through = assembly.tasks.every(task => task.isThrough)
    assert(through, 'an epoch commits no input whose records still wait in a task')
    const trimPoints = this.#trim.points(assembly.inputs)
    const sealed = sealEpoch({ assembly, log, wallTimeMs: clock(), member })
    this.#sealedMs = startedMs
    const onCommitted = this.#options.onSeal()
    const onTraced = assembly.spans?.seal()
    this.#inFlight = sealed.commit().then(async () => {
      environment.reached?.('log-committed')
      onCommitted()
      onTraced?.()
      if (trimPoints !== undefined) this.#trim.trim(trimPoints)
      await publisher.publish(sealed, () => {
        applyEpoch(assembly.stores)
        environment.reached?.('store-applied')
      })
      environment.reached?.('published')
    })
    this.#inFlight.catch(() => {})
    return true
  }

  /** Rounds of collecting and running until the epoch is full or there is nothing more. */
  async #rounds(startedMs: number, changed: boolean, scope?: Scope): Promise<boolean> {
    const { assembly, environment, settings } = this.#options
    const { clock } = environment
    const recordsMax = this.#recordsRead() + settings.epochRecordsMax
    let yieldedMs = startedMs
    const { tasks, inputs } = scope ?? assembly
    let any = changed
    for (let round = 0; ; round++) {
      // A large close goes on before its branch reads more, one step an epoch (law 13).
      const closing = closingBranches(tasks)
      const collected = this.#collector.collect(
        closing.size === 0 ? inputs : inputs.filter(({ branch }) => !closing.has(branch)),
      )
      any ||= collected || closing.size > 0
      if (!collected && (round > 0 || !any)) return any
      for (const task of tasks) {
        if (round > 0 && closing.has(task.subTopology.branch)) continue
        await task.run()
        if (clock() - yieldedMs >= WORK_MS_MAX) {
          await environment.yieldNow()
          if (this.#signal !== undefined) this.#fetchAhead()
          yieldedMs = clock()
        }
      }
      const full = this.#recordsRead() >= recordsMax
      if (full || clock() - startedMs >= settings.epochMsMax) return any
    }
  }

  /** Resolves when the last epoch is committed and published; rejects when it failed. */
  async settle(): Promise<void> {
    const inFlight = this.#inFlight
    await inFlight
    if (this.#inFlight === inFlight) this.#inFlight = undefined
  }

  /** Ends what runs in the background, whatever comes of it; true when no commit has failed. */
  async abandon(): Promise<boolean> {
    await this.#finishFetch().catch(() => {})
    const committing = this.#inFlight ?? Promise.resolve()
    this.#inFlight = undefined
    return committing.then(
      () => true,
      () => false,
    )
  }

  #recordsRead(): number {
    let records = 0
    for (const input of this.#options.assembly.inputs) records += input.recordsRead
    return records
  }

  #punctuate(nowMs: number): boolean {
    const { assembly, settings } = this.#options
    if (nowMs - this.#punctuatedMs < settings.wallClockIntervalMs) return false
    this.#punctuatedMs = nowMs
    const tasks = assembly.tasks.filter(task => task.hasWallClock)
    for (const task of tasks) task.punctuate(nowMs)
    return tasks.length > 0
  }

  /**
   * Brings edges with both ends here to memory: input stands still while the little that their
   * topics hold is processed. Upstream exchanges go first, as their targets feed the others.
   * True when an edge went over.
   */
  async drainExchanges(): Promise<boolean> {
    let drained = false
    const { clock } = this.#options.environment
    if (clock() < this.#drainMs) return false
    /** Branches that are far behind: what is below waits for what is above. */
    const far = new Set<number | undefined>()
    for (const { node, targets } of this.#options.assembly.router.undrained()) {
      if (far.has(node.branch)) continue
      const inputs = this.#targetInputs(node, targets)
      const near = inputs.every(
        ({ position, endOffset }) => endOffset - position <= DRAIN_RECORDS_MAX,
      )
      if (!near) {
        far.add(node.branch)
        continue
      }
      if (!(await this.#drain(node, inputs))) {
        this.#drainMs = clock() + DRAIN_AGAIN_MS
        return drained
      }
      this.#options.assembly.router.drained(node, targets)
      drained = true
    }
    return drained
  }

  #targetInputs(node: ExchangeNode, targets: readonly number[]): InputPartition[] {
    const { application } = this.#options.assembly.options.plan.topology
    const topic = repartitionTopic(application, node.name)
    return this.#options.assembly.inputs.filter(
      input => input.topic === topic && targets.includes(input.partition),
    )
  }

  async #drain(node: ExchangeNode, inputs: readonly InputPartition[]): Promise<boolean> {
    const { assembly, environment, log, mayBegin } = this.#options
    const giveUpMs = environment.clock() + DRAIN_MS_MAX
    // All that tasks here have written is in the log, then its end is asked for.
    await this.settle()
    const ends = await log.offsets(inputs)
    // What the targets pass on in memory belongs to the same epoch. Upstream tasks stand still.
    const { plan } = assembly.options
    const below = withDownstream(plan, plan.exchanges.get(node.id)!.to)
    const tasks = assembly.tasks.filter(task => below.has(task.subTopology))
    const missing = () => inputs.some((input, i) => input.position < ends[i]!.highWatermark)
    const reached = () => inputs.reduce((sum, { position }) => sum + position, 0)
    let idleMs = environment.clock() + DRAIN_IDLE_MS
    for (let before = reached(); missing(); ) {
      const now = environment.clock()
      if (reached() > before) idleMs = now + DRAIN_IDLE_MS
      if (now >= Math.min(giveUpMs, idleMs) || !mayBegin()) return false
      before = reached()
      await this.#finishFetch()
      if (!inputs.some(input => input.hasRecords)) await this.#collector.fetch(FETCH_WAIT_MS / 4)
      await this.epoch({ inputs, tasks })
    }
    await this.settle()
    return true
  }
}

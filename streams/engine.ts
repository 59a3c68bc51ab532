/**
 * The engine: runs a topology as epochs over a log and a database (docs/ARCHITECTURE.md has
 * the lifecycle). One dataflow; while an epoch commits, the next one runs over its overlay.
 *
 *   collect → run to quiescence → seal → commit (one transaction) → apply → publish
 *
 * An epoch that fails, in a step or in the commit, is dropped whole with the one that runs over
 * it: everything is built again from committed state and the input is read again.
 */
import type { Membership } from '../log/membership.ts'
import type { GroupMember } from '../log/port.ts'
import { verifyFingerprint } from '../state/fingerprint.ts'
import type { Assembly } from './assembly.ts'
import { branchTopology } from './branches.ts'
import { defaultSettings, type EngineOptions, type EngineSettings } from './environment.ts'
import { describeCut } from './epoch.ts'
import { EpochRunner } from './epoch-runner.ts'
import { isFinal } from './errors.ts'
import { Failures } from './failures.ts'
import { checkTogether, readLineage } from './lineage.ts'
import { membershipLost } from './membership-lost.ts'
import { pause } from './pause.ts'
import { type Plan, planTopology } from './plan.ts'
import { Publisher } from './publisher.ts'
import { RetryLater } from './retries.ts'
import { stateIdentity } from './state-identity.ts'
import { TaskManager } from './task-manager.ts'
import { topicKinds } from './topic-kinds.ts'
import { TopicLimits } from './topic-limits.ts'
import { type PreparedTopics, prepareInternalTopics, prepareTopics } from './topics.ts'
import type { Topology } from './topology.ts'
import type { TaskState, TaskStatus } from './views.ts'

export type { EngineOptions } from './environment.ts'

const RETRY_MS_FIRST = 100
const RETRY_MS_MAX = 10_000
/** How long a loop with nothing to do waits to be woken. */
const WAIT_MS = 200

export class Engine {
  readonly topology: Topology
  readonly settings: EngineSettings
  readonly publisher: Publisher
  readonly failures: Failures
  readonly plan: Plan
  readonly membership: Membership | undefined
  readonly #options: EngineOptions
  readonly #topics: PreparedTopics
  readonly #stopping = new AbortController()
  readonly #limits: TopicLimits
  #manager!: TaskManager
  #runner!: EpochRunner
  #state: TaskState = 'starting'
  #detail = 'building stores and tasks'
  #running: Promise<void> | undefined
  #wake: () => void = () => {}
  /** An epoch failed and nothing was built again yet: others may have the tasks. */
  #failing = false
  epochs = 0
  /** Bytes read from changelogs to restore stores, by the names of these. */
  readonly restoredBytes = new Map<string, number>()

  private constructor(
    options: EngineOptions,
    parts: { plan: Plan; topics: PreparedTopics; membership?: Membership },
  ) {
    const { plan, topics, membership } = parts
    this.#options = options
    this.topology = options.topology
    this.settings = { ...defaultSettings, ...options.settings }
    this.plan = plan
    this.membership = membership
    this.#topics = topics
    const { database, onError } = options
    this.publisher = new Publisher({ plan, database, onError: onError ?? (() => {}) })
    const { application } = options.topology
    const { clock } = options.environment
    this.failures = new Failures({ application, clock, settings: this.settings })
    this.#limits = new TopicLimits(topicKinds(plan))
  }

  /** Validates the topology, creates its topics and restores its state. Does not process yet. */
  static async open(options: EngineOptions): Promise<Engine> {
    const settings = { ...defaultSettings, ...options.settings }
    const { log, topology, database, join } = options
    const topics = await prepareTopics({ log, topology, settings })
    const lineage = await readLineage({ log, topology, newState: settings.newState })
    const plan = planTopology(branchTopology(topology, lineage), topics.topicPartitions)
    await checkTogether(log, plan)
    await verifyFingerprint(database, stateIdentity(plan))
    if (!join) await prepareInternalTopics(log, plan)
    const membership = await join?.(plan)
    const engine = new Engine(options, { plan, topics, ...(membership && { membership }) })
    membership?.onChange(() => engine.#manager?.wake())
    await engine.#assemble()
    return engine
  }

  get assembly(): Assembly {
    return this.#manager.assembly
  }

  get state(): TaskState {
    // Others may have the tasks, or it has been given more: known before the loop comes to it.
    if (this.#state === 'running' && !this.#mayServe) return 'restoring'
    return this.#state
  }

  get #mayServe(): boolean {
    const { membership } = this
    if (membership === undefined) return true
    const { alive, status } = membership
    return alive && status.state !== 'waiting' && this.#manager.complete
  }

  /** What runs here may be shown, whatever other tasks of this instance do. */
  get answers(): boolean {
    const { state } = this
    if (state === 'running' || state === 'draining') return true
    return state === 'restoring' && this.membership !== undefined && !this.#failing
  }

  /** A sentence about `state`. */
  get detail(): string {
    return this.#detail
  }

  /** `keepsCut`: what is committed has been published already, and is shown meanwhile. */
  async #assemble({ keepsCut = false } = {}): Promise<void> {
    const { log, database, environment } = this.#options
    if (!keepsCut) this.#state = 'restoring'
    const manager = new TaskManager({
      plan: this.plan,
      log,
      database,
      environment,
      settings: this.settings,
      membership: this.membership,
      ...this.#topics,
      limits: this.#limits,
      restoredBytes: this.restoredBytes,
      ...this.failures.handlers(() => manager.assembly),
      onDue: () => this.#wake(),
      onRefused: error => this.#options.onError?.(error),
    })
    this.#manager = manager
    this.failures.rewind()
    if (this.membership === undefined) {
      await manager.takeAll(detail => void (this.#detail = detail))
    }
    this.#runner = new EpochRunner({
      assembly: manager.assembly,
      log,
      settings: this.settings,
      environment,
      publisher: this.publisher,
      mayBegin: () => !this.membership?.settling && !this.#manager.due,
      member: () => this.#member(),
      heldMs: () => this.failures.retries.allHeldMs,
      onSeal: () => {
        this.epochs++
        return this.failures.seal()
      },
    })
    this.#failing = false
    // Who follows a view reads it as soon as it begins anew.
    this.#showState()
    const cut = describeCut(manager.assembly, log)
    this.publisher.begin(manager.assembly, cut, { keepsCut })
  }

  /** What the instance is to its group as an epoch begins (law 2). */
  #member(): GroupMember | undefined {
    const { membership } = this
    if (membership === undefined) return undefined
    if (!membership.alive) throw membershipLost(membership)
    return { id: membership.memberId, epoch: membership.epoch }
  }

  #showState(): void {
    if (this.#mayServe) {
      this.#state = 'running'
      const isIdle = this.membership !== undefined && this.assembly.tasks.length === 0
      this.#detail = isIdle ? this.membership!.status.detail : 'processing'
      return
    }
    this.#state = 'restoring'
    const opening = this.#manager.statuses().find(({ state }) => state === 'restoring')
    this.#detail = opening?.detail ?? this.membership!.status.detail
  }

  tasks(): TaskStatus[] {
    const { state } = this
    const isLive = state === 'running' || (this.membership !== undefined && state === 'restoring')
    const statuses = isLive ? this.#manager.statuses() : []
    if (statuses.length > 0) return statuses
    const { assembly } = this
    if (assembly.tasks.length === 0) return [{ task: 'instance', state, detail: this.#detail }]
    return assembly.tasks.map(({ name }) => ({ task: name, state, detail: this.#detail }))
  }

  /** Processes until `stop`. Resolves when stopped, rejects when the engine gave up. */
  run(): Promise<void> {
    this.#running ??= this.#loop()
    return this.#running
  }

  async #loop(): Promise<void> {
    const { signal } = this.#stopping
    let retryMs = RETRY_MS_FIRST
    while (!signal.aborted) {
      try {
        if (await this.#follow()) {
          await this.#pause(this.#runner.pauseMs(this.#options.environment.clock()))
          await this.#runner.fetch(signal)
          await this.#runner.epoch()
          await this.#runner.drainExchanges()
        } else {
          await this.#pause(WAIT_MS)
        }
        retryMs = RETRY_MS_FIRST
      } catch (error) {
        retryMs = await this.#recover(retryMs, error)
      }
    }
    await this.#finish()
  }

  /** Ends the last epoch. If it fails nothing is lost: its input is read again. */
  async #finish(): Promise<void> {
    await this.settle().catch(error => this.#options.onError?.(error))
    await this.#runner.abandon()
    await this.#manager.close()
  }

  /** Does what the group says. False when there is nothing to run, or not now. */
  async #follow(): Promise<boolean> {
    const { membership } = this
    if (membership === undefined) return true
    if (membership.status.state === 'failed') throw membership.status.error
    if (!membership.alive && membership.target !== undefined) {
      // Others may have its tasks: what runs is dropped, once, and nothing begins until it is back.
      if (this.assembly.tasks.length > 0) throw membershipLost(membership)
      if (membership.settling) membership.settled()
      this.#showState()
      return false
    }
    if (membership.settling) {
      await this.#runner.settle()
      membership.settled()
      return false
    }
    if (this.#manager.due) {
      await this.#runner.settle()
      const changed = await this.#manager.reconcile()
      if (changed) {
        const { assembly } = this.#manager
        this.publisher.begin(assembly, describeCut(assembly, this.#options.log))
      }
    }
    this.#showState()
    return this.assembly.tasks.length > 0
  }

  /**
   * Drops everything not committed and builds again from committed state, waiting longer after
   * each failure. An error that the catalogue says to stop at is thrown, and so is a bug of ours.
   */
  async #recover(firstDelayMs: number, failure: unknown): Promise<number> {
    if (failure instanceof RetryLater) return this.#rewind(firstDelayMs)
    const { onError } = this.#options
    let error = this.#limits.judge(failure)
    let delayMs = firstDelayMs
    this.#failing = true
    await this.#runner.abandon()
    // The group may have refused the epoch: others may have the tasks already.
    this.membership?.confirm()
    while (!this.#stopping.signal.aborted) {
      onError?.(error)
      const gaveUp = isFinal(error)
      this.#state = gaveUp ? 'failed' : 'restoring'
      this.#detail = `an epoch failed: ${error instanceof Error ? error.message : error}`
      if (gaveUp) throw error
      await this.#pause(delayMs)
      if (this.#stopping.signal.aborted) break
      delayMs = Math.min(delayMs * 2, RETRY_MS_MAX)
      try {
        await this.#manager.close()
        await this.#assemble()
        break
      } catch (again) {
        error = again
      }
    }
    return delayMs
  }

  /** Drops the epoch of a record that is to be tried again. */
  async #rewind(delayMs: number): Promise<number> {
    const keepsCut = (await this.#runner.abandon()) && this.membership === undefined
    try {
      await this.#manager.close()
      await this.#assemble({ keepsCut })
      return delayMs
    } catch (error) {
      return this.#recover(delayMs, error)
    }
  }

  /** Waits, but not for a stop, nor when the tasks change. */
  async #pause(delayMs: number): Promise<void> {
    const { schedule } = this.#options.environment
    await pause(schedule, delayMs, this.#stopping.signal, wake => {
      this.#wake = wake
    })
  }

  /**
   * Runs one epoch over what is buffered. Its commit goes on in the background; the one before
   * has been committed and published when this seals. False when there was nothing to commit.
   */
  epoch(): Promise<boolean> {
    return this.#runner.epoch()
  }

  /** Resolves when the last epoch is committed and published; rejects when it failed. */
  settle(): Promise<void> {
    return this.#runner.settle()
  }

  /**
   * Fetches and runs until all that the log holds is processed, committed and published, but for
   * records that wait to be tried again, and what stands behind them.
   */
  async drain(): Promise<void> {
    for (;;) {
      const changed = await this.step()
      if (!changed && (this.#runner.atEnd || this.#runner.isHeld)) break
    }
    await this.settle()
  }

  /** Fetches what is there and runs one epoch over it. False when there was nothing to commit. */
  async step(): Promise<boolean> {
    if (!(await this.#follow())) return false
    try {
      await this.#runner.fetchNow()
      const changed = await this.epoch()
      return (await this.#runner.drainExchanges()) || changed
    } catch (error) {
      if (!(error instanceof RetryLater)) throw error
      await this.#rewind(RETRY_MS_FIRST)
      return true
    }
  }

  /**
   * One turn of the loop, for a caller that drives it: as `step`, but a failed epoch is dropped
   * and everything built again, as `run` does it.
   */
  async turn(): Promise<boolean> {
    try {
      return await this.step()
    } catch (error) {
      await this.#recover(RETRY_MS_FIRST, error)
      return true
    }
  }

  /** Everything that the log held when it was last asked has been processed. */
  get atEnd(): boolean {
    return this.#runner.atEnd
  }

  /**
   * Finishes the epoch that runs, commits it and stops. Idempotent. The group keeps this
   * instance's tasks for its return, until its session ends; with `leave`, or once the group was
   * asked to shut down, others get them at once.
   */
  async stop({ leave = false }: { leave?: boolean } = {}): Promise<void> {
    this.#state = 'draining'
    this.#detail = 'finishing the last epoch'
    this.#stopping.abort()
    try {
      await this.#running
      await this.#finish()
    } finally {
      // What is left is no longer answered for (law 15).
      this.#state = 'stopped'
      this.#detail = 'stopped'
      // A group that was asked to shut down does so until it has been empty.
      const givesUp = leave || this.membership?.status.shutdownRequested
      await this.membership?.leave(givesUp ? 'give-up' : 'remain')
      this.publisher.close()
    }
  }
}

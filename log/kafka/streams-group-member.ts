/**
 * A member of a streams group: heartbeats, and what follows from their replies. It knows nothing
 * of sockets: `send` carries a heartbeat to the group's coordinator.
 *
 *               good reply                    lost reply: settling
 *   joining ───────▶ waiting ⇄ idle ⇄ stable ──────────────────────▶ unreachable
 *      ▲                        ▲                                        │ settled, or
 *      │ own(noTasks)           └── nobody else can have had its tasks ──┤ an interval passed:
 *      │                                                                 │ joins anew
 *   fenced ◀── removed, or somebody can have ────────────────────────────┘
 *
 * - The coordinator sends an assignment once, whole. A reply without one changes nothing.
 * - An assignment with less is a revocation: nobody else gets the tasks before a heartbeat
 *   names owned tasks without them. One with more takes effect at once.
 * - A heartbeat whose reply is lost may have carried an assignment that nobody repeats. Joining
 *   again (epoch 0, same id) brings it whole. But it says "I own nothing", so tasks that were
 *   being revoked move at once. When the first join after the lost heartbeat is answered, what
 *   its assignment lists has been this member's all the time. A lost join can hide that a task
 *   went and came back; then only the epoch of before proves that nothing moved.
 */
import type { MillraceError } from '../errors.ts'
import {
  type Assignment,
  type MemberEndpoint,
  type Membership,
  type MembershipState,
  type MembershipStatus,
  noTasks,
} from '../membership.ts'
import type { LogEnvironment } from '../port.ts'
import { Backoff, pause } from './pause.ts'
import {
  conditionOf,
  describeTasks,
  type GroupCondition,
  judge,
  noCondition,
} from './streams-group-replies.ts'
import { MemberTasks } from './streams-group-tasks.ts'
import { memberEndpoints, subTopologiesByTopic } from './streams-group-topology.ts'
import type { HeartbeatReply, HeartbeatRequest, JoinFields } from './streams-group-wire.ts'

/** Thrown by `send` when the heartbeat has certainly not reached the coordinator. */
export class NotSent extends Error {}

export interface MemberOptions {
  readonly group: string
  readonly memberId: string
  readonly environment: LogEnvironment
  readonly joining: JoinFields
  /** The group's session timeout, ms: no reply says it. */
  readonly sessionTimeoutMs: number
  /** To the coordinator, wherever it is. Rejects with `NotSent`, or when the reply is lost. */
  readonly send: (request: HeartbeatRequest) => Promise<HeartbeatReply>
}

/** Pause between heartbeats while others may be waiting for this member, or it for them. */
const RECONCILING_MS = 200
/** Until the first reply tells the group's interval; also the longest pause between tries. */
const INTERVAL_MS = 5_000
/** A stop waits no longer for the group. */
const LEAVE_MS_MAX = 5_000
const LEAVE_ATTEMPTS = 3
const LEAVE_PAUSE_MS = 100

export class StreamsGroupMember implements Membership {
  readonly memberId: string
  readonly #options: MemberOptions
  readonly #tasks = new MemberTasks()
  readonly #listeners = new Set<() => void>()
  /** What the listeners were last called for. */
  #shown: readonly unknown[] = []
  /** Between tries to reach the coordinator, and between expulsions from the group. */
  readonly #backoff: Backoff
  readonly #expulsions: Backoff
  #status: MembershipStatus
  #condition: GroupCondition = noCondition
  #endpoints: readonly MemberEndpoint[] = []
  #endpointEpoch = 0
  #epoch = 0
  #commitEpoch = 0
  /** False until a join was answered well, and after being fenced. */
  #isMember = false
  #joinNext = true
  /** Joins whose reply was lost since the last good one. */
  #joinsLost = 0
  #settling = false
  /** The next join waits for the engine to say that it has settled, or for its timer. */
  #awaitsSettled = false
  #shutdownWanted = false
  #intervalMs = INTERVAL_MS
  /** When the last heartbeat with a good reply was sent; undefined before the first. */
  #goodMs: number | undefined
  #lapsed = false
  #changedMs: number
  #inFlight: Promise<void> | undefined
  #urgent = false
  #ended = false
  #cancelBeat = () => {}
  #cancelLapse = () => {}

  constructor(options: MemberOptions) {
    const { environment, group, memberId } = options
    this.#options = options
    this.memberId = memberId
    this.#changedMs = environment.clock()
    this.#backoff = new Backoff(environment, INTERVAL_MS)
    this.#expulsions = new Backoff(environment, INTERVAL_MS)
    this.#status = {
      state: 'joining',
      detail: `Joining group ${group}.`,
      sinceMs: this.#changedMs,
      error: undefined,
      shutdownRequested: false,
    }
    this.#beatIn(0)
  }

  /**
   * Stays behind the group's while the engine holds tasks that a rejoin took away: so offsets of
   * these are refused, whatever the engine's transaction holds, and those of the others are not.
   */
  get epoch(): number {
    return this.#commitEpoch
  }

  get target(): Assignment | undefined {
    return this.#tasks.target
  }

  get status(): MembershipStatus {
    return this.#status
  }

  get settling(): boolean {
    return this.#settling
  }

  get endpoints(): readonly MemberEndpoint[] {
    return this.#endpoints
  }

  get alive(): boolean {
    if (this.#ended || this.#lapsed || this.#goodMs === undefined) return false
    const { environment, sessionTimeoutMs } = this.#options
    return environment.clock() - this.#goodMs < sessionTimeoutMs
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  own(owned: Assignment): void {
    const { dropping } = this.#tasks
    if (!this.#tasks.own(owned) || this.#ended) return
    this.#raiseCommitEpoch()
    this.#changedMs = this.#options.environment.clock()
    if (dropping && this.#isMember) this.#describe()
    else if (dropping) {
      this.#enter('joining', `Joining group ${this.#options.group} again.`)
      this.#beatIn(this.#expulsions.nextMs())
    } else if (this.#tasks.isReportDue) this.#beatSoon()
    this.#notify()
  }

  settled(): void {
    if (!this.#awaitsSettled) return
    this.#awaitsSettled = false
    this.#beatIn(this.#backoff.nextMs())
  }

  confirm(): void {
    this.#beatSoon()
  }

  requestShutdown(): void {
    this.#shutdownWanted = true
    this.#beatSoon()
  }

  async leave(tasks: 'give-up' | 'remain' = 'give-up'): Promise<void> {
    if (this.#ended) return
    this.#end()
    const { environment, group } = this.#options
    await Promise.race([this.#finish(tasks), pause(environment, LEAVE_MS_MAX)])
    this.#tasks.drop()
    const remains = `This instance is away; its tasks in group ${group} wait for its restart.`
    this.#enter('left', tasks === 'remain' ? remains : `This instance has left group ${group}.`)
    this.#notify()
  }

  async #finish(tasks: 'give-up' | 'remain'): Promise<void> {
    await this.#inFlight
    const isKnown = this.#goodMs !== undefined || this.#joinsLost > 0
    if (isKnown && tasks === 'give-up') await this.#sayLeave()
  }

  async #sayLeave(): Promise<void> {
    const { environment, group, send } = this.#options
    for (let tries = 1; tries <= LEAVE_ATTEMPTS; tries++) {
      const leaving = { ...this.#request(), memberEpoch: -1, joining: null, owned: null }
      // Nothing to be done otherwise: the session timeout removes who cannot say goodbye.
      const reply = await send(leaving).catch(() => undefined)
      if (reply !== undefined && judge(group, reply, false).kind !== 'unknown') return
      if (tries < LEAVE_ATTEMPTS) await pause(environment, LEAVE_PAUSE_MS)
    }
  }

  #request(): HeartbeatRequest {
    const { group, memberId, joining } = this.#options
    const join = this.#joinNext
    return {
      group,
      memberId,
      memberEpoch: join ? 0 : this.#epoch,
      endpointEpoch: join ? 0 : this.#endpointEpoch,
      joining: join ? joining : null,
      owned: join ? noTasks : this.#tasks.report,
      shutdown: this.#shutdownWanted,
    }
  }

  #beatIn(delayMs: number): void {
    this.#cancelBeat()
    if (this.#ended) return
    this.#cancelBeat = this.#options.environment.schedule(() => this.#beat(), delayMs)
  }

  /** At once, unless there is a reason to wait: then the next heartbeat says it. */
  #beatSoon(): void {
    if (this.#inFlight !== undefined) this.#urgent = true
    else if (!this.#joinNext) this.#beatIn(0)
  }

  #beat(): void {
    this.#urgent = this.#awaitsSettled = false
    this.#inFlight = this.#exchange()
  }

  async #exchange(): Promise<void> {
    const request = this.#request()
    const sentMs = this.#options.environment.clock()
    const answer = await this.#options.send(request).catch((error: Error) => error)
    this.#inFlight = undefined
    if (this.#status.state === 'left') return
    const delayMs = this.#heard(request, answer, sentMs)
    if (delayMs !== undefined) this.#beatIn(this.#urgent && !this.#joinNext ? 0 : delayMs)
    this.#notify()
  }

  /** The pause before the next heartbeat; undefined when the engine starts it. */
  #heard(
    request: HeartbeatRequest,
    answer: HeartbeatReply | Error,
    sentMs: number,
  ): number | undefined {
    const joined = request.joining !== null
    if (answer instanceof NotSent) return this.#notSent(answer.message)
    if (answer instanceof Error) return this.#lost(answer.message, joined)
    const verdict = judge(this.#options.group, answer, joined)
    if (verdict.kind === 'unknown') return this.#lost(verdict.reason, joined)
    if (verdict.kind === 'fenced') return this.#fenced(verdict.reason)
    if (verdict.kind === 'refused') return this.#failed(verdict.error)
    return this.#good(request, answer, sentMs)
  }

  #good(request: HeartbeatRequest, reply: HeartbeatReply, sentMs: number): number {
    const joined = request.joining !== null
    if (joined && !this.#wasUninterrupted(reply.memberEpoch)) {
      this.#drop(`It joined again at epoch ${reply.memberEpoch}.`)
    }
    if (joined || reply.memberEpoch !== this.#epoch || reply.assignment) this.#changedMs = sentMs
    this.#epoch = reply.memberEpoch
    this.#isMember = true
    this.#joinNext = this.#settling = false
    this.#joinsLost = 0
    this.#backoff.reset()
    this.#extendSession(sentMs)
    this.#intervalMs = reply.heartbeatIntervalMs
    if (request.shutdown) this.#shutdownWanted = false
    if (request.owned !== null) this.#tasks.reported(request.owned)
    const assignment = reply.assignment ?? (joined ? noTasks : null)
    if (assignment !== null) this.#tasks.assign(assignment)
    this.#raiseCommitEpoch()
    if (reply.endpoints !== null) {
      const byTopic = subTopologiesByTopic(this.#options.joining.subTopologies)
      this.#endpoints = memberEndpoints(reply.endpoints, byTopic)
      this.#endpointEpoch = reply.endpointEpoch
    }
    this.#condition = conditionOf(this.#options.group, reply.statuses)
    this.#describe()
    if (this.#tasks.isReportDue) return 0
    const calmMs = this.#options.environment.clock() - this.#changedMs
    if (calmMs < 2 * this.#intervalMs) return RECONCILING_MS
    this.#expulsions.reset()
    return this.#intervalMs
  }

  #raiseCommitEpoch(): void {
    if (!this.#tasks.isLeaving) this.#commitEpoch = this.#epoch
  }

  /** What a join's assignment lists was never another's: see the head of the file. */
  #wasUninterrupted(memberEpoch: number): boolean {
    if (this.#goodMs === undefined) return true
    const { environment, sessionTimeoutMs, joining } = this.#options
    const removalMs = Math.min(sessionTimeoutMs, joining.rebalanceTimeoutMs)
    if (this.#lapsed || environment.clock() - this.#goodMs >= removalMs) return false
    return this.#joinsLost === 0 || memberEpoch === this.#epoch
  }

  #extendSession(sentMs: number): void {
    const { environment, sessionTimeoutMs } = this.#options
    this.#goodMs = sentMs
    this.#lapsed = false
    this.#cancelLapse()
    if (this.#ended) return
    const leftMs = sessionTimeoutMs - (environment.clock() - sentMs)
    this.#cancelLapse = environment.schedule(() => this.#lapse(), Math.max(leftMs, 0))
  }

  #lapse(): void {
    this.#lapsed = true
    const { sessionTimeoutMs } = this.#options
    this.#enter('unreachable', `No good answer for the session timeout, ${sessionTimeoutMs} ms.`)
    this.#notify()
  }

  #notSent(reason: string): number {
    const state = this.#isMember ? 'unreachable' : 'joining'
    this.#enter(state, `The group's coordinator cannot be reached: ${reason}`)
    return this.#backoff.nextMs()
  }

  #lost(reason: string, joined: boolean): number {
    this.#joinNext = true
    if (joined) this.#joinsLost++
    const state = this.#isMember ? 'unreachable' : 'joining'
    this.#enter(state, `The answer to a heartbeat was lost: ${reason}`)
    if (this.#settling || this.#tasks.isIdle) return this.#backoff.nextMs()
    this.#settling = this.#awaitsSettled = true
    return this.#intervalMs
  }

  #fenced(reason: string): number | undefined {
    this.#drop(reason)
    this.#isMember = false
    this.#joinNext = true
    return this.#tasks.dropping ? undefined : this.#expulsions.nextMs()
  }

  #drop(reason: string): void {
    this.#settling = this.#awaitsSettled = false
    this.#tasks.drop()
    this.#enter('fenced', `The group may have given its tasks to others. ${reason}`)
  }

  #failed(error: MillraceError): undefined {
    this.#end()
    this.#tasks.drop()
    this.#enter('failed', error.message, error)
  }

  #end(): void {
    this.#ended = true
    this.#settling = this.#awaitsSettled = false
    this.#cancelBeat()
    this.#cancelLapse()
  }

  /** State and sentence of a member in good standing. */
  #describe(): void {
    if (this.#tasks.dropping) return
    const { state, detail } = describeTasks(this.#tasks.target ?? noTasks, this.#condition)
    this.#enter(state, detail, this.#condition.error)
  }

  #enter(state: MembershipState, detail: string, error?: MillraceError): void {
    const before = this.#status
    const { shutdownRequested } = this.#condition
    const same =
      state === before.state &&
      detail === before.detail &&
      error?.message === before.error?.message &&
      shutdownRequested === before.shutdownRequested
    if (same) return
    const sinceMs = state === before.state ? before.sinceMs : this.#options.environment.clock()
    this.#status = { state, detail, sinceMs, error, shutdownRequested }
  }

  #notify(): void {
    const shown = [this.target, this.#status, this.#settling, this.alive, this.#endpoints]
    if (shown.every((value, i) => value === this.#shown[i])) return
    this.#shown = shown
    for (const listener of [...this.#listeners]) listener()
  }
}

/**
 * A group coordinator as a model: reconciliation, fencing and timeouts of Kafka 4.3's streams
 * groups as they were seen from outside and read in `CurrentAssignmentBuilder`, for sub-topology
 * `s` alone. The log's offsets are one version a task, raised by each accepted commit.
 */

import { ErrorCode } from '../../../log/kafka/error-codes.ts'
import type { HeartbeatReply, HeartbeatRequest } from '../../../log/kafka/streams-group-wire.ts'
import type { Assignment, TaskIds } from '../../../log/membership.ts'
import type { SimulatedTime } from './time.ts'

type State = 'stable' | 'unrevoked' | 'unreleased'
type Role = 'active' | 'standby'
/** `active/3` -> the epoch at which the member got it. */
type Held = Map<string, number>

interface Member {
  readonly id: string
  epoch: number
  previousEpoch: number
  state: State
  assigned: Held
  pending: Set<string>
  sessionMs: number
  revokeMs: number
  rebalanceTimeoutMs: number
}

export interface CoordinatorOptions {
  readonly time: SimulatedTime
  readonly partitions: number
  readonly standbys: number
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
}

const SUB_TOPOLOGY = 's'

function keysOf(assignment: Assignment): Set<string> {
  const keys = (role: Role) => (assignment[role][SUB_TOPOLOGY] ?? []).map(p => `${role}/${p}`)
  return new Set([...keys('active'), ...keys('standby')])
}

function assignmentOf(names: Iterable<string>): Assignment {
  const keys = [...names]
  const of = (role: Role): TaskIds => {
    const partitions = keys
      .filter(key => key.startsWith(`${role}/`))
      .map(key => Number(key.slice(role.length + 1)))
      .sort((a, b) => a - b)
    return partitions.length === 0 ? {} : { [SUB_TOPOLOGY]: partitions }
  }
  return { active: of('active'), standby: of('standby'), warmup: {} }
}

export class SimulatedCoordinator {
  readonly versions: number[]
  readonly #options: CoordinatorOptions
  readonly #members = new Map<string, Member>()
  #target = new Map<string, Set<string>>()
  #groupEpoch = 0

  constructor(options: CoordinatorOptions) {
    this.#options = options
    this.versions = Array.from({ length: options.partitions }, () => 0)
  }

  get memberIds(): string[] {
    return [...this.#members.keys()]
  }

  targetOf(memberId: string): Assignment {
    return assignmentOf(this.#target.get(memberId) ?? [])
  }

  heartbeat(request: HeartbeatRequest): HeartbeatReply {
    this.#expire()
    const { memberId, memberEpoch, joining } = request
    if (memberEpoch === -1) return this.#leave(memberId)
    const member = joining === null ? this.#members.get(memberId) : this.#joined(request)
    if (member === undefined) return this.#reply(ErrorCode.UNKNOWN_MEMBER_ID)
    const owned = request.owned && keysOf(request.owned)
    if (joining === null && this.#isFenced(member, memberEpoch, owned)) {
      return this.#reply(ErrorCode.FENCED_MEMBER_EPOCH)
    }
    const before = JSON.stringify(assignmentOf(member.assigned.keys()))
    this.#reconcile(member, owned)
    member.sessionMs = this.#options.time.nowMs + this.#options.sessionTimeoutMs
    const assignment = assignmentOf(member.assigned.keys())
    const changed = joining !== null || JSON.stringify(assignment) !== before
    return { ...this.#reply(0), memberEpoch: member.epoch, assignment: changed ? assignment : null }
  }

  /** TxnOffsetCommit and EndTxn in one; true when accepted. Only the epoch is checked. */
  commit(memberId: string, epoch: number, partitions: readonly number[]): boolean {
    this.#expire()
    const member = this.#members.get(memberId)
    if (member === undefined || epoch > member.epoch) return false
    const isOld = epoch < member.epoch
    const kept = (partition: number) =>
      (member.assigned.get(`active/${partition}`) ?? Number.POSITIVE_INFINITY) <= epoch
    if (isOld && !partitions.every(kept)) return false
    for (const partition of partitions) this.versions[partition]!++
    return true
  }

  /** A new target at random, as after a change of settings or topics. */
  shuffle(): void {
    this.#retarget(true)
  }

  #reply(error: number): HeartbeatReply {
    return {
      error,
      message: null,
      memberEpoch: 0,
      heartbeatIntervalMs: this.#options.heartbeatIntervalMs,
      statuses: [],
      assignment: null,
      endpointEpoch: 0,
      endpoints: null,
    }
  }

  #joined(request: HeartbeatRequest): Member {
    const known = this.#members.get(request.memberId)
    if (known !== undefined) return known
    const member: Member = {
      id: request.memberId,
      epoch: 0,
      previousEpoch: 0,
      state: 'stable',
      assigned: new Map(),
      pending: new Set(),
      sessionMs: Number.POSITIVE_INFINITY,
      revokeMs: Number.POSITIVE_INFINITY,
      rebalanceTimeoutMs: request.joining!.rebalanceTimeoutMs,
    }
    this.#members.set(member.id, member)
    this.#retarget(false)
    return member
  }

  #leave(memberId: string): HeartbeatReply {
    const known = this.#members.delete(memberId)
    if (known) this.#retarget(false)
    const reply = this.#reply(known ? 0 : ErrorCode.UNKNOWN_MEMBER_ID)
    return { ...reply, memberEpoch: known ? -1 : 0 }
  }

  #expire(): void {
    const { nowMs } = this.#options.time
    const gone = [...this.#members.values()].filter(
      member => member.sessionMs <= nowMs || member.revokeMs <= nowMs,
    )
    for (const member of gone) this.#members.delete(member.id)
    if (gone.length > 0) this.#retarget(false)
  }

  #isFenced(member: Member, epoch: number, owned: Set<string> | null): boolean {
    if (epoch === member.epoch) return false
    if (epoch > member.epoch || epoch !== member.previousEpoch || owned === null) return true
    return ![...owned].every(key => member.assigned.has(key))
  }

  /** Sticky and even; at random when asked to. */
  #retarget(random: boolean): void {
    this.#groupEpoch++
    const { time, partitions, standbys } = this.#options
    const ids = [...this.#members.keys()].sort()
    const target = new Map(ids.map(id => [id, new Set<string>()]))
    const loads = (role: Role, id: string) =>
      [...target.get(id)!].filter(key => key.startsWith(role)).length
    const place = (role: Role, partition: number, mostEach: number) => {
      const key = `${role}/${partition}`
      const free = ids.filter(
        id => loads(role, id) < mostEach && !target.get(id)!.has(`active/${partition}`),
      )
      const before = free.find(id => this.#target.get(id)?.has(key))
      const spare = free.sort((a, b) => loads(role, a) - loads(role, b))[0]
      const id = random ? free[Math.floor(time.random() * free.length)] : (before ?? spare)
      if (id !== undefined) target.get(id)!.add(key)
    }
    const mostEach = Math.ceil(partitions / Math.max(ids.length, 1))
    for (let p = 0; p < partitions; p++) place('active', p, mostEach)
    if (standbys > 0) for (let p = 0; p < partitions; p++) place('standby', p, partitions)
    this.#target = target
  }

  #reconcile(member: Member, owned: Set<string> | null): void {
    if (member.state === 'stable' && member.epoch === this.#groupEpoch) return
    if (member.state === 'unrevoked') {
      if (owned === null || [...owned].some(key => member.pending.has(key))) return
      this.#advance(member, member.epoch + 1, owned)
    } else this.#advance(member, member.epoch, owned)
  }

  #advance(member: Member, epoch: number, owned: Set<string> | null): void {
    const target = this.#target.get(member.id) ?? new Set()
    const kept = [...member.assigned].filter(([key]) => target.has(key))
    const pending = [...member.assigned.keys()].filter(key => !target.has(key))
    const wanted = [...target].filter(key => !member.assigned.has(key))
    const added = wanted.filter(key => this.#isFree(member, key))
    const revoking = pending.length > 0 && (owned === null || pending.some(key => owned.has(key)))
    const before = member.epoch
    member.assigned = new Map(kept)
    if (revoking) {
      if (member.state !== 'unrevoked' || epoch !== before) {
        member.revokeMs = this.#options.time.nowMs + member.rebalanceTimeoutMs
      }
      member.state = 'unrevoked'
      member.pending = new Set(pending)
      member.epoch = epoch
    } else {
      member.state = added.length < wanted.length ? 'unreleased' : 'stable'
      member.pending = new Set()
      member.revokeMs = Number.POSITIVE_INFINITY
      member.epoch = this.#groupEpoch
      for (const key of added) member.assigned.set(key, this.#groupEpoch)
    }
    if (member.epoch !== before) member.previousEpoch = before
  }

  /** As the group saw it before this heartbeat: not held, and not in another role here. */
  #isFree(member: Member, key: string): boolean {
    const partition = key.slice(key.indexOf('/') + 1)
    const holds = (one: Member, role: Role) =>
      one.assigned.has(`${role}/${partition}`) || one.pending.has(`${role}/${partition}`)
    if (holds(member, 'active') || holds(member, 'standby')) return false
    if (key.startsWith('standby/')) return true
    return ![...this.#members.values()].some(one => holds(one, 'active'))
  }
}

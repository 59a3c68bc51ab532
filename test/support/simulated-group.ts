/**
 * A group coordinator in memory with the rules of a streams group as they were measured: nobody
 * gets a task before its owner gave it up, commits at an older epoch are refused once one of
 * their tasks has moved, a member that was removed is told at its next heartbeat.
 */
import {
  type Assignment,
  type Membership,
  type MembershipStatus,
  noTasks,
  type TaskIds,
} from '../../log/membership.ts'
import type { CommitRequest } from '../../log/port.ts'
import type { Plan } from '../../streams/plan.ts'
import { type TaskId, taskName, topicsRead } from '../../streams/task-parts.ts'
import type { Random } from './random.ts'

export class SimulatedGroup {
  readonly #random: Random
  readonly #standbys: number
  readonly #members = new Map<string, SimulatedMember>()
  #tasks: TaskId[] = []
  #plan: Plan | undefined
  /** Where the tasks shall be, by member id. */
  #wanted = new Map<string, Set<string>>()
  epoch = 0
  /** Times at which a task had two owners; must stay 0. */
  conflicts = 0
  moves = 0

  constructor(random: Random, standbys = 0) {
    this.#random = random
    this.#standbys = standbys
  }

  join(id: string, plan: Plan): SimulatedMember {
    this.#plan ??= plan
    this.#tasks = plan.subTopologies.flatMap(subTopology =>
      Array.from({ length: subTopology.partitions }, (_, partition) => ({
        subTopology,
        partition,
      })),
    )
    // A member that is known comes back to its tasks: nothing moves.
    const member = new SimulatedMember(this, id)
    const before = this.#members.get(id)
    this.#members.set(id, member)
    if (before === undefined) this.rebalance()
    else {
      member.assigned = before.assigned
      member.owned = new Set()
      this.reconcile()
    }
    return member
  }

  /** The session of a member has timed out; it may not know. */
  expel(id: string): void {
    const member = this.#members.get(id)
    if (member === undefined) return
    member.removed = true
    this.#members.delete(id)
    this.rebalance()
  }

  /** A member that was removed has given everything up and joins anew. */
  rejoin(member: SimulatedMember): void {
    this.#members.set(member.memberId, member)
    this.rebalance()
  }

  leave(id: string): void {
    this.#members.delete(id)
    this.rebalance()
  }

  /** Spreads all tasks anew, most of them where they are. */
  rebalance(): void {
    this.epoch++
    const ids = [...this.#members.keys()]
    const wanted = new Map(ids.map(id => [id, new Set<string>()]))
    if (ids.length > 0) {
      for (const task of this.#tasks.map(taskName)) {
        const now = ids.find(id => this.#wanted.get(id)?.has(task))
        const stays = now !== undefined && this.#random.below(3) > 0
        wanted.get(stays ? now : this.#random.pick(ids))!.add(task)
        if (!stays) this.moves++
      }
    }
    this.#wanted = wanted
    this.reconcile()
  }

  /** Gives each member what it may have now: what it keeps, and what nobody else has. */
  reconcile(): void {
    for (const [id, member] of this.#members) {
      const wanted = this.#wanted.get(id)!
      const kept = [...member.owned].filter(task => wanted.has(task))
      const leaving = member.owned.size > kept.length
      const free = [...wanted].filter(
        task =>
          !member.owned.has(task) &&
          [...this.#members.values()].every(other => other === member || !other.holds(task)),
      )
      const next = new Set(leaving ? kept : [...kept, ...free])
      member.assign(next, this.#copiesFor(id, next), leaving ? member.epoch : this.epoch)
    }
    const held = new Map<string, number>()
    for (const { owned } of this.#members.values()) {
      for (const task of owned) held.set(task, (held.get(task) ?? 0) + 1)
    }
    for (const count of held.values()) if (count > 1) this.conflicts++
  }

  #copiesFor(id: string, active: ReadonlySet<string>): Set<string> {
    if (this.#standbys === 0) return new Set()
    const names = this.#tasks.map(taskName)
    const ids = [...this.#members.keys()]
    return new Set(
      names.filter((task, i) => !active.has(task) && ids[(i + this.epoch) % ids.length] === id),
    )
  }

  ids(tasks: ReadonlySet<string>): TaskIds {
    const ids: Record<string, number[]> = {}
    for (const { subTopology, partition } of this.#tasks) {
      if (!tasks.has(taskName({ subTopology, partition }))) continue
      ;(ids[subTopology.name] ??= []).push(partition)
    }
    return ids
  }

  /** Throws what a broker answers to offsets of a member that may not commit them. */
  check({ member: by, offsets = [] }: CommitRequest): void {
    if (by === undefined) return
    const member = this.#members.get(by.id)
    if (member === undefined) throw new Error('UNKNOWN_MEMBER_ID')
    if (by.epoch > this.epoch) throw new Error('ILLEGAL_GENERATION')
    if (by.epoch === member.epoch) return
    const mine = new Set(
      this.#tasks
        .filter(task => member.assigned.has(taskName(task)))
        .flatMap(task => topicsRead({ plan: this.#plan!, remote: true }, task))
        .map(({ topic, partition }) => `${topic}/${partition}`),
    )
    for (const { topic, partition } of offsets) {
      if (!mine.has(`${topic}/${partition}`)) throw new Error('ILLEGAL_GENERATION')
    }
  }
}

export class SimulatedMember implements Membership {
  readonly memberId: string
  epoch = 0
  target: Assignment | undefined
  status: MembershipStatus = {
    state: 'stable',
    detail: 'a member',
    sinceMs: 0,
    error: undefined,
    shutdownRequested: false,
  }
  settling = false
  alive = true
  readonly endpoints = []
  assigned = new Set<string>()
  owned = new Set<string>()
  /** The coordinator has dropped it; it learns so at its next heartbeat. */
  removed = false
  readonly #group: SimulatedGroup
  readonly #listeners = new Set<() => void>()
  #next: (() => void) | undefined

  constructor(group: SimulatedGroup, id: string) {
    this.#group = group
    this.memberId = id
  }

  holds(task: string): boolean {
    return this.owned.has(task) || this.assigned.has(task)
  }

  assign(active: Set<string>, copies: Set<string>, epoch: number): void {
    this.assigned = active
    const target = {
      active: this.#group.ids(active),
      standby: this.#group.ids(copies),
      warmup: {},
    }
    this.#next = () => {
      const same = JSON.stringify(this.target) === JSON.stringify(target)
      this.epoch = epoch
      if (same) return
      this.target = target
      for (const listener of this.#listeners) listener()
    }
  }

  /** The reply of a heartbeat: what was decided meanwhile is known from now on. */
  heartbeat(): void {
    if (this.removed) {
      this.target = undefined
      this.status = { ...this.status, state: 'fenced', detail: 'removed from the group' }
      for (const listener of this.#listeners) listener()
      return
    }
    const next = this.#next
    this.#next = undefined
    next?.()
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  own(owned: Assignment): void {
    if (this.removed) {
      if (owned !== noTasks) return
      this.removed = false
      this.owned = new Set()
      this.assigned = new Set()
      this.#group.rejoin(this)
      return
    }
    const names = Object.entries(owned.active).flatMap(([sub, partitions]) =>
      partitions.map(partition => `${sub}/${partition}`),
    )
    this.owned = new Set(names)
    this.#group.reconcile()
  }

  settled(): void {}
  confirm(): void {}
  requestShutdown(): void {}

  async end(): Promise<void> {}

  async leave(): Promise<void> {
    if (!this.removed) this.#group.leave(this.memberId)
  }
}

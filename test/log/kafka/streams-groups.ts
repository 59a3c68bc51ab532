/** What tests of streams groups share: a topology, and instances whose holdings are watched. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { Cluster } from '../../../log/kafka/cluster.ts'
import { joinStreamsGroup, type StreamsGroupOptions } from '../../../log/kafka/streams-group.ts'
import type { StreamsGroupMember } from '../../../log/kafka/streams-group-member.ts'
import { type DescribedGroup, streamsGroupDescribe } from '../../../log/kafka/streams-group-wire.ts'
import { type Assignment, type GroupTopology, noTasks } from '../../../log/membership.ts'
import { taskNames } from '../../../log/task-ids.ts'
import { ownName } from '../../support/kafka/shared.ts'
import { environment, openLog } from './environment.ts'

export const PARTITIONS = 4
/** As short as leaves room for a busy machine. */
export const SESSION_MS = 15_000

const compacted = { 'cleanup.policy': 'compact' }

/** Orders and payments meet, then are re-keyed. */
export function topologyOf(group: string, view = 'c2'): GroupTopology {
  const repartition = `${group}-by-customer-repartition`
  const sources = [`${group}-orders`, `${group}-payments`]
  return {
    subTopologies: [
      {
        id: 'orders.payments',
        sourceTopics: sources,
        changelogs: [{ name: `${group}-c1-changelog`, configs: compacted }],
        repartitionSinks: [repartition],
        repartitionSources: [],
        copartitionGroups: [sources],
      },
      {
        id: 'by-customer',
        sourceTopics: [],
        changelogs: [{ name: `${group}-${view}-changelog`, configs: compacted }],
        repartitionSinks: [],
        repartitionSources: [{ name: repartition, partitions: 0, configs: {} }],
        copartitionGroups: [],
      },
    ],
  }
}

/** Who holds which task, over all instances of a test. */
class Ledger {
  readonly conflicts: string[] = []
  readonly #owners = new Map<string, string>()

  set(owner: string, owned: Assignment): void {
    const names = new Set(taskNames(owned).filter(name => name.startsWith('active/')))
    for (const [name, other] of this.#owners) {
      if (other === owner && !names.has(name)) this.#owners.delete(name)
    }
    for (const name of names) {
      const other = this.#owners.get(name)
      if (other !== undefined && other !== owner) {
        this.conflicts.push(`${name}: ${owner} beside ${other}`)
      }
      this.#owners.set(name, owner)
    }
  }
}

export interface Instance {
  readonly id: string
  readonly cluster: Cluster
  readonly member: StreamsGroupMember
  /** Each state entered, in order, without repetition. */
  readonly states: string[]
  readonly owned: Assignment
}

interface JoinOptions {
  readonly bootstrap?: string
  /** Through a proxy, where heartbeats are lost on purpose; default 1 s. */
  readonly heartbeatTimeoutMs?: number
}

/** A group and its instances; each has connections of its own, as a process would. */
export class GroupUnderTest {
  readonly group = ownName('group')
  readonly ledger = new Ledger()
  readonly bootstrap: string
  #instances: Instance[] = []

  constructor(bootstrap: string) {
    this.bootstrap = bootstrap
  }

  async createTopics(partitions = PARTITIONS, names = ['orders', 'payments']): Promise<void> {
    const log = await openLog(this.bootstrap)
    for (const name of names) await log.createTopic(`${this.group}-${name}`, partitions)
    await log.close()
  }

  /** An instance that takes tasks at once and gives them up after a moment. */
  async join(
    id: string,
    options: Partial<StreamsGroupOptions> & JoinOptions = {},
  ): Promise<Instance> {
    const { heartbeatTimeoutMs = 1_000 } = options
    const patience = options.bootstrap === undefined ? {} : { heartbeatTimeoutMs }
    const bootstrap = (options.bootstrap ?? this.bootstrap).split(',')
    const cluster =
      options.cluster ?? (await Cluster.connect({ bootstrap, environment, ...patience }))
    const member = await joinStreamsGroup({
      cluster,
      group: this.group,
      memberId: id,
      processId: id,
      topology: topologyOf(this.group),
      settings: { sessionTimeoutMs: SESSION_MS, heartbeatIntervalMs: 500 },
      ...options,
    })
    const states: string[] = []
    let owned = noTasks
    const hold = (tasks: Assignment) => {
      owned = tasks
      this.ledger.set(id, tasks)
      member.own(tasks)
    }
    const instance = { id, cluster, member, states, owned: noTasks }
    Object.defineProperty(instance, 'owned', { get: () => owned })
    const follow = async () => {
      const { target, settling, status } = member
      if (states.at(-1) !== status.state) states.push(status.state)
      if (settling) member.settled()
      if (target === undefined) return hold(noTasks)
      const kept = new Set(taskNames(target))
      if (taskNames(owned).every(name => kept.has(name))) return hold(target)
      await sleep(100)
      if (member.target === target) hold(target)
    }
    member.onChange(() => void follow())
    this.#instances.push(instance)
    return instance
  }

  /** As kill -9: no word to anybody. */
  async kill(instance: Instance): Promise<void> {
    this.#instances = this.#instances.filter(other => other !== instance)
    this.ledger.set(instance.id, noTasks)
    await instance.cluster.close()
    await instance.member.leave()
  }

  async leave(instance: Instance, tasks?: 'give-up' | 'remain'): Promise<void> {
    this.#instances = this.#instances.filter(other => other !== instance)
    this.ledger.set(instance.id, noTasks)
    instance.member.own(noTasks)
    await instance.member.leave(tasks)
    await instance.cluster.close()
  }

  async end(): Promise<void> {
    for (const instance of [...this.#instances]) await this.leave(instance)
    expect(this.ledger.conflicts).toEqual([])
  }

  async describe(cluster?: Cluster): Promise<DescribedGroup> {
    const bootstrap = this.bootstrap.split(',')
    const own = cluster ?? (await Cluster.connect({ bootstrap, environment }))
    const node = await own.coordinator('group', this.group)
    const [group] = await own.call(node, 'coordinator', streamsGroupDescribe, [this.group])
    if (cluster === undefined) await own.close()
    return group!
  }

  /** Waits until each instance holds so many active tasks, and all tasks are held. */
  async settle(...counts: readonly number[]): Promise<void> {
    const look = () => this.#instances.map(instance => activeTasks(instance).length)
    await expect.poll(look, { timeout: 30_000 }).toEqual(counts)
    const calm = () => this.#instances.map(({ member }) => member.status.state)
    await expect
      .poll(calm, { timeout: 30_000 })
      .toEqual(counts.map(n => (n > 0 ? 'stable' : 'idle')))
  }
}

/** `orders.payments/3` and so on. */
export function activeTasks({ owned }: Pick<Instance, 'owned'>): string[] {
  return rolesOf(owned, 'active')
}

export function standbyTasks({ owned }: Pick<Instance, 'owned'>): string[] {
  return rolesOf(owned, 'standby')
}

function rolesOf(owned: Assignment, role: string): string[] {
  return taskNames(owned)
    .filter(name => name.startsWith(`${role}/`))
    .map(name => name.slice(role.length + 1))
    .sort()
}

/** The cluster, but for these. */
export function overriding(cluster: Cluster, methods: Readonly<Record<string, unknown>>): Cluster {
  return new Proxy(cluster, {
    get(target, name) {
      const own = typeof name === 'string' ? methods[name] : undefined
      if (own !== undefined) return own
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

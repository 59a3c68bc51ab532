/**
 * Which instance answers for which partition of a view: this one for the tasks that run here, the
 * others as the group tells. What the group tells may be old: who is asked says so.
 */
import type { MemberEndpoint } from '../log/membership.ts'
import type { Engine } from './engine.ts'
import type { LocalViews } from './local-views.ts'
import { type Peer, peerName } from './remote-views.ts'
import { taskName } from './task-parts.ts'

export type Owner =
  | { readonly kind: 'here' }
  | { readonly kind: 'peer'; readonly peer: Peer }
  /** A clause that follows "its partition n". */
  | { readonly kind: 'nobody'; readonly why: string }

export class Placement {
  readonly #engine: Engine
  readonly #local: LocalViews
  readonly #self: Peer | undefined

  constructor(engine: Engine, local: LocalViews, self: Peer | undefined) {
    this.#engine = engine
    this.#local = local
    this.#self = self
  }

  /** All partitions of a view. */
  partitions(view: string): number[] {
    return Array.from({ length: this.#local.subTopology(view).partitions }, (_, i) => i)
  }

  /** The endpoints of other instances. */
  #others(): MemberEndpoint[] {
    const self = this.#self && peerName(this.#self)
    const endpoints = this.#engine.membership?.endpoints ?? []
    return endpoints.filter(endpoint => peerName(endpoint) !== self)
  }

  /** Whom to ask; where the group names several, another at each attempt. */
  owner(view: string, partition: number, attempt: number): Owner {
    if (this.#local.partitions(view).includes(partition)) return { kind: 'here' }
    const { membership } = this.#engine
    const subTopology = this.#local.subTopology(view)
    const { name } = subTopology
    if (membership?.target?.active[name]?.includes(partition)) {
      return { kind: 'nobody', why: this.#local.state(view, partition) }
    }
    const named = this.#others().filter(({ active }) => active[name]?.includes(partition))
    if (named.length > 0) {
      const { host, port } = named[attempt % named.length]!
      return { kind: 'peer', peer: { host, port } }
    }
    if (membership === undefined) {
      return { kind: 'nobody', why: this.#local.state(view, partition) }
    }
    const task = taskName({ subTopology, partition })
    const { detail } = membership.status
    return { kind: 'nobody', why: `(task ${task}) is on no instance that can be asked. ${detail}` }
  }

  /** The other instances that have partitions of the view. */
  peers(view: string): Peer[] {
    const { name } = this.#local.subTopology(view)
    const here = this.#local.partitions(view)
    return this.#others()
      .filter(({ active }) => active[name]?.some(partition => !here.includes(partition)))
      .map(({ host, port }) => ({ host, port }))
  }

  /** All instances of the group and their tasks, this one first. */
  instances(): InstanceTasks[] {
    const tasks = this.#engine.tasks()
    const named = (state: string) => tasks.filter(task => task.state === state).map(t => t.task)
    const mine: InstanceTasks = {
      endpoint: this.#self === undefined ? null : peerName(this.#self),
      self: true,
      active: named('running'),
      restoring: named('restoring'),
      standby: named('standby'),
    }
    const others = this.#others().map(endpoint => ({
      endpoint: peerName(endpoint),
      self: false,
      active: this.#names(endpoint.active),
      restoring: [],
      standby: this.#names(endpoint.standby),
    }))
    return [mine, ...others]
  }

  #names(ids: MemberEndpoint['active']): string[] {
    return this.#engine.plan.subTopologies.flatMap(subTopology =>
      (ids[subTopology.name] ?? []).map(partition => taskName({ subTopology, partition })),
    )
  }
}

/** Where tasks are, for people. */
export interface InstanceTasks {
  /** `host:port`; null where the instance cannot be asked by the others. */
  readonly endpoint: string | null
  readonly self: boolean
  /** Names of tasks. Of other instances `active` may still be restoring. */
  readonly active: readonly string[]
  readonly restoring: readonly string[]
  readonly standby: readonly string[]
}

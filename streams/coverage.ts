/**
 * Which source partitions a task's state depends on, by their place in the plan's origins: those
 * that it reads itself, and along each exchange all that reach any task upstream. What such a
 * partition's records have come to is known to a task only once every edge has told (law 18).
 */
import type { Plan, SubTopology } from './plan.ts'

export class Feeds {
  readonly #plan: Plan
  readonly #all = new Map<SubTopology, (readonly number[])[]>()

  constructor(plan: Plan) {
    this.#plan = plan
    for (const sub of plan.subTopologies) {
      const exchanged = this.#throughExchanges(sub)
      const tasks = Array.from({ length: sub.partitions }, (_, partition) => [
        ...new Set([...this.#own(sub, partition), ...exchanged]),
      ])
      this.#all.set(sub, tasks)
    }
  }

  /** All origins that a task depends on. */
  of(sub: SubTopology, partition: number): readonly number[] {
    return this.#all.get(sub)![partition]!
  }

  /** Upstream sub-topologies come first in a plan. */
  #throughExchanges(sub: SubTopology): number[] {
    const found = new Set<number>()
    for (const { from, to } of this.#plan.exchanges.values()) {
      if (to !== sub) continue
      for (const origins of this.#all.get(from)!) for (const index of origins) found.add(index)
    }
    return [...found]
  }

  #own(sub: SubTopology, partition: number): number[] {
    const { topology, origins } = this.#plan
    return sub.nodes.flatMap(id => {
      const node = topology.nodes[id]!
      if (node.kind !== 'source') return []
      return [
        origins.findIndex(origin => origin.topic === node.topic && origin.partition === partition),
      ]
    })
  }
}

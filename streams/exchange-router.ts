/**
 * Which way each edge of an exchange goes: in memory to a task of this instance, or through the
 * repartition topic to wherever the partition's task is.
 *
 *     upstream and target here, the topic drained   memory
 *     anything else                                 topic
 *
 * An edge begins on its topic and goes over to memory at an epoch boundary at which all that the
 * topic holds for the target has been processed, whoever wrote it (law 5; the engine's drain in
 * `epoch-runner.ts`). Without a group there are no such topics and every edge is in memory.
 */
import { Batch } from './batch.ts'
import { assert } from './errors.ts'
import { writeExchanged, writeProgress } from './exchange-records.ts'
import type { ExchangeEnds, Plan } from './plan.ts'
import { partitionOfKey, type Sinks } from './sinks.ts'
import type { Task } from './task.ts'
import type { ExchangeNode } from './topology.ts'
import { type InputProgress, type Positions, sameProgress } from './watermark.ts'

export function repartitionTopic(application: string, exchange: string): string {
  return `${application}-${exchange}-repartition`
}

interface ExchangeState {
  readonly ends: ExchangeEnds
  readonly topic: string
  /** Tasks on this instance, by partition. */
  readonly upstream: (Task | undefined)[]
  readonly receivers: (Task | undefined)[]
  /** 1 where the edge from an upstream partition (row) to a target (column) is in memory. */
  readonly memory: Uint8Array
  /** Watermarks that upstream tasks have now, and what each target's topic was told. */
  readonly progress: (InputProgress | undefined)[]
  readonly told: (InputProgress | undefined)[]
  /** 1 where the edge wrote records to its topic since it told its progress. */
  readonly wrote: Uint8Array
}

export interface RouterOptions {
  readonly plan: Plan
  readonly sinks: Sinks
  /** There are repartition topics: tasks may be elsewhere. */
  readonly remote: boolean
  /** Between one telling of progress alone and the next, ms. */
  readonly watermarkIntervalMs: number
}

export class ExchangeRouter {
  readonly #options: RouterOptions
  readonly #exchanges = new Map<number, ExchangeState>()
  /** When all remote edges were last told, and whether one may have to be told since. */
  #toldMs = Number.NEGATIVE_INFINITY
  #owes = false

  constructor(options: RouterOptions) {
    this.#options = options
    const { application } = options.plan.topology
    for (const [id, ends] of options.plan.exchanges) {
      const { from, to } = ends
      const edges = from.partitions * to.partitions
      this.#exchanges.set(id, {
        ends,
        topic: repartitionTopic(application, ends.node.name),
        upstream: new Array(from.partitions).fill(undefined),
        receivers: new Array(to.partitions).fill(undefined),
        memory: new Uint8Array(edges),
        progress: new Array(from.partitions).fill(undefined),
        told: new Array(edges).fill(undefined),
        wrote: new Uint8Array(edges),
      })
    }
  }

  /** A task runs here from now on; its edges begin on their topics. */
  attach(task: Task): void {
    this.#oweAtOnce()
    for (const exchange of this.#exchanges.values()) {
      const { ends, upstream, receivers } = exchange
      if (task.subTopology === ends.from) upstream[task.partition] = task
      if (task.subTopology === ends.to) receivers[task.partition] = task
      if (!this.#options.remote) exchange.memory.fill(1)
    }
  }

  /** A task has left; edges to it go through its topic, edges from it are nobody's here. */
  detach(task: Task): void {
    this.#oweAtOnce()
    for (const { ends, ...exchange } of this.#exchanges.values()) {
      const targets = ends.to.partitions
      if (task.subTopology === ends.from) {
        exchange.upstream[task.partition] = undefined
        exchange.progress[task.partition] = undefined
        const row = task.partition * targets
        exchange.memory.fill(0, row, row + targets)
        exchange.told.fill(undefined, row, row + targets)
      }
      if (task.subTopology === ends.to) {
        exchange.receivers[task.partition] = undefined
        for (let from = 0; from < ends.from.partitions; from++) {
          const edge = from * targets + task.partition
          exchange.memory[edge] = 0
          exchange.told[edge] = undefined
        }
      }
    }
  }

  /** Edges with both ends here that still go through their topics, upstream exchanges first. */
  undrained(): { readonly node: ExchangeNode; readonly targets: readonly number[] }[] {
    const waiting: { node: ExchangeNode; targets: number[] }[] = []
    if (!this.#options.remote) return waiting
    const { subTopologies } = this.#options.plan
    const rank = ({ ends }: ExchangeState) => subTopologies.indexOf(ends.from)
    const ranked = [...this.#exchanges.values()].sort((a, b) => rank(a) - rank(b))
    for (const { ends, upstream, receivers, memory } of ranked) {
      const targets = [...receivers.keys()].filter(
        target =>
          receivers[target] !== undefined &&
          upstream.some((u, from) => u !== undefined && !memory[from * receivers.length + target]),
      )
      if (targets.length > 0) waiting.push({ node: ends.node, targets })
    }
    return waiting
  }

  /** The topics of these targets are drained: their local edges go in memory. */
  drained(node: ExchangeNode, targets: readonly number[]): void {
    const { upstream, receivers, memory, told, progress } = this.#state(node)
    upstream.forEach((task, from) => {
      if (task === undefined) return
      for (const target of targets) {
        const edge = from * receivers.length + target
        memory[edge] = 1
        told[edge] = undefined
        if (progress[from] !== undefined) {
          receivers[target]!.runtime(node.id).watermark.set(from, progress[from])
        }
      }
    })
  }

  /** True when no record of this instance's tasks crosses to another (law 17). */
  get local(): boolean {
    return [...this.#exchanges.values()].every(
      ({ memory, upstream, receivers }) =>
        !upstream.includes(undefined) && !receivers.includes(undefined) && !memory.includes(0),
    )
  }

  #state(node: ExchangeNode): ExchangeState {
    const state = this.#exchanges.get(node.id)
    assert(state !== undefined, `${node.name} is an exchange of the plan`)
    return state
  }

  /** Hands each record to the task that owns its key's partition, or to all. */
  exchange(node: ExchangeNode, from: number, batch: Batch): void {
    const state = this.#state(node)
    const { receivers, memory } = state
    const targets = receivers.length
    const row = from * targets
    if (targets === 1 && memory[row]) {
      receivers[0]!.runtime(node.id).receive(batch, 0)
      return
    }
    const parts: (Batch | undefined)[] = new Array(targets)
    const put = (i: number, partition: number) => {
      if (!memory[row + partition]) {
        writeExchanged(node, this.#options.sinks.writer(state.topic, partition), batch, i)
        state.wrote[row + partition] = 1
        return
      }
      const part = (parts[partition] ??= new Batch(batch.columns, batch))
      part.target = batch.target
      part.keep(batch, i)
    }
    for (let i = 0; i < batch.length; i++) {
      if (node.broadcast) for (let target = 0; target < targets; target++) put(i, target)
      else put(i, partitionOfKey(node.key, batch.keys[i], targets))
    }
    parts.forEach((part, partition) => {
      if (part !== undefined) receivers[partition]!.runtime(node.id).receive(part, 0)
    })
  }

  /** An upstream task's watermark: at once to targets in memory, to the others with the epoch. */
  progress(node: ExchangeNode, from: number, progress: InputProgress): void {
    const { receivers, memory, progress: known } = this.#state(node)
    known[from] = progress
    for (let target = 0; target < receivers.length; target++) {
      if (!memory[from * receivers.length + target]) continue
      receivers[target]!.runtime(node.id).watermark.set(from, progress)
    }
  }

  /** True for an edge whose records do not leave this instance. */
  inMemory(node: ExchangeNode, from: number, target: number): boolean {
    const { memory, receivers } = this.#state(node)
    return memory[from * receivers.length + target] === 1
  }

  /** Edges of tasks that come or go are other edges: nobody else tells what they have to say. */
  #oweAtOnce(): void {
    this.#owes = this.#options.remote && this.#exchanges.size > 0
    this.#toldMs = Number.NEGATIVE_INFINITY
  }

  /** When remote edges have to be told, epoch ms; Infinity while all know all. */
  get tellAtMs(): number {
    if (!this.#owes) return Number.POSITIVE_INFINITY
    return this.#toldMs + this.#options.watermarkIntervalMs
  }

  /**
   * Tells every partition of the remote edges what changed (law 6), those that got no record too:
   * behind all records of the epoch. Partitions that got none wait until the interval is over.
   */
  tell(positionsOf: (task: Task) => Positions, nowMs: number): void {
    const all = nowMs >= this.#toldMs + this.#options.watermarkIntervalMs
    let owes = false
    for (const exchange of this.#exchanges.values()) {
      exchange.upstream.forEach((task, from) => {
        if (task !== undefined)
          owes = this.#tellFrom(exchange, { task, from, all }, positionsOf) || owes
      })
    }
    this.#owes = owes
    if (all) this.#toldMs = nowMs
  }

  /** Tells the remote edges of one upstream task; true when it did not tell all there is. */
  #tellFrom(
    { topic, receivers, memory, progress, told, wrote }: ExchangeState,
    { task, from, all }: { task: Task; from: number; all: boolean },
    positionsOf: (task: Task) => Positions,
  ): boolean {
    const row = from * receivers.length
    let owes = false
    let now: InputProgress | undefined
    for (let target = 0; target < receivers.length; target++) {
      const edge = row + target
      if (memory[edge]) continue
      if (progress[from] === undefined || (!all && !wrote[edge])) {
        owes = true
        continue
      }
      wrote[edge] = 0
      now ??= { ...progress[from], positions: positionsOf(task) }
      const last = told[edge]
      if (last !== undefined && sameProgress(last, now)) continue
      told[edge] = now
      writeProgress(this.#options.sinks.writer(topic, target), from, now)
    }
    return owes
  }
}

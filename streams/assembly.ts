/**
 * Builds what a plan says: stores, operators and tasks of every sub-topology and partition, the
 * exchanges between them and the readers of the source partitions. After an abort the whole
 * assembly is dropped and built again from committed state.
 */
import type { Database } from '../log/database.ts'
import type { EventLog } from '../log/port.ts'
import { openAppendStore } from '../state/append-store.ts'
import type { AppendStore, RowStore, Store } from '../state/port.ts'
import { openRowStore } from '../state/row-store.ts'
import { Batch } from './batch.ts'
import type { CrashPoint } from './environment.ts'
import { assert } from './errors.ts'
import { EventTime, eventTimeStore, progressCodec } from './event-time.ts'
import type { Operator, OperatorContext, StoreSpec } from './operator.ts'
import type { Plan, SubTopology } from './plan.ts'
import { partitionOfKey, Sinks } from './sinks.ts'
import { SourcePartition } from './source-partition.ts'
import { type DroppedRecord, Task } from './task.ts'
import type { ExchangeNode } from './topology.ts'
import type { InputProgress } from './watermark.ts'

export interface AssemblyOptions {
  readonly plan: Plan
  readonly log: EventLog
  readonly database: Database
  readonly clock: () => number
  /** Partition counts of all topics read or written. */
  readonly topicPartitions: ReadonlyMap<string, number>
  readonly storeCacheBytes: number
  readonly onRestore: (task: string, store: string, position: number, end: number) => void
  readonly onDrop: (record: DroppedRecord) => void
  readonly reached: (point: CrashPoint) => void
}

export function changelogTopic(application: string, store: string): string {
  return `${application}-${store}-changelog`
}

export function deadLetterTopic(application: string): string {
  return `${application}-dead-letters`
}

/** Name of a store in the database, which applications share. */
export function storeInDatabase(application: string, store: string): string {
  return `${application}.${store}`
}

/** Stores of a sub-topology, its event time first. */
export function storesOf(plan: Plan, subTopology: SubTopology): StoreSpec[] {
  const specs: StoreSpec[] = [
    { kind: 'rows', name: eventTimeStore(subTopology.name), codec: progressCodec as never },
  ]
  for (const id of subTopology.nodes) {
    const node = plan.topology.nodes[id]!
    if (node.kind === 'operator') specs.push(...node.stores)
  }
  return specs
}

export class Assembly {
  readonly options: AssemblyOptions
  readonly tasks: Task[] = []
  readonly eventTimes: EventTime[] = []
  readonly sources: SourcePartition[] = []
  readonly stores: Store[] = []
  readonly sinks: Sinks
  /** Receiving tasks of each exchange, by partition. */
  readonly #receivers = new Map<number, Task[]>()
  readonly #storesByName = new Map<string, Store>()

  private constructor(options: AssemblyOptions) {
    this.options = options
    this.sinks = new Sinks(options.topicPartitions)
  }

  static async build(options: AssemblyOptions): Promise<Assembly> {
    const assembly = new Assembly(options)
    const upstream = assembly.#exchangeInputs()
    for (const subTopology of options.plan.subTopologies) {
      for (let partition = 0; partition < subTopology.partitions; partition++) {
        await assembly.#openStores(subTopology, partition)
        assembly.#addTask(subTopology, partition, upstream)
      }
    }
    assembly.#addSources()
    for (const eventTime of assembly.eventTimes) await eventTime.load()
    for (const source of assembly.sources) {
      const { watermark } = assembly.sourceTask(source).runtime(source.node.id)
      source.streamTimeMs = watermark.input(0).timeMs
      source.idle = watermark.input(0).idle
    }
    return assembly
  }

  store(name: string, partition: number): Store {
    const store = this.#storesByName.get(`${name}/${partition}`)
    assert(store !== undefined, `the store ${name} is there for partition ${partition}`)
    return store
  }

  rowStore<V>(name: string, partition: number): RowStore<V> {
    return this.store(name, partition) as RowStore<V>
  }

  /** The task that reads a source partition. */
  sourceTask(source: SourcePartition): Task {
    const task = this.tasks.find(
      candidate => candidate.partition === source.partition && candidate.has(source.node.id),
    )
    assert(task !== undefined, 'every source partition has its task')
    return task
  }

  #exchangeInputs(): Map<number, number> {
    const { plan } = this.options
    const inputs = new Map<number, number>()
    for (const node of plan.topology.nodes) {
      if (node.kind !== 'exchange') continue
      const from = plan.subTopologies.find(sub => sub.nodes.includes(node.parents[0]!.node))!
      inputs.set(node.id, from.partitions)
    }
    return inputs
  }

  /** What each store of each task may cache, so that more stores do not take more memory. */
  #cacheShare(): number {
    const { plan, storeCacheBytes } = this.options
    let stores = 0
    for (const sub of plan.subTopologies) stores += sub.partitions * storesOf(plan, sub).length
    return Math.floor(storeCacheBytes / stores)
  }

  async #openStores(subTopology: SubTopology, partition: number): Promise<void> {
    const { plan, log, database, onRestore } = this.options
    const share = this.#cacheShare()
    for (const spec of storesOf(plan, subTopology)) {
      const topic = changelogTopic(plan.topology.application, spec.name)
      const name = storeInDatabase(plan.topology.application, spec.name)
      const shared = { name, partition, database, log, changelog: { topic, partition } }
      const store: Store =
        spec.kind === 'rows'
          ? await openRowStore({ ...shared, codec: spec.codec, cacheBytesMax: share })
          : await openAppendStore({
              ...shared,
              segmentMs: spec.segmentMs,
              memoryBytesMax: share,
            })
      await store.restore((position, end) =>
        onRestore(`${subTopology.name}/${partition}`, spec.name, position, end),
      )
      this.stores.push(store)
      this.#storesByName.set(`${spec.name}/${partition}`, store)
    }
  }

  #addTask(sub: SubTopology, partition: number, exchangeInputs: ReadonlyMap<number, number>): void {
    const { plan } = this.options
    const operators = new Map<number, Operator>()
    let task: Task | undefined
    for (const id of sub.nodes) {
      const node = plan.topology.nodes[id]!
      if (node.kind !== 'operator') continue
      const context: OperatorContext = {
        partition,
        observed: plan.topology.observed(id),
        rowStore: <V>(name: string) => this.rowStore<V>(name, partition),
        appendStore: name => this.store(name, partition) as AppendStore,
        watermarkMs: () => task!.runtime(id).closedMs,
        wallTimeMs: this.options.clock,
        reached: this.options.reached,
      }
      operators.set(id, node.create(context))
    }
    task = new Task({
      subTopology: sub,
      nodes: plan.topology.nodes,
      partition,
      operators,
      exchangeInputs,
      surroundings: {
        exchange: (node, batch) => this.#exchange(node, batch),
        exchangeProgress: (node, from, progress) => {
          for (const receiver of this.#receivers.get(node.id)!) {
            receiver.runtime(node.id).watermark.set(from, progress)
          }
        },
        sink: (node, _partition, batch) => this.sinks.write(node, batch),
        dropped: this.options.onDrop,
      },
    })
    this.tasks.push(task)
    for (const id of sub.nodes) {
      if (plan.topology.nodes[id]!.kind !== 'exchange') continue
      const receivers = this.#receivers.get(id)
      if (receivers === undefined) this.#receivers.set(id, [task])
      else receivers.push(task)
    }
    const store = this.rowStore<InputProgress>(eventTimeStore(sub.name), partition)
    this.eventTimes.push(new EventTime(task, store))
  }

  #addSources(): void {
    for (const node of this.options.plan.sources) {
      const partitions = this.options.topicPartitions.get(node.topic)!
      for (let partition = 0; partition < partitions; partition++) {
        this.sources.push(new SourcePartition(this.sources.length, node, partition))
      }
    }
  }

  /** Hands each record to the task that owns its key's partition. */
  #exchange(node: ExchangeNode, batch: Batch): void {
    const receivers = this.#receivers.get(node.id)!
    if (receivers.length === 1) {
      receivers[0]!.runtime(node.id).receive(batch, 0)
      return
    }
    const parts: (Batch | undefined)[] = new Array(receivers.length)
    for (let i = 0; i < batch.length; i++) {
      const partition = partitionOfKey(node.key, batch.keys[i], receivers.length)
      const part = (parts[partition] ??= new Batch(batch.columns, batch.rawValues))
      part.keep(batch, i)
    }
    parts.forEach((part, partition) => {
      if (part !== undefined) receivers[partition]!.runtime(node.id).receive(part, 0)
    })
  }
}

/**
 * The tasks that run on this instance, and the exchanges between them. Without a group these are
 * all tasks of the plan; with one, tasks come and go at epoch boundaries. After an abort the
 * whole assembly is dropped and built again from committed state.
 */
import type { RowStore, Store } from '../state/port.ts'
import { Feeds } from './coverage.ts'
import { assert } from './errors.ts'
import { ExchangeRouter } from './exchange-router.ts'
import type { InputPartition } from './input-partition.ts'
import type { SideReason } from './operator.ts'
import type { Plan } from './plan.ts'
import { type Offsets, UNHEARD } from './position.ts'
import { Sinks } from './sinks.ts'
import { SourcePartition } from './source-partition.ts'
import { Spans, type Tracing } from './spans.ts'
import type { DroppedRecord, FailedRecord, Task, TaskSurroundings } from './task.ts'
import { type TaskParts, taskName } from './task-parts.ts'
import type { TopicLimits } from './topic-limits.ts'
import type { Positions } from './watermark.ts'

export function deadLetterTopic(application: string): string {
  return `${application}-dead-letters`
}

/** The branches in which one of the tasks has more to close than its last step did. */
export function closingBranches(tasks: readonly Task[]): ReadonlySet<number> {
  const branches = new Set<number>()
  for (const task of tasks) if (task.closing) branches.add(task.subTopology.branch)
  return branches
}

export interface AssemblyOptions {
  readonly plan: Plan
  /** Partition counts of all topics read or written. */
  readonly topicPartitions: ReadonlyMap<string, number>
  readonly limits: TopicLimits
  /** Tasks may run elsewhere: exchanges have topics. */
  readonly remote: boolean
  readonly watermarkIntervalMs: number
  readonly onFailure: (record: FailedRecord) => number
  readonly keeps: (reason: SideReason, claimed: boolean) => boolean
  readonly onDrop: (record: DroppedRecord) => void
  readonly tracing?: Tracing | undefined
}

export class Assembly {
  readonly options: AssemblyOptions
  readonly sinks: Sinks
  /** Dropped with the assembly: what is not committed leaves no spans. */
  readonly spans: Spans | undefined
  readonly router: ExchangeRouter
  readonly surroundings: TaskSurroundings
  /** In the plan's order: upstream before downstream. */
  #parts: readonly TaskParts[] = []
  #tasks: readonly Task[] = []
  #inputs: readonly InputPartition[] = []
  #sources: readonly SourcePartition[] = []
  #stores: readonly Store[] = []
  /** What the tasks have covered, and said of it, when nothing was left to close. */
  covered: Offsets | undefined
  readonly #feeds: Feeds
  readonly #closed = new WeakMap<Task, Positions>()

  constructor(options: AssemblyOptions) {
    this.options = options
    const { plan, tracing } = options
    const { application } = plan.topology
    this.spans = tracing && new Spans({ ...tracing, application })
    this.#feeds = new Feeds(plan)
    this.sinks = new Sinks(options.topicPartitions, options.limits, this.spans)
    this.router = new ExchangeRouter({ ...options, sinks: this.sinks })
    this.surroundings = {
      exchange: (node, from, batch) => this.router.exchange(node, from, batch),
      exchangeProgress: (node, from, progress) => this.router.progress(node, from, progress),
      sink: (node, _partition, batch) => this.sinks.write(node, batch),
      failed: options.onFailure,
      dropped: options.onDrop,
      keeps: options.keeps,
      spans: this.spans,
    }
  }

  get parts(): readonly TaskParts[] {
    return this.#parts
  }

  get tasks(): readonly Task[] {
    return this.#tasks
  }

  /** All partitions that are read: sources, and exchanges with topics. */
  get inputs(): readonly InputPartition[] {
    return this.#inputs
  }

  get sources(): readonly SourcePartition[] {
    return this.#sources
  }

  get stores(): readonly Store[] {
    return this.#stores
  }

  get closing(): ReadonlySet<number> {
    return closingBranches(this.#tasks)
  }

  /**
   * True when all tasks show one cut of the input: every task of the plan runs here, no record
   * leaves this instance, and all branches have come equally far.
   */
  get whole(): boolean {
    let tasks = 0
    for (const { partitions } of this.options.plan.subTopologies) tasks += partitions
    return tasks === this.#tasks.length && this.router.local && this.#isEven
  }

  get #isEven(): boolean {
    if (this.#sources.every(({ branch }) => branch === 0)) return true
    if (this.closing.size > 0) return false
    const positions = new Map<number, number>()
    return this.#sources.every(({ index, position }) => {
      const other = positions.get(index) ?? position
      positions.set(index, position)
      return other === position
    })
  }

  attach(parts: TaskParts): void {
    assert(this.task(parts.task.name) === undefined, `${parts.task.name} runs once`)
    const { subTopologies } = this.options.plan
    const rank = ({ task }: TaskParts) => subTopologies.indexOf(task.subTopology)
    this.#set(
      [...this.#parts, parts].sort(
        (a, b) => rank(a) - rank(b) || a.task.partition - b.task.partition,
      ),
    )
    this.router.attach(parts.task)
  }

  /** The task's state stays on disk; what it has not committed is gone. */
  detach(task: Task): void {
    for (const store of this.#parts.find(part => part.task === task)?.stores.values() ?? []) {
      store.reset()
    }
    this.#set(this.#parts.filter(part => part.task !== task))
    this.router.detach(task)
  }

  #set(parts: readonly TaskParts[]): void {
    this.#parts = parts
    this.covered = undefined
    this.#tasks = parts.map(({ task }) => task)
    this.#inputs = parts.flatMap(({ inputs }) => inputs)
    this.#sources = this.#inputs.filter(input => input instanceof SourcePartition)
    this.#stores = parts.flatMap(({ stores }) => [...stores.values()])
  }

  task(name: string): Task | undefined {
    return this.#tasks.find(task => task.name === name)
  }

  rowStore<V>(name: string, partition: number): RowStore<V> | undefined {
    const part = this.#parts.find(
      ({ task, stores }) => task.partition === partition && stores.has(name),
    )
    return part?.stores.get(name) as RowStore<V> | undefined
  }

  /**
   * How far each source partition is processed, task by task (law 18): the task's own sources,
   * and along each exchange the least of what its upstream tasks say. While a close goes on it is
   * what was covered before it: results of the input since then are missing.
   */
  positions(): ReadonlyMap<Task, Positions> {
    const all = new Map<Task, Positions>()
    const { closing } = this
    for (const part of this.#parts) {
      const positions = this.#positionsOf(part, all)
      const unheard = () => new Map([...positions.keys()].map(source => [source, UNHEARD]))
      if (closing.has(part.task.subTopology.branch)) {
        all.set(part.task, this.#closed.get(part.task) ?? unheard())
      } else {
        all.set(part.task, positions)
        this.#closed.set(part.task, positions)
      }
    }
    return all
  }

  #positionsOf({ task, inputs }: TaskParts, before: ReadonlyMap<Task, Positions>): Positions {
    const positions = new Map<number, number>()
    for (const input of inputs) {
      if (input instanceof SourcePartition) positions.set(input.index, input.position)
    }
    const { plan } = this.options
    for (const { node, watermark } of task.runtimes) {
      if (node.kind !== 'exchange') continue
      const { from } = plan.exchanges.get(node.id)!
      for (let upstream = 0; upstream < from.partitions; upstream++) {
        const told = this.router.inMemory(node, upstream, task.partition)
          ? before.get(this.task(taskName({ subTopology: from, partition: upstream }))!)
          : watermark.input(upstream).positions
        for (const source of this.#feeds.of(from, upstream)) {
          const offset = told?.get(source) ?? UNHEARD
          const known = positions.get(source)
          if (known === undefined || offset < known) positions.set(source, offset)
        }
      }
    }
    return positions
  }
}

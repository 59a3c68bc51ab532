/**
 * One task with everything that is its own: stores, operators, event time and the partitions it
 * reads. Opening it restores it, in the order of law 3: offsets until they are stable, then the
 * changelogs to their high watermark, then event time.
 */
import type { Database } from '../log/database.ts'
import type { EventLog, OffsetRange, TopicPartition } from '../log/port.ts'
import { openAppendStore } from '../state/append-store.ts'
import { stateError } from '../state/errors.ts'
import type { AppendStore, RestoreStep, RowStore, Store } from '../state/port.ts'
import { openRowStore } from '../state/row-store.ts'
import { Aside } from './aside.ts'
import type { CrashPoint } from './environment.ts'
import { assert, streamsError } from './errors.ts'
import { EventTime, eventTimeStore, progressCodec } from './event-time.ts'
import { ExchangePartition } from './exchange-partition.ts'
import { repartitionTopic } from './exchange-router.ts'
import type { InputPartition } from './input-partition.ts'
import { checkInternalTopics } from './internal-topics.ts'
import type { Operator, OperatorContext, StoreSpec } from './operator.ts'
import { type Plan, type SubTopology, withDownstream } from './plan.ts'
import { stepsTowardsOf } from './replay-steps.ts'
import type { Retries } from './retries.ts'
import { type Refusals, SourcePartition } from './source-partition.ts'
import { Task, type TaskSurroundings } from './task.ts'
import type { TopicLimits } from './topic-limits.ts'
import type { ExchangeNode, SourceNode } from './topology.ts'
import type { Turns } from './turns.ts'
import type { InputProgress } from './watermark.ts'

export function changelogTopic(application: string, store: string): string {
  return `${application}-${store}-changelog`
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

export interface TaskId {
  readonly subTopology: SubTopology
  readonly partition: number
}

export function taskName({ subTopology, partition }: TaskId): string {
  return `${subTopology.name}/${partition}`
}

export interface StoreOptions {
  readonly plan: Plan
  readonly log: EventLog
  readonly database: Database
  readonly storeCacheBytes: number
  readonly limits: TopicLimits
  readonly clock: () => number
}

export interface TaskOptions extends StoreOptions {
  readonly closeRowsMax: number
  readonly lettersTopicId: string
  /** Exchanges have repartition topics. */
  readonly remote: boolean
  readonly surroundings: TaskSurroundings
  readonly refusals: Refusals
  readonly retries: Retries
  readonly onRestore: (task: string, store: string, step: RestoreStep) => void
  readonly reached: (point: CrashPoint) => void
  /** Given up before it is open: the opening ends with the signal's reason. */
  readonly signal?: AbortSignal
  /** Restores that read the log at the same time. */
  readonly turns?: Turns
}

export interface TaskParts {
  readonly task: Task
  /** By the name of their spec. */
  readonly stores: ReadonlyMap<string, Store>
  readonly eventTime: EventTime
  readonly inputs: readonly InputPartition[]
}

/** What each store of each task may cache, so that more stores do not take more memory. */
function cacheShare(plan: Plan, storeCacheBytes: number): number {
  let stores = 0
  for (const sub of plan.subTopologies) stores += sub.partitions * storesOf(plan, sub).length
  return Math.floor(storeCacheBytes / stores)
}

/** The stores of a task, not restored. */
export async function openStores(
  { plan, log, database, clock, storeCacheBytes, limits }: StoreOptions,
  { subTopology, partition }: TaskId,
): Promise<Map<string, Store>> {
  const share = cacheShare(plan, storeCacheBytes)
  const { application } = plan.topology
  const open = async (spec: StoreSpec): Promise<[string, Store]> => {
    const topic = changelogTopic(application, spec.name)
    const name = storeInDatabase(application, spec.name)
    const shared = { name, partition, database, log, clock, changelog: { topic, partition } }
    if (spec.kind === 'blocks') {
      const own = { segmentMs: spec.segmentMs, memoryBytesMax: share }
      return [spec.name, await openAppendStore({ ...shared, ...own })]
    }
    const rowBytesMax = spec.refusesLarge ? limits.known(topic) : undefined
    const own = { codec: spec.codec, cacheBytesMax: share, rowBytesMax }
    return [spec.name, await openRowStore({ ...shared, ...own })]
  }
  return new Map(await Promise.all(storesOf(plan, subTopology).map(open)))
}

export async function openTask(options: TaskOptions, id: TaskId): Promise<TaskParts> {
  const { plan, log, signal } = options
  const { subTopology, partition } = id
  const reads = inputsOf(options, id)
  const offsets = startOffsets(log, plan.topology.application, reads)
  const checked = checkInternalTopics(log, internalTopics(options, id))
  const [starts] = await unlessAborted(Promise.all([offsets, checked]), signal)
  const stores = await openStores(options, id)
  await restoreStores(options, id, stores)
  const progress = stores.get(eventTimeStore(subTopology.name)) as RowStore<InputProgress>
  const { branch } = subTopology
  const { origins } = options.plan
  const aside = new Aside({ store: progress, origins, branch, ...options })
  const task = buildTask(options, id, { stores, aside })
  const eventTime = new EventTime(task, progress, changelogsOf(log, stores))
  await eventTime.load()
  checkRecreated(options, stores, eventTime)
  await checkAdded(options, id, eventTime)
  const { refusals, retries } = options
  const { spans } = options.surroundings
  const { application } = plan.topology
  const towards = stepsTowardsOf(plan.topology)
  const inputs = reads.map(({ node, topic }): InputPartition => {
    const runtime = task.runtime(node.id)
    if (node.kind === 'exchange') {
      return new ExchangePartition({ topic, partition, runtime, retries, towards, spans })
    }
    const index = plan.origins.findIndex(
      origin => origin.topic === topic && origin.partition === partition,
    )
    const shared = { node, partition, runtime, refusals, retries, towards, aside, spans }
    const source = new SourcePartition({ index, application, ...shared })
    source.resumeEventTime()
    return source
  })
  inputs.forEach((input, i) => {
    begin(input, starts[i]!, plan.topology.application)
  })
  return { task, stores, eventTime, inputs }
}

/** The changelogs and repartition topics of a task, where others can set what becomes of them. */
function internalTopics(options: TaskOptions, id: TaskId) {
  if (!options.remote) return []
  const { plan } = options
  const changelogs = storesOf(plan, id.subTopology).map(({ name, kind }) => ({
    name: changelogTopic(plan.topology.application, name),
    compacted: kind === 'rows',
  }))
  const repartition = inputsOf(options, id).filter(({ node }) => node.kind === 'exchange')
  return [...changelogs, ...repartition.map(({ topic: name }) => ({ name, compacted: false }))]
}

function changelogsOf({ incarnation }: EventLog, stores: ReadonlyMap<string, Store>) {
  const known = [...stores].filter(([, { topicId }]) => topicId !== '')
  return new Map(known.map(([name, { topicId }]) => [name, { incarnation, topicId }]))
}

/**
 * Throws CHANGELOG_RECREATED where a store was restored from a topic that is not the one its rows
 * went to: without local rows it would be taken for an empty store.
 */
function checkRecreated(
  { plan }: TaskOptions,
  stores: ReadonlyMap<string, Store>,
  { recreated }: EventTime,
): void {
  for (const { store: name, was } of recreated) {
    const { partition, topicId: is } = stores.get(name)!
    const topic = changelogTopic(plan.topology.application, name)
    throw stateError('CHANGELOG_RECREATED', { topic, partition, was, is })
  }
}

/**
 * A step that was left out while the input of its task was read on, or behind an exchange that was,
 * has a gap in its state. Throws STATE_PASSED.
 */
async function checkAdded(
  { plan, log }: TaskOptions,
  { subTopology, partition }: TaskId,
  { added, returned }: EventTime,
): Promise<void> {
  const { application, nodes } = plan.topology
  const check = async (id: number, partitions: readonly number[]) => {
    const node = nodes[id]!
    if (node.kind !== 'operator') return
    for (const { name } of node.stores) {
      const topic = changelogTopic(application, name)
      const ranges = await log.offsets(partitions.map(partition => ({ topic, partition })))
      if (ranges.every(({ highWatermark }) => highWatermark === 0)) continue
      throw streamsError('STATE_PASSED', { step: node.name, store: name, topic })
    }
  }
  for (const id of subTopology.nodes) {
    if (added.includes(nodes[id]!.name)) await check(id, [partition])
  }
  for (const { node, to } of plan.exchanges.values()) {
    if (!returned.includes(node.name)) continue
    for (const sub of withDownstream(plan, to)) {
      const partitions = Array.from({ length: sub.partitions }, (_, i) => i)
      for (const id of sub.nodes) await check(id, partitions)
    }
  }
}

/** Restores them side by side; one that fails ends the others, and nothing goes on behind. */
async function restoreStores(
  { signal, turns, onRestore }: TaskOptions,
  id: TaskId,
  stores: ReadonlyMap<string, Store>,
): Promise<void> {
  const failure = new AbortController()
  const ended = AbortSignal.any([failure.signal, ...(signal ? [signal] : [])])
  const pace = { signal: ended, ...(turns && { turn: () => turns.take(ended) }) }
  const restores = [...stores].map(([name, store]) => {
    const onProgress = (step: RestoreStep) => onRestore(taskName(id), name, step)
    return store.restore(onProgress, pace).catch(error => failure.abort(error))
  })
  await Promise.all(restores)
  ended.throwIfAborted()
}

/** For work without effects: it is not waited for once the signal aborts. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal.reason)
    if (signal.aborted) giveUp()
    signal.addEventListener('abort', giveUp)
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp))
  })
}

/** A partition that a task reads. */
export interface TaskInput extends TopicPartition {
  readonly node: SourceNode | ExchangeNode
  /** Topic whose partition of that number the group's offset is committed for. */
  readonly positions: string
}

/** The partitions that a task reads, of sources and of exchanges with topics. */
export function inputsOf(
  { plan, remote }: Pick<TaskOptions, 'plan' | 'remote'>,
  { subTopology, partition }: TaskId,
): TaskInput[] {
  const inputs: TaskInput[] = []
  for (const id of subTopology.nodes) {
    const node = plan.topology.nodes[id]!
    if (node.kind === 'source') {
      const { topic, positions = topic } = node
      inputs.push({ node, topic, partition, positions })
    }
    if (node.kind === 'exchange' && remote) {
      const topic = repartitionTopic(plan.topology.application, node.name)
      inputs.push({ node, topic, partition, positions: topic })
    }
  }
  return inputs
}

/** The partitions that a task commits offsets for: no other task does. */
export function offsetsOf(
  options: Pick<TaskOptions, 'plan' | 'remote'>,
  id: TaskId,
): TopicPartition[] {
  return inputsOf(options, id).map(({ positions, partition }) => ({ topic: positions, partition }))
}

interface Start extends OffsetRange {
  /** Undefined when the group never committed one, or lost it. */
  readonly committed: number | undefined
}

/** Goes on at the committed offset; at the start of the log only if nothing was ever taken. */
function begin(input: InputPartition, start: Start, group: string): void {
  const { topic, positions, partition, runtime } = input
  const { watermark } = runtime
  let isNew = true
  for (let i = 0; i < watermark.inputs; i++) {
    const { timeMs, idle } = watermark.input(i)
    if (timeMs !== Number.NEGATIVE_INFINITY || idle) isNew = false
  }
  if (start.committed === undefined && !isNew) {
    throw streamsError('OFFSETS_MISSING', { group, topic: positions, partition, ...start })
  }
  const offset = start.committed ?? start.startOffset
  if (offset < start.startOffset) {
    throw streamsError('OFFSET_LOST', { topic, partition, offset, ...start })
  }
  input.seek(offset)
  // After a reset the start is what is committed.
  if (isNew) runtime.beganAt ??= offset
  input.committedOffset = start.committed
  input.coveredOffset = offset
  input.endOffset = start.endOffset
}

/** The committed offsets once they are stable, and what the log holds. */
async function startOffsets(
  log: EventLog,
  group: string,
  inputs: readonly TaskInput[],
): Promise<Start[]> {
  const targets = inputs.map(({ positions, partition }) => ({ topic: positions, partition }))
  let committed = await log.committed(group, targets)
  const ranges = await log.offsets(inputs)
  // Trimmed below what somebody has committed meanwhile, or below what is committed: see `begin`.
  const isBehind = ranges.some(({ startOffset }, i) => (committed[i]?.offset ?? 0) < startOffset)
  if (isBehind) committed = await log.committed(group, targets)
  return ranges.map((range, i) => ({ ...range, committed: committed[i]?.offset }))
}

function buildTask(
  { plan, clock, closeRowsMax, surroundings, reached }: TaskOptions,
  { subTopology, partition }: TaskId,
  { stores, aside }: { readonly stores: ReadonlyMap<string, Store>; readonly aside: Aside },
): Task {
  const { topology, origins } = plan
  const operators = new Map<number, Operator>()
  let task: Task | undefined
  const store = (name: string): Store => {
    const found = stores.get(name)
    assert(found !== undefined, `the store ${name} is one of its task's`)
    return found
  }
  for (const id of subTopology.nodes) {
    const node = topology.nodes[id]!
    if (node.kind !== 'operator') continue
    const context: OperatorContext = {
      partition,
      origins,
      observed: topology.observed(id),
      rowStore: <V>(name: string) => store(name) as RowStore<V>,
      appendStore: name => store(name) as AppendStore,
      watermarkMs: () => task!.runtime(id).closedMs,
      wallTimeMs: clock,
      closeRowsMax,
      reached,
    }
    operators.set(id, node.create(context))
  }
  const exchangeInputs = new Map(
    [...plan.exchanges].map(([id, { from }]) => [id, from.partitions] as const),
  )
  task = new Task({
    subTopology,
    nodes: topology.nodes,
    partition,
    operators,
    exchangeInputs,
    surroundings,
    aside,
    towards: stepsTowardsOf(topology),
  })
  return task
}

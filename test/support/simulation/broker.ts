/**
 * A Kafka cluster's log in memory, as far as readers and writers can tell: transactions that stay
 * open, commit markers that reach each partition in their own time, records of aborted
 * transactions that nobody gets to see, offsets that are unstable until their marker is there.
 * Compaction and retention are left out. What an instance sees of it is in `log.ts`.
 */
import { logError } from '../../../log/errors.ts'
import type {
  AppendReceipt,
  CommitRequest,
  CommittedOffset,
  FetchRequest,
  FetchResponse,
  OffsetRange,
  TopicConfig,
  TopicDescription,
  TopicPartition,
} from '../../../log/port.ts'
import { readBatchHeaders, rebase } from '../../../log/record-batch.ts'
import { decodeBatches } from '../../../log/record-columns.ts'
import { checkGroup, checkTopic, topicConfig } from '../../../log/topics.ts'
import type { SimulatedTime } from '../streams-group/time.ts'

/** What a broker refuses, or a test does to an instance. */
export class SimulatedFault extends Error {}

export interface BrokerOptions {
  readonly time: SimulatedTime
  /** After which an open transaction is aborted. */
  readonly transactionTimeoutMs: number
  /** How long a marker takes to reach its partition. */
  readonly markerDelayMs: () => number
  /** The coordinator's check of a commit's offsets; throws what it refuses. */
  readonly checkMember?: (request: CommitRequest) => void
  /** Called as a commit is decided. */
  readonly onCommit?: (transaction: BrokerTransaction) => void
  /** Called before records are deleted. */
  readonly onDelete?: (target: TopicPartition, beforeOffset: number) => void
}

interface Entry {
  readonly base: number
  readonly next: number
  /** Absent for markers. */
  readonly bytes?: Buffer
  readonly transaction?: BrokerTransaction
}

class Partition {
  readonly entries: Entry[] = []
  start = 0
  end = 0
  /** First offset of each transaction whose marker is not here yet. */
  readonly undecided = new Map<BrokerTransaction, number>()
  readonly waiters = new Set<() => void>()

  /** The last stable offset. */
  get stable(): number {
    let stable = this.end
    for (const first of this.undecided.values()) stable = Math.min(stable, first)
    return stable
  }

  wake(): void {
    for (const waiter of [...this.waiters]) waiter()
  }
}

interface Topic {
  readonly description: TopicDescription
  readonly partitions: readonly Partition[]
}

export interface BrokerTransaction {
  readonly producer: string
  state: 'open' | 'committed' | 'aborted'
  readonly partitions: Map<string, Partition>
  readonly offsets: Map<string, CommittedOffset>
  group: string
  /** Markers and offsets still on their way, once it is decided. */
  left: number
  cancelTimeout: () => void
  readonly finished: Promise<void>
  finish: () => void
}

/** Where a message about a partition goes. */
export const placeOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

export class SimulatedBroker {
  readonly incarnation = 'simulated'
  /** Facts that no run may show; empty as long as all is well. */
  readonly violations: string[] = []
  readonly counts = { records: 0, commits: 0, aborts: 0, deletions: 0 }
  readonly options: BrokerOptions
  readonly #topics = new Map<string, Topic>()
  readonly #groups = new Map<string, Map<string, CommittedOffset>>()
  /** How often each producer was started; an older process of the same name is fenced. */
  readonly #producers = new Map<string, number>()
  /** The unfinished transaction of each producer. */
  readonly #transactions = new Map<string, BrokerTransaction>()
  readonly #offsetWaiters = new Set<() => void>()
  #topicIds = 0

  constructor(options: BrokerOptions) {
    this.options = options
  }

  createTopic(name: string, partitions: number, given: Partial<TopicConfig> = {}) {
    const config = topicConfig(given)
    checkTopic(name, partitions, config)
    if (this.#topics.has(name)) throw logError('TOPIC_EXISTS', { topic: name })
    const description = { name, id: `topic-${++this.#topicIds}`, partitions, config }
    const list = Array.from({ length: partitions }, () => new Partition())
    this.#topics.set(name, { description, partitions: list })
    return description
  }

  describeTopic(name: string): TopicDescription | undefined {
    return this.#topics.get(name)?.description
  }

  listTopics(): TopicDescription[] {
    return [...this.#topics.keys()].sort().map(name => this.describeTopic(name)!)
  }

  deleteTopic(name: string): void {
    const topic = this.#topics.get(name)
    if (topic === undefined) throw logError('TOPIC_MISSING', { topic: name })
    this.#topics.delete(name)
    for (const offsets of this.#groups.values()) {
      for (const [place, { topic }] of offsets) if (topic === name) offsets.delete(place)
    }
    for (const partition of topic.partitions) partition.wake()
  }

  find({ topic: name, partition }: TopicPartition): Partition | undefined {
    return this.#topics.get(name)?.partitions[partition]
  }

  partition(target: TopicPartition): Partition {
    const found = this.find(target)
    if (found !== undefined) return found
    const missing = this.#topics.has(target.topic) ? 'PARTITION_MISSING' : 'TOPIC_MISSING'
    throw logError(missing, { ...target })
  }

  /** Appends batches outside any transaction: seen at once. */
  append(target: TopicPartition, batches: Buffer): AppendReceipt {
    const receipt = this.#write(target, batches)
    this.partition(target).wake()
    return receipt
  }

  #write(target: TopicPartition, batches: Buffer, transaction?: BrokerTransaction): AppendReceipt {
    const partition = this.partition(target)
    const bytes = Buffer.from(batches)
    const limit = this.#topics.get(target.topic)!.description.config.batchBytesMax
    const headers = readBatchHeaders(bytes, true)
    if (headers.length === 0 || headers.at(-1)!.end !== bytes.length) {
      throw logError('BATCH_CORRUPT', { position: 0, baseOffset: 0, reason: 'it is not whole' })
    }
    const baseOffset = partition.end
    for (const { start, end, lastOffset, baseOffset: before, recordCount } of headers) {
      if (end - start > limit) {
        throw logError('BATCH_TOO_LARGE', { ...target, size: end - start, limit })
      }
      const batch = bytes.subarray(start, end)
      const base = partition.end
      rebase(batch, base)
      const next = base + lastOffset - before + 1
      const entry: Entry = { base, next, bytes: batch, ...(transaction && { transaction }) }
      partition.entries.push(entry)
      partition.end = next
      this.counts.records += recordCount
    }
    return { ...target, baseOffset, nextOffset: partition.end }
  }

  /** The producer's transaction before this one has all its markers. */
  finished(producer: string): Promise<void> {
    return this.#transactions.get(producer)?.finished ?? Promise.resolve()
  }

  /** As InitProducerId: what the producer's last process left open is aborted. The new epoch. */
  initProducer(producer: string): number {
    const left = this.#transactions.get(producer)
    if (left?.state === 'open') this.end(left, 'aborted')
    const epoch = (this.#producers.get(producer) ?? 0) + 1
    this.#producers.set(producer, epoch)
    return epoch
  }

  begin(producer: string, epoch: number): BrokerTransaction {
    if (this.#producers.get(producer) !== epoch) throw new SimulatedFault(`${producer} is fenced`)
    let finish = () => {}
    const finished = new Promise<void>(resolve => {
      finish = resolve
    })
    const transaction: BrokerTransaction = {
      producer,
      state: 'open',
      partitions: new Map(),
      offsets: new Map(),
      group: '',
      left: 0,
      cancelTimeout: () => {},
      finished,
      finish,
    }
    this.#transactions.set(producer, transaction)
    const { time, transactionTimeoutMs } = this.options
    const expire = () => this.end(transaction, 'aborted')
    transaction.cancelTimeout = time.schedule(expire, transactionTimeoutMs)
    return transaction
  }

  produce(transaction: BrokerTransaction, target: TopicPartition, batch: Buffer): AppendReceipt {
    this.#checkOpen(transaction)
    const receipt = this.#write(target, batch, transaction)
    const partition = this.partition(target)
    if (!partition.undecided.has(transaction)) {
      partition.undecided.set(transaction, receipt.baseOffset)
    }
    transaction.partitions.set(placeOf(target), partition)
    return receipt
  }

  #checkOpen({ state, producer }: BrokerTransaction): void {
    if (state !== 'open') throw new SimulatedFault(`the transaction of ${producer} is ${state}`)
  }

  addOffsets(transaction: BrokerTransaction, request: CommitRequest): void {
    this.#checkOpen(transaction)
    const { group = '', offsets = [] } = request
    if (offsets.length === 0) return
    checkGroup(group)
    for (const target of offsets) this.partition(target)
    this.options.checkMember?.(request)
    transaction.group = group
    for (const offset of offsets) transaction.offsets.set(placeOf(offset), { ...offset })
  }

  /** Decides a transaction; its markers follow. */
  end(transaction: BrokerTransaction, state: 'committed' | 'aborted'): void {
    this.#checkOpen(transaction)
    transaction.cancelTimeout()
    transaction.state = state
    if (state === 'committed') this.options.onCommit?.(transaction)
    this.counts[state === 'committed' ? 'commits' : 'aborts']++
    const { time, markerDelayMs } = this.options
    const { partitions, offsets } = transaction
    transaction.left = partitions.size + (offsets.size > 0 ? 1 : 0)
    const arrived = () => {
      if (--transaction.left > 0) return
      this.#transactions.delete(transaction.producer)
      transaction.finish()
    }
    const later = (work: () => void) => {
      const delayMs = markerDelayMs()
      if (delayMs > 0) time.schedule(work, delayMs)
      else work()
    }
    for (const partition of partitions.values()) {
      later(() => {
        partition.entries.push({ base: partition.end, next: partition.end + 1 })
        partition.end++
        partition.undecided.delete(transaction)
        partition.wake()
        arrived()
      })
    }
    if (offsets.size > 0) later(() => this.#applyOffsets(transaction, arrived))
    if (transaction.left === 0) {
      transaction.left = 1
      arrived()
    }
  }

  #applyOffsets(transaction: BrokerTransaction, arrived: () => void): void {
    const { group, offsets, state } = transaction
    if (state === 'committed') {
      const known = this.#groups.get(group) ?? new Map<string, CommittedOffset>()
      this.#groups.set(group, known)
      for (const [place, offset] of offsets) if (this.find(offset)) known.set(place, offset)
    }
    offsets.clear()
    for (const waiter of [...this.#offsetWaiters]) waiter()
    arrived()
  }

  isPending(group: string, target: TopicPartition): boolean {
    for (const transaction of this.#transactions.values()) {
      if (transaction.group === group && transaction.offsets.has(placeOf(target))) return true
    }
    return false
  }

  /** Resolves when no transaction holds offsets of these partitions open. */
  async stableOffsets(group: string, targets: readonly TopicPartition[]): Promise<void> {
    while (targets.some(target => this.isPending(group, target))) {
      await new Promise<void>(resolve => {
        const waiter = () => {
          this.#offsetWaiters.delete(waiter)
          resolve()
        }
        this.#offsetWaiters.add(waiter)
      })
    }
  }

  /** As last applied, pending ones not counted. */
  committed(group: string, target: TopicPartition): CommittedOffset | null {
    return this.#groups.get(group)?.get(placeOf(target)) ?? null
  }

  /** As it is or, once a marker has arrived, will be: its commit is decided. */
  decided(group: string, target: TopicPartition): number {
    let offset = this.committed(group, target)?.offset ?? 0
    for (const transaction of this.#transactions.values()) {
      const found = transaction.offsets.get(placeOf(target))
      if (transaction.state !== 'committed' || transaction.group !== group) continue
      offset = Math.max(offset, found?.offset ?? 0)
    }
    return offset
  }

  listGroups(): string[] {
    return [...this.#groups].flatMap(([name, { size }]) => (size > 0 ? [name] : [])).sort()
  }

  offsets(target: TopicPartition): OffsetRange {
    const { start, stable, end } = this.partition(target)
    return { startOffset: start, endOffset: stable, highWatermark: end }
  }

  read(request: FetchRequest): FetchResponse {
    const { topic, partition: number, offset, bytesMax } = request
    const partition = this.find(request)
    const answer = (bytes: Buffer[], nextOffset: number, error?: FetchResponse['error']) => ({
      topic,
      partition: number,
      bytes: Buffer.concat(bytes),
      nextOffset,
      startOffset: partition?.start ?? 0,
      endOffset: partition?.stable ?? 0,
      ...(error && { error }),
    })
    if (partition === undefined) return answer([], offset, 'unknown-topic')
    const { start, end, stable, entries } = partition
    if (offset < start || offset > end) return answer([], offset, 'offset-out-of-range')
    const found: Buffer[] = []
    let size = 0
    let next = offset
    for (let i = firstEndingAfter(entries, offset); i < entries.length; i++) {
      const { base, next: after, bytes, transaction } = entries[i]!
      if (base >= stable) break
      if (bytes !== undefined && transaction?.state !== 'aborted') {
        if (size > 0 && size + bytes.length > bytesMax) break
        found.push(bytes)
        size += bytes.length
      }
      next = after
    }
    return answer(found, next)
  }

  deleteRecords(target: TopicPartition, beforeOffset: number): void {
    const partition = this.partition(target)
    this.options.onDelete?.(target, beforeOffset)
    const before = Math.min(beforeOffset, partition.end)
    if (before <= partition.start) return
    partition.start = before
    this.counts.deletions++
    const kept = firstEndingAfter(partition.entries, before)
    partition.entries.splice(0, kept)
  }

  offsetForTimestamp(target: TopicPartition, timestampMs: number): number {
    const { start, stable } = this.partition(target)
    const { bytes } = this.read({ ...target, offset: start, bytesMax: Number.MAX_SAFE_INTEGER })
    for (const columns of decodeBatches(bytes, { fromOffset: start }).runs) {
      for (let i = 0; i < columns.length; i++) {
        if (columns.timestamps[i]! >= timestampMs) return columns.offsets[i]!
      }
    }
    return stable
  }
}

function firstEndingAfter(entries: readonly Entry[], offset: number): number {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (entries[middle]!.next <= offset) low = middle + 1
    else high = middle
  }
  return low
}

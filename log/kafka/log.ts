/**
 * The event log on Apache Kafka: the port's calls, each by the part of this folder that knows how.
 *
 * A commit of a group member goes through the engine's producer and is followed by its state: the
 * two are one after the other, in the order of the calls. A commit without a group goes through
 * the appender, beside them.
 */
import type { Database } from '../database.ts'
import { assert, logError, MillraceError } from '../errors.ts'
import type {
  AppendReceipt,
  CommitRequest,
  CommittedOffset,
  EventLog,
  ExclusiveWriter,
  FetchRequest,
  FetchResponse,
  GroupMember,
  OffsetRange,
  TopicConfig,
  TopicDescription,
  TopicPartition,
  Transaction,
} from '../port.ts'
import { decodeBatches } from '../record-columns.ts'
import { Appender } from './appender.ts'
import { Cluster, type ClusterOptions } from './cluster.ts'
import { Coalesced } from './coalesced.ts'
import { EpochCommits } from './epoch-commits.ts'
import { exclusiveWriter } from './exclusive-writer.ts'
import { Fetcher, type FetchWait } from './fetcher.ts'
import { Groups } from './groups.ts'
import { indexedOffset, partitionRanges, trimPartition } from './partition-offsets.ts'
import { pause } from './pause.ts'
import type { ProducerOptions } from './producer.ts'
import { ProducerSeat } from './producer-seat.ts'
import { Topics } from './topics.ts'
import { KafkaTransaction, type PendingAppend } from './transaction.ts'

export interface KafkaLogOptions extends ClusterOptions {
  /**
   * Stable over restarts and of one process at a time: opening the log fences whoever had it and
   * aborts what it left open. Absent: a new one, for tools and readers.
   */
  readonly transactionalId?: string
  /** Where the state of commits is written, strictly after their transactions. */
  readonly database?: Database
  /** Bound on a transaction; default 10 s (law 3). */
  readonly transactionTimeoutMs?: number
  /** Of topics made here; default -1, the cluster's own. */
  readonly replicas?: number
}

const CLOSE_WAIT_MS = 5_000

export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const cluster = await Cluster.connect(options)
  const log = new KafkaLog(cluster, options)
  try {
    if (options.transactionalId !== undefined) await log.takeOver()
    return log
  } catch (error) {
    await log.close()
    throw error
  }
}

export class KafkaLog implements EventLog {
  readonly cluster: Cluster
  readonly #topics: Topics
  readonly #groups: Groups
  readonly #ranges: Coalesced<TopicPartition, OffsetRange>
  readonly #fetcher: Fetcher
  readonly #seat: Pick<ProducerOptions, 'environment' | 'timeoutMs'>
  readonly #engine: ProducerSeat
  readonly #appending: ProducerSeat
  readonly #commits: EpochCommits
  readonly #appender: Appender
  readonly #underWay = new Set<Promise<unknown>>()
  #turn: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  constructor(cluster: Cluster, options: KafkaLogOptions) {
    const { environment, transactionTimeoutMs, database } = options
    const unique = `millrace-${environment.randomBytes(8).toString('hex')}`
    const transactionalId = options.transactionalId ?? unique
    this.cluster = cluster
    this.#topics = new Topics(cluster, options.replicas ?? -1)
    this.#groups = new Groups(cluster)
    this.#ranges = new Coalesced(environment, targets => partitionRanges(cluster, targets))
    this.#fetcher = new Fetcher({
      cluster,
      rangeOf: async target => (await partitionRanges(cluster, [target]))[0]!,
    })
    const seat = {
      environment,
      ...(transactionTimeoutMs !== undefined && { timeoutMs: transactionTimeoutMs }),
    }
    this.#seat = seat
    this.#engine = new ProducerSeat({ ...seat, cluster, transactionalId })
    this.#appending = new ProducerSeat({
      ...seat,
      cluster: cluster.beside('appends'),
      transactionalId: `${transactionalId}-appends`,
    })
    this.#commits = new EpochCommits(this.#engine, database, environment.reached)
    this.#appender = new Appender(this.#appending)
  }

  /** Fences whoever has the transactional id, and ends what it left open. */
  async takeOver(): Promise<void> {
    await Promise.all([this.#engine.producer(), this.#appending.producer()])
  }

  /** The cluster's id: what a broker acknowledged to all its replicas is not lost (law 20). */
  get incarnation(): string {
    return this.cluster.clusterId
  }

  createTopic(
    name: string,
    partitions: number,
    config: Partial<TopicConfig> = {},
  ): Promise<TopicDescription> {
    return this.#run(() => this.#topics.create(name, partitions, config))
  }

  describeTopic(name: string): Promise<TopicDescription | undefined> {
    return this.#run(() => this.#topics.describe(name))
  }

  listTopics(): Promise<readonly TopicDescription[]> {
    return this.#run(() => this.#topics.list())
  }

  deleteTopic(name: string): Promise<void> {
    return this.#run(() => this.#topics.delete(name))
  }

  deleteRecords(target: TopicPartition, beforeOffset: number): Promise<void> {
    return this.#run(() => trimPartition(this.cluster, target, beforeOffset))
  }

  fetch(
    requests: readonly FetchRequest[],
    options: FetchWait = {},
  ): Promise<readonly FetchResponse[]> {
    return this.#run(() => this.#fetcher.fetch(requests, options))
  }

  offsets(targets: readonly TopicPartition[]): Promise<readonly OffsetRange[]> {
    return this.#run(() => this.#ranges.ask(targets))
  }

  /** Kafka's index finds where to look; from there the records say it exactly. */
  offsetForTimestamp(target: TopicPartition, timestampMs: number): Promise<number> {
    return this.#run(async () => {
      const [range] = await partitionRanges(this.cluster, [target])
      const { startOffset, endOffset } = range!
      const indexed = await indexedOffset(this.cluster, target, timestampMs)
      // Once records were deleted, the index may say "none" because of those that are gone.
      const from = indexed ?? (startOffset > 0 ? startOffset : endOffset)
      for (let offset = Math.max(startOffset, from); offset < endOffset; ) {
        const request = { ...target, offset, bytesMax: 1 << 20 }
        const [response] = await this.#fetcher.fetch([request], {})
        const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
        for (const { length, timestamps, offsets } of runs) {
          for (let i = 0; i < length; i++) if (timestamps[i]! >= timestampMs) return offsets[i]!
        }
        const further = Math.max(nextOffset, response!.nextOffset)
        if (further <= offset) break
        offset = further
      }
      return endOffset
    })
  }

  committed(
    group: string,
    targets: readonly TopicPartition[],
    member?: GroupMember,
  ): Promise<readonly (CommittedOffset | null)[]> {
    return this.#run(() => this.#groups.committed(group, targets, member))
  }

  listGroups(): Promise<readonly string[]> {
    return this.#run(() => this.#groups.list())
  }

  begin(): Transaction {
    return new KafkaTransaction((appends, request) => this.#commit(appends, request))
  }

  /** A transactional id of that name: opening it fences whoever has it. */
  exclusive(name: string): Promise<ExclusiveWriter> {
    return this.#run(async () => {
      const cluster = this.cluster.beside('exclusive')
      const seat = new ProducerSeat({ ...this.#seat, cluster, transactionalId: name })
      await seat.producer()
      return exclusiveWriter(seat, name, work => this.#run(work))
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** What is under way may end by itself for a while, then it is called off. */
  async #close(): Promise<void> {
    this.#fetcher.close()
    const ended = Promise.allSettled(this.#underWay)
    const waited = new AbortController()
    await Promise.race([ended, pause(this.cluster.environment, CLOSE_WAIT_MS, waited.signal)])
    waited.abort()
    await Promise.all([this.#engine.close(), this.#appending.close()])
    await this.cluster.close()
    await ended
  }

  #commit(
    appends: readonly PendingAppend[],
    request: CommitRequest,
  ): Promise<readonly AppendReceipt[]> {
    return this.#run(async () => {
      const { own, note } = await this.#inOrder(this.#prepare(appends, request))
      const { member, state, offsets = [] } = request
      if (member !== undefined || state !== undefined) {
        const receipts = await this.#commits.commit({ appends, group: own }, state)
        note()
        return receipts
      }
      if (appends.length === 0 && offsets.length === 0) return []
      const receipts = await this.#appender.append(appends, own).catch(explainMembers)
      note()
      return receipts
    })
  }

  /** What a commit needs to know of topics and offsets before it, as nothing may fail after it. */
  async #prepare(appends: readonly PendingAppend[], request: CommitRequest) {
    const { group, member, offsets = [] } = request
    for (const target of [...appends.map(each => each.target), ...offsets]) {
      await this.cluster.partitionTopic(target)
    }
    const own = group === undefined ? undefined : groupOffsets(group, member, offsets)
    return { own, note: await this.#groups.noteOf(group ?? '', offsets) }
  }

  /** Resolves as `prepared` does, and not before the calls before this one have. */
  #inOrder<T>(prepared: Promise<T>): Promise<T> {
    const settled = Promise.allSettled([prepared])
    const turn = this.#turn.then(() => settled).then(() => prepared)
    this.#turn = turn.then(
      () => {},
      () => {},
    )
    return turn
  }

  /** Counts a call, so that `close` waits for it. */
  #run<T>(call: () => Promise<T>): Promise<T> {
    if (this.#closing) return Promise.reject(logError('LOG_CLOSED'))
    const done = call().finally(() => this.#underWay.delete(done))
    this.#underWay.add(done)
    return done
  }
}

/** At epoch -1 a broker takes offsets of a group without members, if they are not nobody's. */
const OUTSIDER = 'millrace'

function groupOffsets(
  id: string,
  member: GroupMember | undefined,
  offsets: readonly CommittedOffset[],
) {
  assert(member === undefined || member.id !== '', 'a member has an id')
  return { id, memberId: member?.id ?? OUTSIDER, memberEpoch: member?.epoch ?? -1, offsets }
}

function explainMembers(error: unknown): never {
  if (!(error instanceof MillraceError) || error.code !== 'KAFKA_MEMBER_FENCED') throw error
  const reason = 'its offsets belong to its members; stop them first'
  throw logError('GROUP_INVALID', { group: error.details.group, reason }, { cause: error })
}

/**
 * One Kafka cluster as the driver's parts see it: who leads what, and requests to a broker.
 *
 * Errors of the network are thrown, error codes of the protocol are in the answers: what a code
 * means, only the sender of the request knows. Leaders and coordinators are remembered until
 * somebody finds them stale, their broker fails, or (topics) they grow old.
 */
import { logError, MillraceError } from '../errors.ts'
import type { LogEnvironment, TopicPartition } from '../port.ts'
import {
  apiVersions,
  type CoordinatorKind,
  findCoordinator,
  metadata,
  type TopicMetadata,
} from './cluster-apis.ts'
import {
  type ClusterOptions,
  type Knowledge,
  nothingKnown,
  REQUEST_TIMEOUT_MS,
} from './cluster-knowledge.ts'
import { type BrokerAddress, nameOf } from './connections.ts'
import { ErrorCode, nameOf as errorName, isTransient } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { Backoff, pause } from './pause.ts'
import { missingFrom, supportsVersion } from './requirements.ts'
import { TopicCache } from './topic-cache.ts'
import type { KafkaApi } from './wire.ts'

export type { CoordinatorKind, PartitionMetadata, TopicMetadata } from './cluster-apis.ts'
export type { ClusterOptions } from './cluster-knowledge.ts'
export type { SaslOptions } from './sasl.ts'
export type { KafkaApi } from './wire.ts'

/**
 * What a connection is for: each (broker, purpose) has its own, so that what waits on one does
 * not hold up another. `fetch:1` and so on are further ones for long polls.
 */
export type Purpose =
  | 'metadata'
  | 'fetch'
  | `fetch:${number}`
  | 'produce'
  | 'coordinator'
  | 'heartbeat'

const SOFTWARE: [name: string, version: string] = ['millrace', '0.1.0']
/** What a topic that does not exist is called in metadata, also when its name could not exist. */
const MISSING: ReadonlySet<number> = new Set([
  ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
  ErrorCode.INVALID_TOPIC_EXCEPTION,
  ErrorCode.UNKNOWN_TOPIC_ID,
])
/** What was there is asked for at another broker before it counts as gone. */
const DOUBT_MS = 50
const METADATA_MAX_AGE_MS = 60_000

export class Cluster {
  readonly environment: LogEnvironment
  readonly requestTimeoutMs: number
  readonly #known: Knowledge
  readonly #topics: TopicCache
  readonly #suffix: string

  private constructor(options: ClusterOptions, view?: { of: Cluster; suffix: string }) {
    const { environment, requestTimeoutMs = REQUEST_TIMEOUT_MS } = options
    this.environment = environment
    this.requestTimeoutMs = requestTimeoutMs
    this.#suffix = view?.suffix ?? ''
    this.#known = view ? view.of.#known : nothingKnown(options)
    this.#topics = view ? view.of.#topics : this.#topicCache(options)
  }

  #topicCache({ metadataMaxAgeMs = METADATA_MAX_AGE_MS }: ClusterOptions): TopicCache {
    return new TopicCache({
      clock: this.environment.clock,
      maxAgeMs: metadataMaxAgeMs,
      load: names => this.#loadMetadata(names),
      beforeDoubt: () => {
        this.#known.turn++
        return pause(this.environment, DOUBT_MS)
      },
    })
  }

  /** The same cluster by connections of its own, so that neither waits behind the other. */
  beside(name: string): Cluster {
    const { environment, requestTimeoutMs } = this
    const options = { bootstrap: [], environment, requestTimeoutMs }
    return new Cluster(options, { of: this, suffix: `/${name}` })
  }

  /**
   * Finds the cluster by the first bootstrap broker that answers. Rejects with
   * KAFKA_UNREACHABLE, KAFKA_AUTHENTICATION, or KAFKA_UNSUPPORTED naming what it lacks.
   */
  static async connect(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options)
    try {
      let failure: unknown = new TypeError('No bootstrap broker was given')
      for (const address of cluster.#known.bootstrap) {
        try {
          await cluster.#open(address)
          return cluster
        } catch (error) {
          failure = error
          if (!isUnreachable(error)) break
        }
      }
      throw failure
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  async #open(address: BrokerAddress): Promise<void> {
    const found = await this.#known.connections.call(address, 'metadata', apiVersions, SOFTWARE)
    const missing = missingFrom(found)
    if (missing !== '') throw kafkaError('KAFKA_UNSUPPORTED', { broker: nameOf(address), missing })
    this.#known.versions = found
    try {
      await this.#loadMetadata([])
    } catch (error) {
      if (!isUnreachable(error) || error.details.sent === false) throw error
      // Versions are told to anybody; to the next request of a stranger a broker hangs up.
      const reason = `${error.details.reason} (it may demand credentials)`
      throw kafkaError('KAFKA_UNREACHABLE', { ...error.details, reason }, { cause: error })
    }
  }

  get clusterId(): string {
    return this.#known.clusterId
  }

  /** Brokers that the cluster had when it was last asked. */
  get nodes(): readonly number[] {
    return [...this.#known.brokers.keys()]
  }

  /**
   * One request to one broker. Rejects with a MillraceError: KAFKA_UNREACHABLE when there is no
   * definite answer (`details.sent` is false when it never left), KAFKA_AUTHENTICATION,
   * KAFKA_RESPONSE, LOG_CLOSED. Error codes are in the result.
   */
  async call<Args extends readonly unknown[], Result>(
    node: number,
    purpose: Purpose,
    api: KafkaApi<Args, Result>,
    ...args: Args
  ): Promise<Result> {
    const address = this.#known.brokers.get(node)
    if (address === undefined) {
      this.#forgetNode(node)
      const reason = 'it is not in the cluster (any more)'
      const details = { broker: node, request: 'a request', reason, sent: false }
      throw kafkaError('KAFKA_UNREACHABLE', details)
    }
    try {
      return await this.#known.connections.call(address, purpose + this.#suffix, api, args)
    } catch (error) {
      if (isUnreachable(error)) this.#forgetNode(node)
      throw error
    }
  }

  /** As `call`, to whichever broker answers; each is tried once. For requests that only ask. */
  callAny<Args extends readonly unknown[], Result>(
    purpose: Purpose,
    api: KafkaApi<Args, Result>,
    ...args: Args
  ): Promise<Result> {
    return this.#callAny(purpose, api, args, () => true)
  }

  /** As `callAny`, but what may have been carried out is not sent to the next one. */
  callOne<Args extends readonly unknown[], Result>(
    purpose: Purpose,
    api: KafkaApi<Args, Result>,
    ...args: Args
  ): Promise<Result> {
    return this.#callAny(purpose, api, args, ({ details }) => details.sent === false)
  }

  async #callAny<Args extends readonly unknown[], Result>(
    purpose: Purpose,
    api: KafkaApi<Args, Result>,
    args: Args,
    mayGoOn: (error: MillraceError) => boolean,
  ): Promise<Result> {
    const { brokers, bootstrap, connections, turn } = this.#known
    const known = [...brokers.values()]
    const inTurn = known.map((_, i) => known[(i + turn) % known.length]!)
    let failure: unknown
    for (const address of [...inTurn, ...bootstrap]) {
      try {
        return await connections.call(address, purpose + this.#suffix, api, args)
      } catch (error) {
        failure = error
        if (!isUnreachable(error)) throw error
        this.#known.turn++
        if (!mayGoOn(error)) throw error
      }
    }
    throw failure
  }

  /** Remembered or asked for; undefined when no such topic exists. */
  topic(name: string): Promise<TopicMetadata | undefined> {
    return this.#topics.get(name)
  }

  /** The topic of a partition. Rejects with TOPIC_MISSING or PARTITION_MISSING. */
  async partitionTopic({ topic: name, partition }: TopicPartition): Promise<TopicMetadata> {
    let topic = await this.topic(name)
    if (topic !== undefined && topic.partitions[partition] === undefined) {
      // Partitions may have been added since.
      this.staleTopic(name)
      topic = await this.topic(name)
    }
    if (topic === undefined) throw logError('TOPIC_MISSING', { topic: name })
    if (topic.partitions[partition] === undefined) {
      throw logError('PARTITION_MISSING', { topic: name, partition })
    }
    return topic
  }

  /** Only what is remembered. */
  topicById(id: string): TopicMetadata | undefined {
    return this.#topics.byId(id)
  }

  /** The next `topic` asks the cluster. */
  staleTopic(name: string): void {
    this.#topics.stale(name)
  }

  /** Every topic of the cluster, asked for now. */
  async allTopics(): Promise<readonly TopicMetadata[]> {
    const topics = await this.#loadMetadata(null)
    return topics.filter(topic => topic !== undefined)
  }

  /**
   * The broker that leads a partition. Waits while it has no leader, for as long as a request
   * may take. Rejects with TOPIC_MISSING, PARTITION_MISSING or KAFKA_UNREACHABLE.
   */
  async leader(target: TopicPartition): Promise<number> {
    const untilMs = this.environment.clock() + this.requestTimeoutMs
    const backoff = new Backoff(this.environment)
    for (;;) {
      const topic = await this.partitionTopic(target)
      const partition = topic.partitions[target.partition]!
      if (partition.leader >= 0 && this.#known.brokers.has(partition.leader))
        return partition.leader
      if (this.environment.clock() >= untilMs) {
        const reason = `${target.topic}-${target.partition} has no leader`
        const details = { broker: partition.leader, request: 'Metadata', reason, sent: false }
        throw kafkaError('KAFKA_UNREACHABLE', details)
      }
      this.staleTopic(target.topic)
      await backoff.wait()
    }
  }

  /** Where administrative requests go. With KRaft any broker passes them on. */
  async controller(): Promise<number> {
    if (!this.#known.brokers.has(this.#known.controller)) await this.#loadMetadata([])
    return this.#known.controller
  }

  /** The broker that keeps a group or a transactional id. Waits while there is none. */
  async coordinator(kind: CoordinatorKind, key: string): Promise<number> {
    const id = `${kind}/${key}`
    const untilMs = this.environment.clock() + this.requestTimeoutMs
    const backoff = new Backoff(this.environment)
    for (;;) {
      const known = this.#known.coordinators.get(id)
      if (known !== undefined) return known
      const { node, error } = await this.callAny('metadata', findCoordinator, kind, key)
      if (error === 0) {
        if (!this.#known.brokers.has(node)) await this.#loadMetadata([])
        this.#known.coordinators.set(id, node)
        return node
      }
      const request = `the search for the coordinator of ${kind} ${key}`
      if (!isTransient(error)) {
        throw refusalOf(request, error, { right: ['Describe', key] })
      }
      if (this.environment.clock() >= untilMs) {
        const details = {
          broker: this.nodes.join(),
          request,
          reason: errorName(error),
          sent: false,
        }
        throw kafkaError('KAFKA_UNREACHABLE', details)
      }
      await backoff.wait()
    }
  }

  /** The next `coordinator` asks the cluster. */
  staleCoordinator(kind: CoordinatorKind, key: string): void {
    this.#known.coordinators.delete(`${kind}/${key}`)
  }

  supports(apiKey: number, version: number): boolean {
    return (
      this.#known.versions !== undefined && supportsVersion(this.#known.versions, apiKey, version)
    )
  }

  /** The finalized level of a feature; 0 when the cluster does not have it. */
  feature(name: string): number {
    return this.#known.versions?.features.get(name) ?? 0
  }

  /** Requests under way are rejected. Idempotent. */
  close(): Promise<void> {
    return this.#known.connections.close()
  }

  /** What a lost broker led or kept has moved, or will. */
  #forgetNode(node: number): void {
    this.#topics.staleLeader(node)
    for (const [id, coordinator] of this.#known.coordinators) {
      if (coordinator === node) this.#known.coordinators.delete(id)
    }
  }

  async #loadMetadata(
    names: readonly string[] | null,
  ): Promise<readonly (TopicMetadata | undefined)[]> {
    const answer = await this.callAny('metadata', metadata, names)
    this.#known.clusterId = answer.clusterId
    this.#known.controller = answer.controller
    if (answer.brokers.length > 0) {
      this.#known.brokers = new Map(
        answer.brokers.map(({ node, host, port }) => [node, { host, port }]),
      )
    }
    return answer.topics.map(({ error, ...topic }) => {
      if (error === 0) return topic
      if (MISSING.has(error)) return undefined
      const right = ['Describe', topic.name] as const
      throw refusalOf(`the description of topic ${topic.name}`, error, { right })
    })
  }
}

export function isUnreachable(error: unknown): error is MillraceError {
  return error instanceof MillraceError && error.code === 'KAFKA_UNREACHABLE'
}

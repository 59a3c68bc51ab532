/**
 * Topics: the port's settings as Kafka's, and back. A topic made or removed here is so at every
 * broker that can be reached before the call returns: what follows may go to any of them.
 */
import { logError } from '../errors.ts'
import type { TopicConfig, TopicDescription } from '../port.ts'
import { checkTopic, topicConfig } from '../topics.ts'
import { type Cluster, isUnreachable, type TopicMetadata } from './cluster.ts'
import { metadata } from './cluster-apis.ts'
import { Coalesced } from './coalesced.ts'
import { ErrorCode, isTransient } from './error-codes.ts'
import { type Right, refusalOf } from './errors.ts'
import { Backoff } from './pause.ts'
import { createTopic, deleteTopic, describeTopicConfigs, type TopicOutcome } from './topic-apis.ts'

const LONGEST_MS = String(2n ** 63n - 1n)

function settingsOf(config: TopicConfig): Readonly<Record<string, string>> {
  return {
    'cleanup.policy': config.cleanup,
    'retention.ms': String(config.retentionMs),
    'retention.bytes': '-1',
    'delete.retention.ms': String(config.deleteRetentionMs),
    'max.message.bytes': String(config.batchBytesMax),
    // Batches stay as they were made: stores keep them as their own blocks.
    'compression.type': 'producer',
    // Records bear the event's time, however long ago that is (law 4).
    'message.timestamp.type': 'CreateTime',
    'message.timestamp.before.max.ms': LONGEST_MS,
    'message.timestamp.after.max.ms': LONGEST_MS,
  }
}

const READ = [
  'cleanup.policy',
  'retention.ms',
  'retention.bytes',
  'delete.retention.ms',
  'max.message.bytes',
  'message.timestamp.type',
]

function configOf(settings: ReadonlyMap<string, string>): TopicConfig {
  return {
    cleanup: settings.get('cleanup.policy')?.includes('compact') ? 'compact' : 'delete',
    retentionMs: Number(settings.get('retention.ms')),
    deleteRetentionMs: Number(settings.get('delete.retention.ms')),
    batchBytesMax: Number(settings.get('max.message.bytes')),
  }
}

function hazardsOf(settings: ReadonlyMap<string, string>): string[] {
  const deletes = settings.get('cleanup.policy')?.includes('delete')
  const limits = deletes ? ['retention.ms', 'retention.bytes'] : []
  const hazards = limits.filter(name => settings.get(name) !== '-1')
  if (settings.get('message.timestamp.type') !== 'CreateTime')
    hazards.push('message.timestamp.type')
  return hazards.map(name => `${name}=${settings.get(name)}`)
}

/** What a broker calls a topic that it would not make. */
const INVALID: ReadonlySet<number> = new Set([
  ErrorCode.INVALID_TOPIC_EXCEPTION,
  ErrorCode.INVALID_PARTITIONS,
  ErrorCode.INVALID_REPLICATION_FACTOR,
  ErrorCode.INVALID_CONFIG,
  ErrorCode.INVALID_REQUEST,
  ErrorCode.POLICY_VIOLATION,
])

export class Topics {
  readonly #cluster: Cluster
  readonly #replicas: number
  readonly #descriptions: Coalesced<string, TopicDescription | undefined>

  /** `replicas` of topics made here; -1 is the cluster's default. */
  constructor(cluster: Cluster, replicas: number) {
    this.#cluster = cluster
    this.#replicas = replicas
    this.#descriptions = new Coalesced(cluster.environment, names => this.#describeNames(names))
  }

  async create(
    name: string,
    partitions: number,
    config: Partial<TopicConfig>,
  ): Promise<TopicDescription> {
    const whole = topicConfig(config)
    checkTopic(name, partitions, whole)
    const topic = { name, partitions, replicas: this.#replicas, configs: settingsOf(whole) }
    const timeoutMs = this.#cluster.requestTimeoutMs
    const { outcome, isUnsure } = await this.#ask(() =>
      this.#cluster.callOne('metadata', createTopic, topic, timeoutMs),
    )
    const { error, message } = outcome
    const exists = error === ErrorCode.TOPIC_ALREADY_EXISTS
    if (exists && !isUnsure) {
      // The controller knows it; a broker may have yet to hear of it.
      await this.#untilEverywhere(name, topic => topic !== undefined)
      throw logError('TOPIC_EXISTS', { topic: name })
    }
    if (INVALID.has(error)) throw logError('TOPIC_INVALID', { topic: name, reason: message })
    if (error !== 0 && !exists)
      throw refusal(`the creation of topic ${name}`, outcome, ['Create', name])
    await this.#untilEverywhere(name, topic => topic !== undefined && hasLeaders(topic))
    const description = await this.describe(name)
    if (description === undefined) throw logError('TOPIC_MISSING', { topic: name })
    // Ours, unless it shows that it is not.
    if (exists && description.partitions !== partitions) {
      throw logError('TOPIC_EXISTS', { topic: name })
    }
    return description
  }

  async describe(name: string): Promise<TopicDescription | undefined> {
    const [description] = await this.#descriptions.ask([name])
    return description
  }

  async #describeNames(names: readonly string[]) {
    const asked = [...new Set(names)]
    for (const name of asked) this.#cluster.staleTopic(name)
    const topics = await Promise.all(asked.map(name => this.#cluster.topic(name)))
    const found = await this.#describeAll(topics.filter(topic => topic !== undefined))
    const byName = new Map(found.map(description => [description.name, description]))
    return names.map(name => byName.get(name))
  }

  /** By name, without Kafka's own. */
  async list(): Promise<readonly TopicDescription[]> {
    const topics = await this.#cluster.allTopics()
    const ours = topics.filter(topic => !topic.internal)
    return this.#describeAll(ours.sort((a, b) => (a.name < b.name ? -1 : 1)))
  }

  async delete(name: string): Promise<void> {
    const timeoutMs = this.#cluster.requestTimeoutMs
    const { outcome, isUnsure } = await this.#ask(() =>
      this.#cluster.callOne('metadata', deleteTopic, name, timeoutMs),
    )
    const isMissing = outcome.error === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    const isInvalid = outcome.error === ErrorCode.INVALID_TOPIC_EXCEPTION
    if ((isMissing && !isUnsure) || isInvalid) throw logError('TOPIC_MISSING', { topic: name })
    if (outcome.error !== 0 && !isMissing)
      throw refusal(`the deletion of topic ${name}`, outcome, ['Delete', name])
    await this.#untilEverywhere(name, topic => topic === undefined)
    this.#cluster.staleTopic(name)
  }

  async #describeAll(topics: readonly TopicMetadata[]): Promise<readonly TopicDescription[]> {
    if (topics.length === 0) return []
    const names = topics.map(topic => topic.name)
    const answers = await this.#cluster.callAny('metadata', describeTopicConfigs, names, READ)
    const settings = new Map(answers.map(answer => [answer.name, answer]))
    const described: TopicDescription[] = []
    for (const { name, id, partitions } of topics) {
      const answer = settings.get(name)
      // Deleted in between.
      if (answer?.error === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) continue
      if (answer === undefined || answer.error !== 0) {
        const refused = answer ?? { error: -1, message: null }
        throw refusal(`the settings of topic ${name}`, refused, ['DescribeConfigs', name])
      }
      described.push({
        name,
        id,
        partitions: partitions.length,
        config: configOf(answer.settings),
        hazards: hazardsOf(answer.settings),
      })
    }
    return described
  }

  /** Again while it passes; `isUnsure` when a lost request may have been carried out. */
  async #ask(send: () => Promise<TopicOutcome>) {
    const { environment, requestTimeoutMs } = this.#cluster
    const untilMs = environment.clock() + requestTimeoutMs
    const backoff = new Backoff(environment)
    let isUnsure = false
    for (;;) {
      const isLate = environment.clock() >= untilMs
      try {
        const outcome = await send()
        const waits = isTransient(outcome.error) && !MISSING.has(outcome.error)
        if (!waits || isLate) return { outcome, isUnsure }
        isUnsure ||= outcome.error === ErrorCode.REQUEST_TIMED_OUT
      } catch (error) {
        if (!isUnreachable(error) || isLate) throw error
        isUnsure ||= error.details.sent !== false
      }
      await backoff.wait()
    }
  }

  async #untilEverywhere(
    name: string,
    isThere: (topic: TopicMetadata | undefined) => boolean,
  ): Promise<void> {
    const { environment, requestTimeoutMs } = this.#cluster
    const untilMs = environment.clock() + requestTimeoutMs
    const knows = async (node: number) => {
      try {
        const { topics } = await this.#cluster.call(node, 'metadata', metadata, [name])
        return isThere(topics.find(({ error }) => error === 0))
      } catch (error) {
        // A broker that is away learns it before it is back.
        if (isUnreachable(error)) return true
        throw error
      }
    }
    await Promise.all(
      this.#cluster.nodes.map(async node => {
        const backoff = new Backoff(environment)
        while (!(await knows(node)) && environment.clock() < untilMs) await backoff.wait()
      }),
    )
    this.#cluster.staleTopic(name)
  }
}

/** Transient by their class, but a definite answer to an administrator. */
const MISSING: ReadonlySet<number> = new Set([ErrorCode.UNKNOWN_TOPIC_OR_PARTITION])

function hasLeaders({ partitions }: TopicMetadata): boolean {
  return partitions.length > 0 && partitions.every(({ leader }) => leader >= 0)
}

function refusal(request: string, { error, message }: TopicOutcome, right: Right): Error {
  return refusalOf(request, error, { detail: message === null ? '' : `: ${message}`, right })
}

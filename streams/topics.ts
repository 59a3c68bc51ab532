/** The topics an application needs: inputs are checked or created, internal ones created. */
import type { EventLog, TopicConfig, TopicDescription } from '../log/port.ts'
import { deadLetterTopic } from './assembly.ts'
import { deadLetterMarksTopic } from './dead-letter-marks.ts'
import type { EngineSettings } from './environment.ts'
import { MillraceError, streamsError } from './errors.ts'
import type { Plan } from './plan.ts'
import { changelogTopic, storesOf } from './task-parts.ts'
import type { Topology } from './topology.ts'

/**
 * Changelogs and dead letters are kept by the engine's rules, never by a clock (law 4):
 * changelogs of overwritten rows are compacted, those of blocks trimmed by the engine.
 */
const KEPT: Partial<TopicConfig> = { retentionMs: -1 }

export interface TopicOptions {
  readonly log: EventLog
  readonly topology: Topology
  readonly settings: EngineSettings
}

export interface PreparedTopics {
  /** Partition count of every topic the topology reads or writes. */
  readonly topicPartitions: ReadonlyMap<string, number>
  /** Changes when the application is reset. */
  readonly lettersTopicId: string
}

export async function prepareTopics(options: TopicOptions): Promise<PreparedTopics> {
  const { log, topology, settings } = options
  const partitions = new Map<string, number>()
  const ensure = async (name: string, wanted: number | undefined, missing: string) => {
    const found = await log.describeTopic(name)
    if (found === undefined && wanted === undefined) {
      throw streamsError('SOURCE_MISSING', { topic: missing })
    }
    const topic = found ?? (await createTopicOnce(log, name, wanted!))
    partitions.set(name, topic.partitions)
    return topic.id
  }
  for (const node of topology.nodes) {
    if (node.kind !== 'source' && node.kind !== 'sink') continue
    await ensure(node.topic, settings.createPartitions, node.topic)
  }
  const lettersTopicId = await ensure(deadLetterTopic(topology.application), 1, '')
  await marksTopic(log, topology.application)
  return { topicPartitions: partitions, lettersTopicId }
}

/** Creates the internal topics of an application that runs without a group: a group has its own. */
export async function prepareInternalTopics(log: EventLog, plan: Plan): Promise<void> {
  for (const subTopology of plan.subTopologies) {
    const { partitions } = subTopology
    for (const store of storesOf(plan, subTopology)) {
      const name = changelogTopic(plan.topology.application, store.name)
      const cleanup = store.kind === 'rows' ? 'compact' : 'delete'
      await internalTopic(log, name, { partitions, cleanup })
    }
    for (const id of subTopology.nodes) {
      const node = plan.topology.nodes[id]!
      if (node.kind !== 'source' || node.positions === undefined) continue
      await internalTopic(log, node.positions, { partitions, cleanup: 'delete' })
    }
  }
}

async function marksTopic(log: EventLog, application: string): Promise<void> {
  const name = deadLetterMarksTopic(application)
  if ((await log.describeTopic(name)) !== undefined) return
  await createTopicOnce(log, name, 1, { cleanup: 'compact' })
}

/** Creates a topic that is kept for ever; another instance may be doing so at the same moment. */
export async function createTopicOnce(
  log: EventLog,
  name: string,
  partitions: number,
  config: Partial<TopicConfig> = {},
): Promise<TopicDescription> {
  try {
    return await log.createTopic(name, partitions, { ...KEPT, ...config })
  } catch (error) {
    const exists = error instanceof MillraceError && error.code === 'TOPIC_EXISTS'
    const topic = exists ? await log.describeTopic(name) : undefined
    if (topic === undefined) throw error
    return topic
  }
}

async function internalTopic(
  log: EventLog,
  name: string,
  { partitions, cleanup }: { partitions: number; cleanup: TopicConfig['cleanup'] },
): Promise<void> {
  const found = await log.describeTopic(name)
  if (found === undefined) {
    await log.createTopic(name, partitions, { ...KEPT, cleanup })
  } else if (found.partitions !== partitions) {
    throw streamsError('TOPOLOGY_CHANGED', {
      reason: `${name} has ${found.partitions} partitions and the topology now needs ${partitions}`,
    })
  }
}

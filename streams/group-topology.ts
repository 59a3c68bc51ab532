/**
 * What a group must know of a topology to place its tasks and create its internal topics. It may
 * not change while the group has members, so nothing that is a setting is in it.
 */
import type { GroupSubTopology, GroupTopology, InternalTopic } from '../log/membership.ts'
import { TOPIC_CONFIG_DEFAULT } from '../log/topics.ts'
import { repartitionTopic } from './exchange-router.ts'
import type { Plan, SubTopology } from './plan.ts'
import { changelogTopic, storesOf } from './task-parts.ts'
import type { TopologyNode } from './topology.ts'

const LONGEST_MS = String(2n ** 63n - 1n)

/**
 * No broker clock deletes or refuses what is needed (law 4): event times may be of any age. And
 * what an input takes, 1 MiB, passes with what the engine adds to it.
 */
const KEPT = {
  'retention.ms': '-1',
  'retention.bytes': '-1',
  'message.timestamp.type': 'CreateTime',
  'message.timestamp.before.max.ms': LONGEST_MS,
  'message.timestamp.after.max.ms': LONGEST_MS,
  'max.message.bytes': String(TOPIC_CONFIG_DEFAULT.batchBytesMax),
}

export function groupTopology(plan: Plan): GroupTopology {
  return { subTopologies: plan.subTopologies.map(sub => describe(plan, sub)) }
}

function describe(plan: Plan, sub: SubTopology): GroupSubTopology {
  const { application } = plan.topology
  const inputs = sub.nodes
    .map(id => plan.topology.nodes[id]!)
    .filter(node => node.kind === 'source' || node.kind === 'exchange')
  // Kafka 4.3 compares the count of what only repartition topics lead to with that of every topic
  // of the application whose count is given (CopartitionedTopicsEnforcer): so such inputs are in
  // no co-partition group, and have the count on which the plan has found them to agree.
  const isSource = (node: TopologyNode) => node.kind === 'source' && node.positions === undefined
  const isGroup = inputs.length > 1 && inputs.some(isSource)
  const isAgreed = inputs.length > 1 && !isGroup
  const sourceTopics: string[] = []
  const repartitionSources: (InternalTopic & { partitions: number })[] = []
  const repartitionSinks: string[] = []
  for (const node of inputs) {
    if (node.kind === 'source' && node.positions !== undefined) {
      // The group places a task, and fences its offsets, by topics that no other task reads.
      const configs = { ...KEPT, 'cleanup.policy': 'delete' }
      repartitionSources.push({ name: node.positions, partitions: sub.partitions, configs })
      repartitionSinks.push(node.positions)
    } else if (node.kind === 'source') sourceTopics.push(node.topic)
    if (node.kind !== 'exchange') continue
    const name = repartitionTopic(application, node.name)
    const configs = { ...KEPT, 'cleanup.policy': 'delete' }
    // 0: as many as what writes there has.
    const isGiven = isAgreed || node.partitionsOf !== undefined || node.partitions !== undefined
    const partitions = isGiven ? sub.partitions : 0
    repartitionSources.push({ name, partitions, configs })
  }
  for (const { node, from } of plan.exchanges.values()) {
    if (from === sub) repartitionSinks.push(repartitionTopic(application, node.name))
  }
  const changelogs = storesOf(plan, sub).map(({ name, kind }) => ({
    name: changelogTopic(application, name),
    configs: { ...KEPT, 'cleanup.policy': kind === 'rows' ? 'compact' : 'delete' },
  }))
  const topics = [...sourceTopics, ...repartitionSources.map(({ name }) => name)]
  return {
    id: sub.name,
    sourceTopics,
    changelogs,
    repartitionSinks,
    repartitionSources,
    copartitionGroups: isGroup ? [topics] : [],
  }
}

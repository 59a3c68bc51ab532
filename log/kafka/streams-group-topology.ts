/**
 * A group's topology in the form in which the broker compares and keeps it, what differs between
 * two of them, and how topics lead to tasks.
 *
 * The broker calls any difference an update and refuses it, the order of topics included: so
 * every list is sorted here, and two equal topologies are equal bytes.
 */
import { assert } from '../errors.ts'
import type { GroupSubTopology, GroupTopology, MemberEndpoint, TaskIds } from '../membership.ts'
import { kafkaError } from './errors.ts'
import type {
  DescribedSubTopology,
  EndpointPartitions,
  TopicPartitions,
  WireCopartitionGroup,
  WireSubTopology,
  WireTopic,
} from './streams-group-wire.ts'

interface Topic {
  readonly name: string
  readonly partitions?: number
  readonly configs: Readonly<Record<string, string>>
}

const byName = (a: { name: string }, b: { name: string }) => compare(a.name, b.name)

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** `replicationFactor` 0 leaves it to the broker. */
function wireTopics(topics: readonly Topic[]): WireTopic[] {
  return topics
    .map(({ name, partitions = 0, configs }) => ({
      name,
      partitions,
      replicationFactor: 0,
      configs: Object.entries(configs).sort(([a], [b]) => compare(a, b)),
    }))
    .sort(byName)
}

function copartitionGroup(
  group: readonly string[],
  sub: Pick<WireSubTopology, 'id' | 'sourceTopics' | 'repartitionSources'>,
): WireCopartitionGroup {
  const sourceTopics: number[] = []
  const repartitionSources: number[] = []
  for (const topic of group) {
    const source = sub.sourceTopics.indexOf(topic)
    const repartition = sub.repartitionSources.findIndex(({ name }) => name === topic)
    assert(source >= 0 || repartition >= 0, `${topic} is an input of sub-topology ${sub.id}`)
    if (source >= 0) sourceTopics.push(source)
    else repartitionSources.push(repartition)
  }
  const rising = (values: number[]) => values.sort((a, b) => a - b)
  return { sourceTopics: rising(sourceTopics), repartitionSources: rising(repartitionSources) }
}

function wireSubTopology(sub: GroupSubTopology): WireSubTopology {
  const inputs = {
    id: sub.id,
    sourceTopics: sub.sourceTopics.toSorted(compare),
    repartitionSources: wireTopics(sub.repartitionSources),
  }
  return {
    ...inputs,
    changelogs: wireTopics(sub.changelogs),
    repartitionSinks: sub.repartitionSinks.toSorted(compare),
    copartitionGroups: sub.copartitionGroups
      .map(group => copartitionGroup(group, inputs))
      .sort((a, b) => compare(JSON.stringify(a), JSON.stringify(b))),
  }
}

/** Sorted throughout. What the broker would answer only with "unknown error" is asserted. */
export function wireTopology(topology: GroupTopology): readonly WireSubTopology[] {
  const subTopologies = topology.subTopologies
    .map(wireSubTopology)
    .sort((a, b) => compare(a.id, b.id))
  assert(subTopologies.length > 0, 'a topology has a sub-topology')
  const ids = new Set(subTopologies.map(({ id }) => id))
  assert(ids.size === subTopologies.length, 'sub-topologies have different ids')
  const written = new Set(subTopologies.flatMap(sub => sub.repartitionSinks))
  for (const { name } of subTopologies.flatMap(sub => sub.repartitionSources)) {
    assert(written.has(name), `a sub-topology writes the repartition topic ${name}`)
  }
  return subTopologies
}

function configsOf(topic: WireTopic): string {
  return JSON.stringify(topic.configs.toSorted(([a], [b]) => compare(a, b)))
}

/** The topic's settings; a count of 0 on either side is the broker's own choice. */
function sameTopic(stored: WireTopic, wanted: WireTopic): boolean {
  const samePartitions =
    wanted.partitions === 0 || stored.partitions === 0 || wanted.partitions === stored.partitions
  return samePartitions && configsOf(stored) === configsOf(wanted)
}

function differingNames(
  what: string,
  stored: readonly string[],
  wanted: readonly string[],
): string[] {
  const added = wanted.filter(name => !stored.includes(name)).map(name => `new ${what} ${name}`)
  const gone = stored.filter(name => !wanted.includes(name)).map(name => `no ${what} ${name}`)
  return [...added, ...gone]
}

function differingTopics(
  what: string,
  stored: readonly WireTopic[],
  wanted: readonly WireTopic[],
): string[] {
  const changed = wanted.filter(topic => {
    const before = stored.find(({ name }) => name === topic.name)
    return before !== undefined && !sameTopic(before, topic)
  })
  const names = (topics: readonly WireTopic[]) => topics.map(({ name }) => name)
  return [
    ...differingNames(what, names(stored), names(wanted)),
    ...changed.map(({ name }) => `other settings of ${what} ${name}`),
  ]
}

/**
 * What `wanted` has that the group's stored topology has not, and the reverse, in words; empty
 * when they agree as far as a description shows: it has no copartition groups, and partition
 * counts are those in force, not those asked for.
 */
export function topologyDifferences(
  stored: readonly DescribedSubTopology[],
  wanted: readonly WireSubTopology[],
): string[] {
  const ids = (list: readonly { id: string }[]) => list.map(({ id }) => id)
  const differences = differingNames('sub-topology', ids(stored), ids(wanted))
  for (const sub of wanted) {
    const before = stored.find(({ id }) => id === sub.id)
    if (before === undefined) continue
    differences.push(
      ...differingNames('source topic', before.sourceTopics, sub.sourceTopics),
      ...differingTopics('changelog', before.changelogs, sub.changelogs),
      ...differingNames('repartition output', before.repartitionSinks, sub.repartitionSinks),
      ...differingTopics('repartition topic', before.repartitionSources, sub.repartitionSources),
    )
  }
  return differences
}

/** Sub-topology by input topic: a topic is read by one sub-topology. */
export type SubTopologiesByTopic = ReadonlyMap<string, string>

export function subTopologiesByTopic(
  subTopologies: readonly WireSubTopology[],
): SubTopologiesByTopic {
  const byTopic = new Map<string, string>()
  for (const { id, sourceTopics, repartitionSources } of subTopologies) {
    for (const topic of [...sourceTopics, ...repartitionSources.map(({ name }) => name)]) {
      assert(!byTopic.has(topic), `${topic} is read by one sub-topology`)
      byTopic.set(topic, id)
    }
  }
  return byTopic
}

/** A task is where one of its input partitions is. Topics of another topology are left out. */
function tasksAt(partitions: TopicPartitions, byTopic: SubTopologiesByTopic): TaskIds {
  const tasks = new Map<string, Set<number>>()
  for (const [topic, list] of partitions) {
    const id = byTopic.get(topic)
    if (id === undefined) continue
    const set = tasks.get(id) ?? new Set()
    for (const partition of list) set.add(partition)
    tasks.set(id, set)
  }
  const sorted = [...tasks].sort(([a], [b]) => compare(a, b))
  return Object.fromEntries(sorted.map(([id, set]) => [id, [...set].sort((a, b) => a - b)]))
}

export function memberEndpoints(
  endpoints: readonly EndpointPartitions[],
  byTopic: SubTopologiesByTopic,
): MemberEndpoint[] {
  return endpoints
    .map(({ host, port, active, standby }) => ({
      host,
      port,
      active: tasksAt(active, byTopic),
      standby: tasksAt(standby, byTopic),
    }))
    .sort((a, b) => compare(a.host, b.host) || a.port - b.port)
}

/** Kafka's rules for topic names; the broker itself answers them with an unclear error. */
const TOPIC_NAME = /^[a-zA-Z0-9._-]{1,249}$/

/** Throws GROUP_TOPOLOGY_INVALID where a name would be refused. */
export function checkTopicNames(subTopologies: readonly WireSubTopology[]): void {
  for (const sub of subTopologies) {
    const internal = [...sub.changelogs, ...sub.repartitionSources].map(({ name }) => name)
    for (const topic of [...sub.sourceTopics, ...internal]) {
      if (TOPIC_NAME.test(topic) && topic !== '.' && topic !== '..') continue
      const reason = `${JSON.stringify(topic)} is no name of a Kafka topic (1 to 249 letters, digits, ".", "_" or "-")`
      throw kafkaError('GROUP_TOPOLOGY_INVALID', { reason })
    }
  }
}

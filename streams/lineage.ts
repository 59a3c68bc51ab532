/**
 * Which branch each stateful step is in, read from what every instance sees and nothing loses: the
 * internal topics that there are, and what the group has committed.
 *
 *     one of its changelogs is there                    the branch that is in its name
 *     none, and of the topics above it nothing is read  branch 0: the application begins
 *     none, and something of them is read               it is new
 *
 * All that is new goes into one branch, the next number. A branch of which nothing is committed
 * yet takes in what is new, so that a start which is killed amidst its topics does not scatter it.
 */
import type { EventLog, TopicDescription, TopicPartition } from '../log/port.ts'
import {
  branchOfPositions,
  copyInBranch,
  isPositionsTopic,
  type Lineage,
  latestAbove,
  storeInBranch,
} from './branches.ts'
import type { NewState } from './environment.ts'
import { streamsError } from './errors.ts'
import { eventTimeStore } from './event-time.ts'
import type { Plan } from './plan.ts'
import { changelogTopic } from './task-parts.ts'
import type { OperatorNode, SourceNode, Topology, TopologyNode } from './topology.ts'

export interface LineageOptions {
  readonly log: EventLog
  readonly topology: Topology
  /** What becomes of state that is new. */
  readonly newState: NewState
}

/** Its source topics exist. */
export async function readLineage(options: LineageOptions): Promise<Lineage> {
  const { log, topology } = options
  for (let topics = await log.listTopics(); ; ) {
    const facts = await readFacts(log, topology, topics)
    // Another instance may just have made and begun a branch, whose topics were not all there yet.
    const again = await log.listTopics()
    if (again.length === topics.length) return lineageOf(options, facts)
    topics = again
  }
}

export interface Facts {
  /** Names of topics that may be internal ones of the application. */
  readonly topics: readonly string[]
  /** Topics of which something is read, as the group's offsets say. */
  readonly read: ReadonlySet<string>
}

async function readFacts(
  log: EventLog,
  { application, nodes }: Topology,
  topics: readonly TopicDescription[],
): Promise<Facts> {
  const sources = new Set(nodes.flatMap(node => (node.kind === 'source' ? [node.topic] : [])))
  const internal = topics.filter(({ name }) => name.startsWith(`${application}-`))
  const targets = [
    ...topics.filter(({ name }) => sources.has(name)),
    ...internal.filter(({ name }) => branchOfPositions(name) > 0),
  ].flatMap(partitionsOf)
  const committed = await log.committed(application, targets)
  const ranges = await log.offsets(targets)
  const isRead = ({ topic }: TopicPartition, i: number) => {
    const offset = committed[i]?.offset
    // At the start of what a topic has, nothing is left out by beginning there.
    return offset !== undefined && (!sources.has(topic) || offset > ranges[i]!.startOffset)
  }
  const read = new Set(targets.filter(isRead).map(({ topic }) => topic))
  return { topics: internal.map(({ name }) => name), read }
}

function partitionsOf({ name, partitions }: TopicDescription): TopicPartition[] {
  return Array.from({ length: partitions }, (_, partition) => ({ topic: name, partition }))
}

/** The same from facts that were found otherwise. */
export function lineageOf(
  { topology, newState }: Omit<LineageOptions, 'log'>,
  facts: Facts,
): Lineage {
  const lineage = new Map<number, number>()
  const branch = nextBranch(facts)
  const isRead = (node: TopologyNode) =>
    [...upFrom(topology, node)].some(
      above => above.kind === 'source' && isSourceRead(topology, above, facts),
    )
  for (const node of topology.nodes) {
    if (node.kind !== 'operator' || node.stores.length === 0) continue
    const { application } = topology
    const begun = node.stores.flatMap(({ name }) =>
      branchesOfStore(application, name, facts.topics),
    )
    if (begun.length > 0) lineage.set(node.id, Math.max(...begun))
    else if (!isRead(node)) lineage.set(node.id, 0)
    else if (newState === 'beginning') lineage.set(node.id, branch)
    else lineage.set(node.id, latestAbove(topology, lineage)[node.id]!)
  }
  if (newState === 'beginning') checkAbove(topology, lineage, facts)
  return lineage
}

/**
 * Refuses steps that have state and would go on below others that have none yet: what these would
 * have made of the input before is missing there. Throws TOPOLOGY_CHANGED.
 */
function checkAbove(topology: Topology, lineage: Lineage, { topics, read }: Facts): void {
  const { application, nodes } = topology
  const has = (stores: readonly string[]) =>
    stores.some(store => topics.includes(changelogTopic(application, store)))
  for (const [id, branch] of lineage) {
    const node = nodes[id] as OperatorNode
    if (!has(node.stores.map(({ name }) => storeInBranch(name, branch)))) continue
    if (![...read].some(topic => branchOfPositions(topic) === branch)) continue
    for (const above of upFrom(topology, node)) {
      const home = lineage.get(above.id)
      if (home === undefined) continue
      const inBranch = home === branch ? storeInBranch : copyInBranch
      if (has((above as OperatorNode).stores.map(({ name }) => inBranch(name, branch)))) continue
      const reason = `${node.name} has state, and is now made of what ${above.name} makes, which is new there. Give ${node.name} a new name, too, or start once with NEW_STATE=now (the setting newState) to have ${above.name} begin with what comes`
      throw streamsError('TOPOLOGY_CHANGED', { reason })
    }
  }
}

function nextBranch({ topics, read }: Facts): number {
  const numbers = topics.map(name =>
    Number(/\.b(\d+)-(changelog|repartition|positions)$/.exec(name)?.[1] ?? 0),
  )
  const last = Math.max(0, ...numbers)
  const begun = [...read].some(topic => branchOfPositions(topic) === last)
  return last === 0 || begun ? last + 1 : last
}

/** The branches in which a store has begun, as its changelogs tell. */
export function branchesOfStore(
  application: string,
  store: string,
  topics: readonly string[],
): number[] {
  const begin = `${application}-${store}`
  return topics.flatMap(topic => {
    if (topic === changelogTopic(application, store)) return [0]
    if (!topic.startsWith(`${begin}.b`)) return []
    const match = /^\.b(\d+)-changelog$/.exec(topic.slice(begin.length))
    return match === null ? [] : [Number(match[1])]
  })
}

/** A node and all above it. */
function upFrom({ nodes }: Topology, node: TopologyNode): ReadonlySet<TopologyNode> {
  const above = new Set([node])
  for (const { parents } of above) for (const edge of parents) above.add(nodes[edge.node]!)
  return above
}

function isSourceRead({ application }: Topology, { topic }: SourceNode, { read }: Facts): boolean {
  return read.has(topic) || [...read].some(name => isPositionsTopic(name, application, topic))
}

/**
 * Event time is kept by the steps that run in one task. Refuses a plan in which steps with state
 * run together with others than before: their event time would begin anew, and late records
 * would be taken. Throws TOPOLOGY_CHANGED.
 */
export async function checkTogether(log: EventLog, plan: Plan): Promise<void> {
  const { application, nodes } = plan.topology
  const topics = new Map((await log.listTopics()).map(topic => [topic.name, topic]))
  for (const sub of plan.subTopologies) {
    const eventTime = changelogTopic(application, eventTimeStore(sub.name))
    if (topics.has(eventTime)) continue
    const steps = sub.nodes.map(id => nodes[id]!).filter(node => node.kind === 'operator')
    for (const { name } of steps.flatMap(({ stores }) => stores)) {
      const changelog = topics.get(changelogTopic(application, name))
      if (changelog === undefined) continue
      const ranges = await log.offsets(partitionsOf(changelog))
      if (ranges.every(({ highWatermark }) => highWatermark === 0)) continue
      // Another instance may have begun since the list.
      if ((await log.describeTopic(eventTime)) !== undefined) continue
      const reason = `the step of the store ${name} ran together with steps of other inputs than ${sub.name}, and their event time is kept together. Keep what joined or parted them`
      throw streamsError('TOPOLOGY_CHANGED', { reason })
    }
  }
}

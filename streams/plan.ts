/**
 * Validates a topology whole and cuts it into sub-topologies: the connected parts that remain
 * when every exchange is cut. A task is one sub-topology for one partition.
 */
import { streamsError } from './errors.ts'
import type { ExchangeNode, SourceNode, Topology, TopologyNode } from './topology.ts'

export interface SubTopology {
  /** Names of its inputs: stable while the topology's names are. */
  readonly name: string
  readonly partitions: number
  /** The branch that all of its nodes are in. */
  readonly branch: number
  /** Ids of its nodes in topological order; an exchange stands where its records arrive. */
  readonly nodes: readonly number[]
}

/** Where the records of a source come from; its place in the plan's list is its index. */
export interface SourceOrigin {
  readonly topic: string
  readonly partition: number
}

/** The two ends of an exchange. */
export interface ExchangeEnds {
  readonly node: ExchangeNode
  readonly from: SubTopology
  readonly to: SubTopology
}

export interface Plan {
  readonly topology: Topology
  /** Upstream before downstream. */
  readonly subTopologies: readonly SubTopology[]
  readonly sources: readonly SourceNode[]
  /** All partitions of the topics read: the `sources` column of batches counts in this list. */
  readonly origins: readonly SourceOrigin[]
  /** By node id. */
  readonly exchanges: ReadonlyMap<number, ExchangeEnds>
}

function invalid(reason: string): never {
  throw streamsError('TOPOLOGY_INVALID', { reason })
}

/** Sub-topology number of each node, parents joined with children except across exchanges. */
function components(topology: Topology): number[] {
  const group = topology.nodes.map((_, id) => id)
  const find = (id: number): number => {
    while (group[id] !== id) id = group[id] = group[group[id]!]!
    return id
  }
  for (const node of topology.nodes) {
    if (node.kind === 'exchange') continue
    for (const parent of node.parents) group[find(node.id)] = find(parent.node)
  }
  return topology.nodes.map((_, id) => find(id))
}

function checkNames(topology: Topology): void {
  const seen = new Map<string, string>()
  const claim = (kind: string, name: string) => {
    const id = `${kind} ${name}`
    if (seen.has(id)) invalid(`two ${kind}s are named ${name}`)
    seen.set(id, name)
  }
  for (const node of topology.nodes) {
    if (node.kind === 'exchange') claim('exchange', node.name)
    if (node.kind === 'operator') for (const store of node.stores) claim('store', store.name)
    if (node.kind === 'source') claim('source topic', node.name)
  }
  for (const view of topology.views) claim('view', view.declaration.name)
}

/** Law 8: below emit-on-update results a time-dependent step would keep nothing, or half. */
function checkEmissions(topology: Topology): void {
  const updates = topology.nodes.map(
    node => node.kind === 'operator' && node.emission === 'updates',
  )
  for (const node of topology.nodes) {
    if (node.kind !== 'operator' || !node.timeDependent) continue
    const open = [...node.parents]
    while (open.length > 0) {
      const edge = open.pop()!
      if (edge.output !== 'main') continue
      const parent = topology.nodes[edge.node]!
      if (updates[parent.id]) {
        invalid(
          `${node.name} decides by event time but is fed with the updates of ${parent.name}, whose times depend on arrival: emit ${parent.name} on close, or declare ${node.name} unstable`,
        )
      }
      if (parent.kind !== 'operator') open.push(...parent.parents)
      else if (parent.emission === 'records') {
        // Changes of a joined table make no results.
        open.push(...parent.parents.filter((_, port) => !parent.passivePorts?.includes(port)))
      }
    }
  }
}

function partitionsOf(
  nodes: readonly TopologyNode[],
  exchanges: ReadonlyMap<number, number>,
  topicPartitions: ReadonlyMap<string, number>,
): number {
  let count = 0
  let by = ''
  for (const node of nodes) {
    const own =
      node.kind === 'source'
        ? topicPartitions.get(node.topic)
        : node.kind === 'exchange'
          ? exchanges.get(node.id)
          : undefined
    if (own === undefined) continue
    if (count !== 0 && own !== count) {
      invalid(
        `${by} has ${count} partitions and ${node.name} has ${own}, but their records meet in one task: give them equal counts`,
      )
    }
    count = own
    by = node.name
  }
  return count
}

/** `topicPartitions` has every source topic's partition count. Throws TOPOLOGY_INVALID. */
export function planTopology(
  topology: Topology,
  topicPartitions: ReadonlyMap<string, number>,
): Plan {
  checkNames(topology)
  checkEmissions(topology)
  const component = components(topology)
  const order = [...new Set(component)].sort(
    (a, b) => depth(topology, component, a) - depth(topology, component, b) || a - b,
  )
  const exchanges = new Map<number, number>()
  const subTopologies: SubTopology[] = []
  for (const root of order) {
    const nodes = topology.nodes.filter(node => component[node.id] === root)
    for (const node of nodes) {
      if (node.kind !== 'exchange') continue
      const like = component[node.partitionsOf ?? node.parents[0]!.node]!
      // Those that go to the tasks of a node in their own sub-topology add nothing to its count.
      if (like === root) continue
      const index = order.indexOf(like)
      exchanges.set(node.id, node.partitions ?? subTopologies[index]!.partitions)
    }
    const inputs = nodes.filter(node => node.kind === 'source' || node.kind === 'exchange')
    if (inputs.length === 0) invalid(`${nodes[0]!.name} has no input`)
    subTopologies.push({
      name: inputs.map(node => node.name).join('.'),
      partitions: partitionsOf(nodes, exchanges, topicPartitions),
      branch: nodes[0]!.branch ?? 0,
      nodes: nodes.map(node => node.id),
    })
  }
  const sources = topology.nodes.filter(node => node.kind === 'source')
  if (sources.length === 0) invalid('it reads no topic')
  const origins = [...new Set(sources.map(({ topic }) => topic))].flatMap(topic =>
    Array.from({ length: topicPartitions.get(topic)! }, (_, partition) => ({ topic, partition })),
  )
  const ends = exchangeEnds(topology, subTopologies)
  return { topology, subTopologies, sources, origins, exchanges: ends }
}

function exchangeEnds(
  topology: Topology,
  subTopologies: readonly SubTopology[],
): Map<number, ExchangeEnds> {
  const ends = new Map<number, ExchangeEnds>()
  const holder = (node: number) => subTopologies.find(({ nodes }) => nodes.includes(node))!
  for (const node of topology.nodes) {
    if (node.kind !== 'exchange') continue
    ends.set(node.id, { node, from: holder(node.parents[0]!.node), to: holder(node.id) })
  }
  return ends
}

/** A sub-topology and all that exchanges lead to from it. */
export function withDownstream(
  { exchanges }: Pick<Plan, 'exchanges'>,
  first: SubTopology,
): ReadonlySet<SubTopology> {
  const found = new Set([first])
  for (const sub of found) {
    for (const { from, to } of exchanges.values()) if (from === sub) found.add(to)
  }
  return found
}

/** Exchanges between a sub-topology and the sources; a cycle of exchanges cannot be built. */
function depth(topology: Topology, component: readonly number[], root: number): number {
  const memo = new Map<number, number>()
  const visit = (of: number): number => {
    const known = memo.get(of)
    if (known !== undefined) return known
    memo.set(of, 0)
    let deepest = 0
    for (const node of topology.nodes) {
      if (component[node.id] !== of || node.kind !== 'exchange') continue
      for (const parent of node.parents) {
        if (component[parent.node] === of) {
          invalid(`${node.name} feeds the step it is fed by, without a topic between them`)
        }
        deepest = Math.max(deepest, visit(component[parent.node]!) + 1)
      }
    }
    memo.set(of, deepest)
    return deepest
  }
  return visit(root)
}

/**
 * Branches: the steps of a topology that began together. Branch 0 is the application as it was
 * first started. Stateful steps that a later deployment adds are a branch of their own, with copies
 * of the steps above them up to the sources, which it reads from their beginning at a pace of its
 * own: so their state is built while all others go on. A branch stays one until a reset.
 *
 *     orders ── filter ── totals            branch 0
 *     orders.b1 ── filter ── by-region      branch 1: a view added later
 *
 * The input offsets of a branch n above 0 are those that the group commits for an empty topic of
 * the same partitions, `<application>-<topic>.b<n>-positions`: a group has one offset a partition.
 */
import type { OperatorContext, StoreSpec } from './operator.ts'
import { type OperatorNode, type SourceNode, Topology, type TopologyNode } from './topology.ts'

/** The branch of each stateful step, by node id. */
export type Lineage = ReadonlyMap<number, number>

/** Name of a store in the branch in which it began: its topics tell that branch. */
export function storeInBranch(store: string, branch: number): string {
  return branch === 0 ? store : `${store}.b${branch}`
}

/** Name of a copy, of a step or its store, that another branch keeps for its own steps. */
export function copyInBranch(name: string, branch: number): string {
  return `${name}.copy${branch}`
}

/** The topic for whose partitions the group commits how far a branch has read a source. */
export function positionsTopic(application: string, topic: string, branch: number): string {
  return `${application}-${topic}.b${branch}-positions`
}

export function isPositionsTopic(name: string, application: string, topic: string): boolean {
  const branch = branchOfPositions(name)
  return branch > 0 && name === positionsTopic(application, topic, branch)
}

/** The branch whose positions a topic stands for; 0 for any other topic. */
export function branchOfPositions(topic: string): number {
  return Number(/\.b(\d+)-positions$/.exec(topic)?.[1] ?? 0)
}

/**
 * The topology as it runs: the steps of each branch with what they need. Names of branch 0 are
 * the given ones; stores, exchanges and copies of others have ends.
 */
export function branchTopology(topology: Topology, lineage: Lineage): Topology {
  const homes = homesOf(topology, lineage)
  const branches = [...new Set(homes)].sort((a, b) => a - b)
  if (branches.every(branch => branch === 0)) return topology
  const result = new Topology(topology.application)
  for (const branch of branches) addBranch(result, { topology, homes, branch })
  return result
}

/**
 * The branch that stands for each step: it counts and keeps what the step drops. Of a stateful step
 * it is the branch in which it began, of a sink the latest of the steps above it, of any other
 * the first in which it is needed.
 */
function homesOf(topology: Topology, lineage: Lineage): number[] {
  const { nodes } = topology
  const latest = latestAbove(topology, lineage)
  const homes: number[] = new Array(nodes.length)
  for (const { id } of nodes.toReversed()) {
    const own = lineage.get(id)
    const below = nodes.filter(({ parents }) => parents.some(({ node }) => node === id))
    const first = Math.min(...below.map(child => homes[child.id]!))
    homes[id] = own ?? (below.length === 0 ? latest[id]! : first)
  }
  return homes
}

/** The latest branch among the stateful steps above each step, itself included. */
export function latestAbove({ nodes }: Topology, lineage: Lineage): number[] {
  const latest: number[] = []
  for (const { id, parents } of nodes) {
    const above = parents.map(({ node }) => latest[node]!)
    latest.push(lineage.get(id) ?? Math.max(0, ...above))
  }
  return latest
}

interface BranchOptions {
  readonly topology: Topology
  readonly homes: readonly number[]
  readonly branch: number
}

function addBranch(result: Topology, { topology, homes, branch }: BranchOptions): void {
  const { application, nodes, views } = topology
  const needed = new Set(nodes.filter(({ id }) => homes[id] === branch).map(({ id }) => id))
  for (const { id, parents } of nodes.toReversed()) {
    if (needed.has(id)) for (const { node } of parents) needed.add(node)
  }
  const ids = new Map<number, number>()
  const stores = new Map<string, string>()
  for (const node of nodes) {
    if (!needed.has(node.id)) continue
    const id = result.nodes.length
    ids.set(node.id, id)
    result.nodes.push({
      ...node,
      ...inBranch(application, node, { branch, home: homes[node.id]!, stores }),
      id,
      parents: node.parents.map(edge => ({ ...edge, node: ids.get(edge.node)! })),
      ...(node.kind === 'exchange' &&
        node.partitionsOf !== undefined && { partitionsOf: ids.get(node.partitionsOf)! }),
    } as TopologyNode)
  }
  for (const view of views) {
    if (homes[view.node] !== branch) continue
    const store = storeInBranch(view.store, branch)
    result.views.push({ ...view, node: ids.get(view.node)!, store })
  }
}

interface Place {
  readonly branch: number
  readonly home: number
  /** The stores of the branch, by the names that their steps gave them. */
  readonly stores: Map<string, string>
}

/** What is otherwise in a step of that branch. */
function inBranch(
  application: string,
  node: TopologyNode,
  { branch, home, stores }: Place,
): Partial<SourceNode | OperatorNode> {
  const copy = home !== branch
  const marks = { branch, copy }
  if (node.kind === 'operator') {
    const own = node.stores.map(({ name, ...store }) => {
      const renamed = copy ? copyInBranch(name, branch) : storeInBranch(name, branch)
      stores.set(name, renamed)
      return { ...store, name: renamed }
    })
    return {
      ...marks,
      name: copy && own.length > 0 ? copyInBranch(node.name, branch) : node.name,
      stores: own as StoreSpec[],
      create: context => node.create(withStores(context, stores)),
    }
  }
  if (branch === 0) return marks
  const name = `${node.name}.b${branch}`
  if (node.kind === 'exchange') return { ...marks, name }
  if (node.kind !== 'source') return marks
  return { ...marks, name, positions: positionsTopic(application, node.topic, branch) }
}

/** A step asks for stores, its own and those of the tables it joins, by the names given to them. */
function withStores(
  context: OperatorContext,
  stores: ReadonlyMap<string, string>,
): OperatorContext {
  const nameOf = (store: string) => stores.get(store) ?? store
  return {
    ...context,
    rowStore: <V>(store: string) => context.rowStore<V>(nameOf(store)),
    appendStore: store => context.appendStore(nameOf(store)),
  }
}

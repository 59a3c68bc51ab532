/**
 * Which steps a replayed record has to pass: those between its source and the step that put it
 * aside. All others had it before.
 */
import type { Topology, TopologyNode } from './topology.ts'

/** The name that a step has in every branch. */
export function stepName(node: TopologyNode): string {
  const { kind, name, branch = 0 } = node
  if (kind === 'source' && branch > 0) return name.replace(/\.b\d+$/, '')
  return node.copy === true ? name.replace(/\.copy\d+$/, '') : name
}

/** The way to a step, in all branches that have it. */
export interface StepWay {
  /** Ids of the steps of that name and of all above them; empty when there is none. */
  readonly nodes: ReadonlySet<number>
  /** The branch that tells what becomes of records on that way; undefined when there is none. */
  readonly home: number | undefined
}

function stepsTowards({ nodes }: Pick<Topology, 'nodes'>, step: string): StepWay {
  const targets = nodes.filter(node => stepName(node) === step)
  const towards = new Set(targets.map(({ id }) => id))
  for (const { id, parents } of nodes.toReversed()) {
    if (towards.has(id)) for (const { node } of parents) towards.add(node)
  }
  const own = targets.find(({ copy }) => copy !== true)
  return { nodes: towards, home: own && (own.branch ?? 0) }
}

export type StepsTowards = (step: string) => StepWay

/** The same, kept for each step asked for. */
export function stepsTowardsOf(topology: Pick<Topology, 'nodes'>): StepsTowards {
  const known = new Map<string, StepWay>()
  return step => {
    const found = known.get(step) ?? stepsTowards(topology, step)
    known.set(step, found)
    return found
  }
}

/** What of a letter decides whether it can be replayed. */
export interface Replayable {
  readonly step: string | null
  readonly taken: 'nothing' | 'part' | null
  readonly place: { readonly topic: string } | null
}

/** Why a letter cannot be replayed; undefined when it can. */
export function replayRefusal(topology: Topology, letter: Replayable): string | undefined {
  const { taken, place } = letter
  const step = letter.step ?? ''
  const { nodes: towards } = stepsTowards(topology, step)
  if (towards.size === 0) return `the topology has no step ${step} any more`
  if (taken === 'part') {
    return `${step} has kept the record in part, or another letter of it, and would have that twice`
  }
  const targets = topology.nodes.filter(node => stepName(node) === step)
  if (targets.filter(({ kind }) => kind !== 'operator').length > 1) {
    return `${step} is read and written, or written by several steps, which may have had it`
  }
  if (place !== null && targets.some(target => waysTo(topology, place.topic, target) > 1)) {
    return `${step} gets the records of ${place.topic} in more than one way, and may have had it`
  }
  for (const id of towards) {
    const node = topology.nodes[id]!
    if (stepName(node) === step || node.kind !== 'operator') continue
    if (node.type === 'flat-map') {
      return `${step} gets several results of a record from ${node.name}, and had the others`
    }
    // A deduplication lets a replayed record pass; what others keep of it, they have already.
    if (node.stores.length === 0 || node.type === 'deduplicate') continue
    return `${step} gets the results of ${node.name}, which has counted the record already`
  }
  const last = lastKept(topology, step)
  return last && `${last.name} may have a newer row by now, and would take the record’s instead`
}

/** In how many ways records of a topic come to a step. */
function waysTo({ nodes }: Topology, topic: string, step: TopologyNode): number {
  const ways: number[] = []
  for (const node of nodes) {
    ways[node.id] =
      node.kind === 'source'
        ? Number(node.topic === topic)
        : node.parents.reduce((sum, parent) => sum + ways[parent.node]!, 0)
  }
  return ways[step.id]!
}

/** A table that the record's own row would come to. */
function lastKept({ nodes }: Pick<Topology, 'nodes'>, step: string): TopologyNode | undefined {
  const reached = new Set<number>()
  for (const node of nodes) {
    const isTarget = stepName(node) === step
    if (!isTarget && !node.parents.some(parent => reached.has(parent.node))) continue
    if (node.kind === 'operator' && node.keepsLast === true) return node
    // What a step with state tells is of its own order.
    if (isTarget || node.kind !== 'operator' || node.stores.length === 0) reached.add(node.id)
  }
  return undefined
}

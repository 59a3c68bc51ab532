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

/** What tells a step from others: an operator by its name, a source or sink by its kind, too. */
export function stepId(node: TopologyNode): string {
  return node.kind === 'operator' ? stepName(node) : `${node.kind}:${stepName(node)}`
}

export interface LetterStep {
  readonly step: string | null
  /** Null: an operator, or not said. */
  readonly kind: 'source' | 'sink' | null
}

export function letterStep(id: string): LetterStep {
  const match = /^(source|sink):(.*)$/s.exec(id)
  if (match === null) return { step: id, kind: null }
  return { step: match[2]!, kind: match[1] as 'source' | 'sink' }
}

export function idOfLetter({ step, kind }: LetterStep): string {
  return kind === null ? (step ?? '') : `${kind}:${step}`
}

/** Letters of older releases name sources and sinks as they do operators. */
function stepsOf(nodes: readonly TopologyNode[], id: string): TopologyNode[] {
  const exact = nodes.filter(node => stepId(node) === id)
  if (exact.length > 0) return exact
  return nodes.filter(node => node.kind !== 'operator' && stepName(node) === id)
}

/** The way to a step, in all branches that have it. */
export interface StepWay {
  /** Ids of the step itself. */
  readonly targets: ReadonlySet<number>
  /** Those, and ids of all above them; empty when there is none. */
  readonly nodes: ReadonlySet<number>
  /** The branch that tells what becomes of records on that way; undefined when there is none. */
  readonly home: number | undefined
}

function stepsTowards({ nodes }: Pick<Topology, 'nodes'>, step: string): StepWay {
  const steps = stepsOf(nodes, step)
  const targets = new Set(steps.map(({ id }) => id))
  const towards = new Set(targets)
  for (const { id, parents } of nodes.toReversed()) {
    if (towards.has(id)) for (const { node } of parents) towards.add(node)
  }
  const own = steps.find(({ copy }) => copy !== true)
  return { targets, nodes: towards, home: own && (own.branch ?? 0) }
}

/**
 * Whether a node tells what becomes of a record: copies leave that to the step itself, in its own
 * branch. Of a replayed record on its way it is the branch of its step that tells.
 */
export function tells(
  { copy, branch = 0 }: TopologyNode,
  towards: StepsTowards,
  target: string | undefined,
): boolean {
  const home = target === undefined ? undefined : towards(target).home
  return home === undefined ? copy !== true : home === branch
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
export interface Replayable extends LetterStep {
  readonly taken: 'nothing' | 'part' | null
  readonly place: { readonly topic: string } | null
}

/** Why a letter cannot be replayed; undefined when it can. */
export function replayRefusal(topology: Topology, letter: Replayable): string | undefined {
  const { taken, place } = letter
  const step = letter.step ?? ''
  const { nodes: towards, targets } = stepsTowards(topology, idOfLetter(letter))
  if (towards.size === 0) return `the topology has no step ${step} any more`
  if (taken === 'part') {
    return `${step} has kept the record in part, or another letter of it, and would have that twice`
  }
  if (targets.size > 1) return `several steps are named ${step}, and others may have had it`
  if (place !== null && waysTo(topology, place.topic, [...targets][0]!) > 1) {
    return `${step} gets the records of ${place.topic} in more than one way, and may have had it`
  }
  for (const id of towards) {
    const node = topology.nodes[id]!
    if (targets.has(id) || node.kind !== 'operator') continue
    if (node.type === 'flat-map') {
      return `${step} gets several results of a record from ${node.name}, and had the others`
    }
    // A deduplication lets a replayed record pass; what others keep of it, they have already.
    if (node.stores.length === 0 || node.type === 'deduplicate') continue
    return `${step} gets the results of ${node.name}, which has counted the record already`
  }
  const last = lastKept(topology, targets)
  return last && `${last.name} may have a newer row by now, and would take the record’s instead`
}

/** In how many ways a record of a topic comes to a step. */
function waysTo({ nodes }: Topology, topic: string, step: number): number {
  const ways: number[] = []
  for (const node of nodes) {
    ways[node.id] = node.kind === 'source' ? Number(node.topic === topic) : 0
    // Of the outputs of one step it takes one.
    const outputs = Map.groupBy(node.parents, parent => parent.node)
    for (const [parent, edges] of outputs) {
      const edgesOf = Map.groupBy(edges, ({ output }) => output).values()
      ways[node.id]! += ways[parent]! * Math.max(...Array.from(edgesOf, ({ length }) => length))
    }
  }
  return ways[step]!
}

/** A table that the record's own row would come to. */
function lastKept({ nodes }: Topology, targets: ReadonlySet<number>): TopologyNode | undefined {
  const reached = new Set<number>()
  for (const node of nodes) {
    const isTarget = targets.has(node.id)
    if (!isTarget && !node.parents.some(parent => reached.has(parent.node))) continue
    if (node.kind === 'operator' && node.keepsLast === true) return node
    // What a step with state tells is of its own order.
    if (isTarget || node.kind !== 'operator' || node.stores.length === 0) reached.add(node.id)
  }
  return undefined
}

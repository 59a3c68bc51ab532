/** Which partition of a view a key's row is in. */
import type { RowKey } from '../state/port.ts'
import type { Plan } from './plan.ts'
import { partitionOfKey } from './sinks.ts'
import type { ExchangeNode, SourceNode, ViewNode } from './topology.ts'

export interface KeyPartition {
  readonly partition: number
  /**
   * False where a topic's own producers chose the partitions: Kafka's default partitioner is
   * likely, another is possible, and the row can be elsewhere.
   */
  readonly certain: boolean
}

/** Undefined where it cannot be computed. */
export function keyPartition(plan: Plan, view: ViewNode, row: RowKey): KeyPartition | undefined {
  const { partitions } = plan.subTopologies.find(sub => sub.nodes.includes(view.node))!
  const inputs = inputsOf(plan, view.node)
  let key: unknown
  let found: number | undefined
  try {
    key = view.key.decode(row)
    for (const id of inputs) {
      const { key: serde } = plan.topology.nodes[id] as SourceNode | ExchangeNode
      const partition = partitionOfKey(serde, key, partitions)
      if (found !== undefined && found !== partition) return undefined
      found = partition
    }
  } catch {
    // The inputs have keys of another type.
    return undefined
  }
  if (found === undefined) return undefined
  const certain = inputs.every(id => plan.topology.nodes[id]!.kind === 'exchange')
  return { partition: found, certain }
}

/** Sources and exchanges whose records reach a step within its task. */
function inputsOf(plan: Plan, step: number): number[] {
  const inputs = new Set<number>()
  const seen = new Set<number>()
  const visit = (id: number): void => {
    if (seen.has(id)) return
    seen.add(id)
    const node = plan.topology.nodes[id]!
    if (node.kind === 'source' || node.kind === 'exchange') inputs.add(id)
    else for (const parent of node.parents) visit(parent.node)
  }
  visit(step)
  return [...inputs]
}

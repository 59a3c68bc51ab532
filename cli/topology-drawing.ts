/** Topologies as JSON, as text and as a Mermaid diagram. */
import type { Plan } from '../streams/plan.ts'
import { changelogTopic } from '../streams/task-parts.ts'
import type { Edge, Topology, TopologyNode } from '../streams/topology.ts'

/** What `/v1/topology` serves of an application. Node ids are positions in `nodes`. */
export function describeTopology({ topology, subTopologies }: Plan) {
  return {
    application: topology.application,
    nodes: topology.nodes.map(node => ({
      id: node.id,
      name: node.name,
      kind: node.kind,
      type: typeOf(node),
      ...('topic' in node ? { topic: node.topic } : {}),
      ...(node.kind === 'operator' ? { stores: storesOf(topology, node) } : {}),
      parents: node.parents.map(({ node: from, output }) => ({ node: from, output })),
    })),
    subTopologies,
    views: topology.views.map(({ declaration, node }) => ({ name: declaration.name, node })),
  }
}

function storesOf({ application }: Topology, node: TopologyNode) {
  if (node.kind !== 'operator') return []
  return node.stores.map(({ name, kind }) => ({
    name,
    kind,
    changelog: changelogTopic(application, name),
  }))
}

function typeOf(node: TopologyNode): string {
  return node.kind === 'operator' ? node.type : node.kind
}

function viewsOf(topology: Topology, node: TopologyNode): string[] {
  return topology.views
    .filter(view => view.node === node.id)
    .map(({ declaration }) => declaration.name)
}

function edgeText({ nodes }: Topology, { node, output }: Edge): string {
  return output === 'main' ? nodes[node].name : `${nodes[node].name} (${output})`
}

export function topologyText(plans: readonly Plan[]): string {
  return plans.map(applicationText).join('\n')
}

function applicationText({ topology, subTopologies }: Plan): string {
  const lines = [`Topology ${topology.application}`]
  for (const { name, partitions, nodes } of subTopologies) {
    lines.push('', `Sub-topology ${name}, ${partitions} partitions`)
    for (const id of nodes) {
      const node = topology.nodes[id]
      const type = typeOf(node)
      const title = node.name.startsWith(`${type}-`) ? node.name : `${type} ${node.name}`
      lines.push(`  ${title}`)
      if (node.parents.length > 0) {
        lines.push(`    <- ${node.parents.map(edge => edgeText(topology, edge)).join(', ')}`)
      }
      if (node.kind === 'operator' && node.stores.length > 0) {
        lines.push(`    stores ${node.stores.map(store => store.name).join(', ')}`)
      }
      const views = viewsOf(topology, node)
      if (views.length > 0) lines.push(`    view ${views.join(', ')}`)
    }
  }
  return `${lines.join('\n')}\n`
}

const shapes: Readonly<Record<TopologyNode['kind'], readonly [string, string]>> = {
  source: ['[/', '/]'],
  operator: ['[', ']'],
  exchange: ['{{', '}}'],
  sink: ['[\\', '\\]'],
}

export function topologyMermaid(plans: readonly Plan[]): string {
  const lines = plans.flatMap((plan, i) => applicationMermaid(plan, `a${i}`))
  return `${['flowchart LR', ...lines].join('\n')}\n`
}

/** `id`: what the ids of all its parts begin with. */
function applicationMermaid({ topology, subTopologies }: Plan, id: string): string[] {
  const lines = [`  subgraph ${id}["${topology.application}"]`]
  subTopologies.forEach(({ nodes, partitions }, i) => {
    lines.push(`  subgraph ${id}s${i}["${partitions} partitions"]`)
    for (const own of nodes) {
      const node = topology.nodes[own]
      const [open, close] = shapes[node.kind]
      lines.push(`    ${id}n${own}${open}"${node.name}"${close}`)
    }
    lines.push('  end')
  })
  for (const { id: own, parents } of topology.nodes) {
    for (const { node, output } of parents) {
      lines.push(`  ${id}n${node} -->${output === 'main' ? '' : `|${output}|`} ${id}n${own}`)
    }
  }
  topology.views.forEach(({ declaration, node }, i) => {
    lines.push(`  ${id}v${i}[("${declaration.name}")]`, `  ${id}n${node} -.-> ${id}v${i}`)
  })
  return [...lines, '  end']
}

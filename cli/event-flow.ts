/** Which topics the applications read and write, and what of them: for the documents. */
import type { EventFlow, TopicUse } from '../api/index.ts'
import { inputTopics } from '../contracts/topics.ts'
import { deadLetterTopic } from '../streams/assembly.ts'
import type { Topology, TopologyNode } from '../streams/topology.ts'

const embedded: EventFlow['log'] = {
  protocol: 'embedded',
  host: 'localhost',
  description: 'The log in DATA_DIR. Nobody connects to it: append events by POST /v1/events.',
}

export function eventFlow(topologies: readonly Topology[]): EventFlow {
  const applications = topologies.map(({ application, nodes }) => ({
    application,
    reads: nodes.flatMap(node => (node.kind === 'source' ? [useOf(node.topic, node, below)] : [])),
    writes: nodes.flatMap(node => (node.kind === 'sink' ? [useOf(node.topic, node, above)] : [])),
    deadLetters: deadLetterTopic(application),
  }))
  return { applications, inputs: inputTopics, log: embedded }

  function useOf(topic: string, node: TopologyNode, next: Next): TopicUse {
    const { nodes } = topologies.find(one => one.nodes.includes(node))!
    const messages = passing(node, one => next(nodes, one))
    return { topic, ...(messages && { messages: [...messages] }) }
  }
}

type Next = (nodes: readonly TopologyNode[], node: TopologyNode) => readonly TopologyNode[]

const above: Next = (nodes, { parents }) => parents.map(edge => nodes[edge.node]!)
const below: Next = (nodes, { id }) =>
  nodes.filter(({ parents }) => parents.some(edge => edge.node === id))

/** Names of the messages that pass on the ways from a node; undefined where one lets all pass. */
function passing(
  node: TopologyNode,
  next: (node: TopologyNode) => readonly TopologyNode[],
): ReadonlySet<string> | undefined {
  const all = new Set<string>()
  const followers = next(node)
  if (followers.length === 0) return undefined
  for (const one of followers) {
    const own = one.kind === 'operator' ? one.messages : undefined
    const messages = own ?? passing(one, next)
    if (messages === undefined) return undefined
    for (const name of messages) all.add(name)
  }
  return all
}

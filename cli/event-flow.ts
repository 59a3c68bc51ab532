/** Which topics the service reads and writes, for the AsyncAPI document. */
import type { EventFlow } from '../api/index.ts'
import { inputTopics } from '../contracts/topics.ts'
import { deadLetterTopic } from '../streams/assembly.ts'
import type { Topology } from '../streams/topology.ts'

const embedded: EventFlow['log'] = {
  protocol: 'embedded',
  host: 'localhost',
  description: 'The log in DATA_DIR. Nobody connects to it: append events by POST /v1/events.',
}

export function eventFlow({ application, nodes }: Topology): EventFlow {
  const topics = (kind: 'source' | 'sink') =>
    nodes.flatMap(node => (node.kind === kind && 'topic' in node ? [node.topic] : []))
  return {
    application,
    reads: topics('source'),
    writes: topics('sink'),
    deadLetters: deadLetterTopic(application),
    inputs: inputTopics,
    log: embedded,
  }
}

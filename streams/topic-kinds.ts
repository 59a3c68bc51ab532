/** What is to be done about a batch that is too large for its topic. */
import { deadLetterTopic } from './assembly.ts'
import type { Plan } from './plan.ts'
import { changelogTopic, storesOf } from './task-parts.ts'
import type { TopicKind } from './topic-limits.ts'

/** The kind of each topic that the plan's tasks write. */
export function topicKinds(plan: Plan): (topic: string) => TopicKind {
  const { application, nodes } = plan.topology
  const kinds = new Map<string, TopicKind>([[deadLetterTopic(application), 'output']])
  for (const node of nodes) if (node.kind === 'sink') kinds.set(node.topic, 'output')
  for (const spec of plan.subTopologies.flatMap(sub => storesOf(plan, sub))) {
    const refuses = spec.kind === 'rows' && spec.refusesLarge === true
    if (refuses) kinds.set(changelogTopic(application, spec.name), 'rows')
  }
  return topic => kinds.get(topic) ?? 'other'
}

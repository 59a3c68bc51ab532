/** Requests that go to the leaders of partitions, as one call for many partitions. */
import type { TopicPartition } from '../port.ts'
import { type Cluster, isUnreachable } from './cluster.ts'
import { isTransient, kindOf } from './error-codes.ts'
import { refusalOf } from './errors.ts'
import { Backoff } from './pause.ts'

export interface LeaderRequest<Ask extends TopicPartition, Answer> {
  /** For messages: what the request wants, and the right on the topic that it needs. */
  readonly name: string
  readonly operation: string
  readonly asks: readonly Ask[]
  /** One request to one broker; its answers in the order of the asks. */
  readonly send: (node: number, asks: readonly Ask[]) => Promise<readonly Answer[]>
}

/**
 * Sends to every leader at once, again while it has moved, is away or says that it will pass, for
 * as long as a request may take. Answers in order; their error is 0 or one that does not pass.
 * Rejects with TOPIC_MISSING, PARTITION_MISSING, KAFKA_UNREACHABLE, KAFKA_UNAVAILABLE.
 */
export async function askLeaders<Ask extends TopicPartition, Answer extends { error: number }>(
  cluster: Cluster,
  request: LeaderRequest<Ask, Answer>,
): Promise<readonly Answer[]> {
  const { asks, send } = request
  const answers: Answer[] = []
  const { clock } = cluster.environment
  const untilMs = clock() + cluster.requestTimeoutMs
  const backoff = new Backoff(cluster.environment)
  let open = asks.map((ask, i) => ({ ask, i }))
  for (;;) {
    let failure: unknown
    const left: typeof open = []
    const settle = async (node: number, group: typeof open) => {
      try {
        const given = await send(
          node,
          group.map(({ ask }) => ask),
        )
        for (const [n, each] of group.entries()) {
          const answer = given[n]!
          if (isTransient(answer.error)) {
            failure = refusal(request, each.ask, answer.error)
            if (kindOf(answer.error) === 'refresh') cluster.staleTopic(each.ask.topic)
            left.push(each)
          } else answers[each.i] = answer
        }
      } catch (error) {
        if (!isUnreachable(error)) throw error
        failure = error
        left.push(...group)
      }
    }
    const groups = await byLeader(cluster, open)
    await Promise.all([...groups].map(([node, group]) => settle(node, group)))
    if (left.length === 0) return answers
    if (clock() >= untilMs) throw failure
    open = left
    await backoff.wait()
  }
}

async function byLeader<Each extends { readonly ask: TopicPartition }>(
  cluster: Cluster,
  open: readonly Each[],
): Promise<Map<number, Each[]>> {
  const leaders = await Promise.all(open.map(({ ask }) => cluster.leader(ask)))
  const groups = new Map<number, Each[]>()
  for (const [i, leader] of leaders.entries()) {
    const group = groups.get(leader) ?? []
    groups.set(leader, group)
    group.push(open[i]!)
  }
  return groups
}

export function refusal(
  { name, operation }: { readonly name: string; readonly operation: string },
  { topic, partition }: TopicPartition,
  code: number,
): Error {
  return refusalOf(`${name} of ${topic}-${partition}`, code, { right: [operation, topic] })
}

/** Entries of one topic go together on the wire. */
export function byTopic<Ask extends TopicPartition>(
  asks: readonly Ask[],
): readonly (readonly [topic: string, asks: readonly Ask[]])[] {
  return [...Map.groupBy(asks, ({ topic }) => topic)]
}

/** The answers of a request by topic, in the order of what was asked. */
export function inOrder<Answer extends TopicPartition>(
  asks: readonly TopicPartition[],
  answers: readonly Answer[],
): readonly Answer[] {
  const byKey = new Map(answers.map(answer => [`${answer.topic}/${answer.partition}`, answer]))
  return asks.map(({ topic, partition }) => {
    const answer = byKey.get(`${topic}/${partition}`)
    if (answer === undefined) throw refusalOf(`the answer of ${topic}-${partition}`, -1)
    return answer
  })
}

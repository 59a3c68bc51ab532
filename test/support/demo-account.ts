/**
 * What the demo and other clients have put into the input topics of a cluster, read by kafkajs, and
 * what must be in the topics and in the views for it: nothing of the service's own is asked.
 */
import { isDeepStrictEqual } from 'node:util'
import { Kafka, logLevel } from 'kafkajs'
import { eventCodec } from '../../contracts/event-codec.ts'
import { inputPartitions } from '../../contracts/topics.ts'
import { type DemoSnapshot, DemoWorld } from '../../processors/demo/world.ts'
import { encodePosition } from '../../streams/position.ts'
import {
  AnalyticsOracle,
  type ArrivedEvent,
  analyticsViews,
  comparedRows,
  type Row,
} from './analytics-oracle.ts'
import { readCommitted } from './kafka/read-committed.ts'

const TOPICS = ['orders', 'payments', 'inventory', 'fulfilment', 'stock']
/** Beyond it the view estimates. */
const EXACT_CUSTOMERS_MAX = 256

function clientOf(bootstrap: string) {
  return new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.NOTHING }).admin()
}

/** How many offsets the input topics have, and the position that covers them all. */
export async function endOfInput(
  bootstrap: string,
): Promise<{ readonly count: number; readonly position: string }> {
  const admin = clientOf(bootstrap)
  await admin.connect()
  try {
    const { clusterId } = await admin.describeCluster()
    const offsets: Record<string, number[]> = {}
    for (const topic of TOPICS) {
      const ends = await admin.fetchTopicOffsets(topic)
      offsets[topic] = ends
        .sort((a, b) => a.partition - b.partition)
        .map(({ high }) => Number(high))
    }
    const count = Object.values(offsets)
      .flat()
      .reduce((sum, end) => sum + end, 0)
    return { count, position: encodePosition({ incarnation: clusterId, offsets }) }
  } finally {
    await admin.disconnect()
  }
}

/** Everything in the input topics. Writes to them: to be called when nothing else reads them. */
export async function arrivedEvents(bootstrap: string): Promise<ArrivedEvent[]> {
  const read = await readCommitted(bootstrap, TOPICS)
  return [...read].flatMap(([topic, records]) =>
    records.map(({ key, value, timestampMs, headers }) => ({
      event: eventCodec.decode(value!, 0, value!.length),
      topic: topic as ArrivedEvent['topic'],
      key: String(key),
      ceId: String(headers.find(([name]) => name === 'ce_id')?.[1]),
      eventTimeMs: timestampMs,
    })),
  )
}

/** Where the arrived events are not those that the demo has told, each as often as it told it. */
export async function demoDifferences(
  bootstrap: string,
  arrived: readonly ArrivedEvent[],
): Promise<string[]> {
  const admin = clientOf(bootstrap)
  await admin.connect()
  const [place] = await admin.fetchOffsets({ groupId: 'millrace-demo', topics: ['orders'] })
  await admin.disconnect()
  const { metadata } = place!.partitions.find(({ partition }) => partition === 0)!
  const told = arrived.map(({ ceId }) => ceId).filter(id => id.startsWith('o-'))
  if (metadata === null) return [`the demo has no place, and the topics hold ${told.length} events`]
  const { resumeMs, ...world } = JSON.parse(metadata!) as DemoSnapshot
  const story = new DemoWorld(world).advance(resumeMs)
  const wanted = story.filter(({ topic }) => TOPICS.includes(topic)).map(({ ceId }) => ceId)
  if (wanted.length > 0 && isDeepStrictEqual(wanted.sort(), told.sort())) return []
  return [`the demo told ${wanted.length} events, the topics hold ${told.length} of it`]
}

/** Views whose rows are not what the arrived events make of them. */
export function viewDifferences(
  arrived: readonly ArrivedEvent[],
  rows: Readonly<Record<string, readonly Row[]>>,
): string[] {
  const oracle = new AnalyticsOracle(arrived, inputPartitions)
  return analyticsViews.flatMap(([view, expected]) => {
    const wanted = comparedRows(expected(oracle).map(comparable))
    const found = comparedRows((rows[view] ?? []).map(comparable))
    if (isDeepStrictEqual(wanted, found)) return []
    const missing = wanted.filter(row => !found.includes(row))
    const first = missing[0] ?? found.find(row => !wanted.includes(row))
    return [`${view}: ${found.length} rows, should be ${wanted.length}; ${first}`]
  })
}

/**
 * Without estimates, and without what is final: of a payment that waits for its order, and what
 * closes the windows that it holds open, either may have come first.
 */
function comparable({ final: _, ...row }: Row): Row {
  const { customers, ...rest } = row
  return Number(customers) > EXACT_CUSTOMERS_MAX ? rest : row
}

/** What the log has of orders: read from the topics, with nothing of an engine's state. */
import { eventSerde, orderKey } from '../../processors/analytics/event-streams.ts'
import type { OrderEvent, OrderFact } from '../../processors/orders/order-state.ts'
import { type ReadTopicOptions, readTopic } from '../../streams/testing/read-topic.ts'

type Log = ReadTopicOptions<string, unknown>['log']

/** All events of orders with their places, topic by topic, partition by partition. */
export async function factsInLog(log: Log): Promise<OrderFact[]> {
  const facts: OrderFact[] = []
  const serdes = { key: orderKey, value: eventSerde }
  for (const topic of ['orders', 'payments', 'inventory', 'fulfilment']) {
    const next = new Map<number, number>()
    for (const record of await readTopic({ log, topic, serdes, positions: new Map() })) {
      const { headers, partition, value } = record
      const offset = next.get(partition) ?? 0
      next.set(partition, offset + 1)
      facts.push({
        id: headers.ce_id!,
        event: value as OrderEvent,
        actor: headers.actor ?? null,
        correlationId: headers.correlationid ?? null,
        causationId: headers.causationid ?? null,
        topic,
        partition,
        offset,
      })
    }
  }
  return facts
}

/** The first copy of each fact in its partition, as the engine takes it. */
export function once(facts: readonly OrderFact[]): OrderFact[] {
  const seen = new Set<string>()
  return facts.filter(({ id }) => !seen.has(id) && seen.add(id))
}

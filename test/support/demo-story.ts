/** Input of the analytics views for tests: the demo's events, and what becomes of paid orders. */
import type { BusinessEvent } from '../../contracts/events.ts'
import { eventKeyOf, eventTimeOf, eventTopics } from '../../contracts/topics.ts'
import type { GeneratedEvent } from '../../processors/demo/order-story.ts'
import { DemoWorld } from '../../processors/demo/world.ts'
import type { TopologyTestDriver } from '../../streams/testing/index.ts'
import { Random } from './random.ts'

const hour = 3_600_000

export interface Span {
  readonly startMs: number
  readonly endMs: number
}

/** What becomes of paid orders; some are fulfilled that nobody paid, or later than is looked at. */
function shipped(events: readonly GeneratedEvent[], random: Random): GeneratedEvent[] {
  const baskets = new Map(
    events.flatMap(({ event, key }) => (event.type === 'OrderCreated' ? [[key, event.items]] : [])),
  )
  return events.flatMap(paid => {
    const orderId = paid.key
    const isPaid = paid.event.type === 'PaymentAuthorized' && !paid.duplicate
    if (!isPaid && random.below(500) > 0) return []
    const reservedAt = paid.eventTimeMs + 100 + random.below(4000)
    const slow = random.below(50) === 0 ? 30 * hour : 0
    const fulfilledAt = reservedAt + 60_000 + Math.floor(random.exponential(2 * hour)) + slow
    const orderItems = baskets.get(orderId) ?? []
    const items = orderItems.map(({ sku, quantity }) => ({ sku, quantity }))
    const isReleased = random.below(12) === 0
    return [
      { type: 'InventoryReserved', orderId, items, reservedAt },
      isReleased
        ? { type: 'InventoryReleased', orderId, items: items.slice(0, 2), releasedAt: fulfilledAt }
        : { type: 'OrderFulfilled', orderId, carrier: 'post', fulfilledAt },
      ...items.slice(0, random.below(2)).map(({ sku }) => {
        return {
          type: 'StockReceived',
          sku,
          quantity: 1 + random.below(20),
          receivedAt: reservedAt,
        }
      }),
    ].map((event): GeneratedEvent => {
      const made = event as BusinessEvent
      const eventTimeMs = eventTimeOf(made)
      const emittedAtMs = eventTimeMs + random.below(3000)
      const ceId = `${paid.ceId}-${event.type}`
      const topic = eventTopics[made.type]
      const key = eventKeyOf(made)
      return { ...paid, event: made, key, topic, ceId, eventTimeMs, emittedAtMs, duplicate: false }
    })
  })
}

/** The demo's events and what follows from them, some of them much too late. */
export function demoStory(seed: number, { startMs, endMs }: Span): GeneratedEvent[] {
  const world = new DemoWorld({ seed, startMs, ratePerSecond: 0.08 })
  const told = world.advance(endMs)
  const random = new Random(seed)
  const events = [...told, ...shipped(told, random)].filter(event => event.emittedAtMs <= endMs)
  const delayed: GeneratedEvent[] = []
  const usual: GeneratedEvent[] = []
  events.forEach((event, i) => {
    if (i % 97 === 5) delayed.push({ ...event, emittedAtMs: event.emittedAtMs + (i % 40) * 60_000 })
    else usual.push(event)
  })
  return [...usual, ...delayed].sort((a, b) => a.emittedAtMs - b.emittedAtMs)
}

const recordOf = ({ event, key, eventTimeMs, ceId }: GeneratedEvent) => ({
  key,
  value: event,
  timeMs: eventTimeMs,
  headers: { ce_id: ceId },
})

/** Appends the events, each partition in their order, and processes them. */
export async function feed(
  driver: TopologyTestDriver,
  events: readonly GeneratedEvent[],
): Promise<void> {
  for (const topic of new Set(events.map(({ topic }) => topic))) {
    await driver.append(topic, events.filter(event => event.topic === topic).map(recordOf))
  }
  await driver.process()
}

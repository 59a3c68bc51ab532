/**
 * What customers do, for tests of the order services: orders, additions and cancellations at all
 * the moments at which they may collide with a service's decision, and deliveries of stock.
 */
import { eventHeaders } from '../../contracts/event-record.ts'
import type { BusinessEvent, OrderItem } from '../../contracts/events.ts'
import { eventKeyOf, eventTimeOf, eventTopics, type InputTopic } from '../../contracts/topics.ts'
import type { Random } from './random.ts'

export interface SagaRecord {
  readonly topic: InputTopic
  readonly key: string
  readonly value: BusinessEvent
  readonly timeMs: number
  readonly headers: Readonly<Record<string, string>>
}

const secondMs = 1000
const minuteMs = 60 * secondMs
/** Monday, 2 November 2026, 08:00 UTC. */
export const storyStartMs = Date.UTC(2026, 10, 2, 8)

export interface StoryOptions {
  readonly orders: number
  /** Pieces of each product that are delivered at the beginning. */
  readonly stock: number
  readonly products?: number
}

export function sagaRecord(event: BusinessEvent, id: string): SagaRecord {
  return {
    topic: eventTopics[event.type],
    key: eventKeyOf(event),
    value: event,
    timeMs: eventTimeOf(event),
    headers: eventHeaders(event, { id, source: 'millrace/test' }),
  }
}

/** In the order in which it happens. */
export function customersStory(random: Random, options: StoryOptions): SagaRecord[] {
  const { orders, stock, products = 8 } = options
  const records: SagaRecord[] = []
  const add = (event: BusinessEvent, id: string) => records.push(sagaRecord(event, id))
  const skus = Array.from({ length: products }, (_, i) => `sku-${i}`)
  for (const sku of skus) {
    add({ type: 'StockReceived', sku, quantity: stock, receivedAt: storyStartMs }, `${sku}.first`)
  }
  for (let i = 0; i < orders; i++) {
    const orderId = `o-${i}`
    const createdAt = storyStartMs + Math.round(random.next() * orders * 15 * secondMs)
    const items = basket(random, skus)
    let totalMinor = sum(items)
    const order = {
      orderId,
      customerId: `c-${random.below(orders / 4)}`,
      region: 'eu-west',
      currency: 'EUR',
    }
    add(
      { type: 'OrderCreated', ...order, items, totalMinor, createdAt, channel: null },
      `${orderId}.created`,
    )
    const additions = random.below(4) === 0 ? 1 + random.below(2) : 0
    let addedAt = createdAt
    for (let n = 0; n < additions; n++) {
      addedAt += 1 + Math.round(random.exponential(5 * secondMs))
      const more = basket(random, skus)
      totalMinor += sum(more)
      const event = { type: 'OrderItemsAdded', orderId, items: more, totalMinor, addedAt } as const
      add(event, `${orderId}.added.${n}`)
    }
    if (random.below(4) === 0) {
      const cancelledAt = createdAt + Math.round(random.exponential(25 * secondMs))
      const reason = random.pick(['changed-mind', 'found-cheaper'])
      add({ type: 'OrderCancelled', orderId, reason, cancelledAt }, `${orderId}.cancelled`)
    }
  }
  return records.sort((a, b) => a.timeMs - b.timeMs)
}

function basket(random: Random, skus: readonly string[]): OrderItem[] {
  return Array.from({ length: 1 + random.below(3) }, () => ({
    sku: random.pick([...skus]),
    category: 'books',
    quantity: 1 + random.below(3),
    unitPriceMinor: 100 + random.below(5000),
  }))
}

function sum(items: readonly OrderItem[]): number {
  return items.reduce((total, item) => total + item.quantity * item.unitPriceMinor, 0)
}

export interface Disorder {
  /** The longest that a record is delivered after it happened, ms of event time. */
  readonly delayMs: number
  /** Share of records that are delivered twice. */
  readonly duplicates: number
}

/** The records as they reach the log: out of order, some of them twice. */
export function delivered(
  records: readonly SagaRecord[],
  random: Random,
  { delayMs, duplicates }: Disorder,
): SagaRecord[] {
  const timed: { record: SagaRecord; atMs: number }[] = []
  const added = new Map<string, number>()
  for (const record of records) {
    const { value, timeMs, key } = record
    let atMs = timeMs + random.next() * delayMs
    // Additions to one order follow each other: each says what the order costs with those before.
    if (value.type === 'OrderItemsAdded') {
      atMs = Math.max(atMs, added.get(key) ?? 0)
      added.set(key, atMs)
    }
    timed.push({ record, atMs })
    if (random.next() >= duplicates) continue
    // Nobody sends a second time what was not sent before.
    timed.push({ record, atMs: Math.max(atMs, timeMs + random.next() * delayMs) })
  }
  return timed.sort((a, b) => a.atMs - b.atMs).map(({ record }) => record)
}

export { minuteMs, secondMs }

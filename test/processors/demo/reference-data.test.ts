import { expect, test } from 'vitest'
import { eventRecord } from '../../../contracts/event-record.ts'
import { checkEventFields } from '../../../contracts/event-rules.ts'
import type { BusinessEvent } from '../../../contracts/events.ts'
import { eventKeyOf, eventTimeOf } from '../../../contracts/topics.ts'
import { ReferenceData } from '../../../processors/demo/reference-data.ts'
import { DemoWorld } from '../../../processors/demo/world.ts'

const startMs = Date.UTC(2026, 0, 5, 19)
const world = new DemoWorld({ seed: 1, startMs, ratePerSecond: 5 })
const events = world.advance(startMs + 3_600_000).map(({ event }) => event)
const orders = events.filter(event => event.type === 'OrderCreated')

/** Tells the news of the events, in parts of some. */
function told(size: number): BusinessEvent[] {
  const reference = new ReferenceData()
  const news: BusinessEvent[] = []
  for (let at = 0; at < events.length; at += size) {
    news.push(...reference.before(events.slice(at, at + size)))
  }
  return news
}

test('each customer and product is told once, with the first order that names it', () => {
  const news = told(50)
  const names = news.map(eventKeyOf)
  const wanted = new Set(
    orders.flatMap(({ customerId, items }) => [customerId, ...items.map(({ sku }) => sku)]),
  )
  expect(names.length).toBe(wanted.size)
  expect(new Set(names)).toEqual(wanted)
  for (const event of news) {
    const first = orders.find(({ customerId, items }) => {
      const name = eventKeyOf(event)
      return customerId === name || items.some(({ sku }) => sku === name)
    })
    expect(eventTimeOf(event)).toBe(first!.createdAt)
  }
})

test('they are the same however the events are cut, and as the contracts want them', () => {
  expect(told(1)).toEqual(told(10_000))
  for (const event of told(100)) {
    const { type, ...value } = event
    expect(checkEventFields(type, value)).toBeUndefined()
    expect(eventRecord(event, { id: 'x', source: 's' }).timestamp).toBe(eventTimeOf(event))
  }
})

test('customers are of several segments, products of a price', () => {
  const news = told(100)
  const segments = news.flatMap(event => (event.type === 'CustomerUpdated' ? [event.segment] : []))
  expect(new Set(segments)).toEqual(new Set(['gold', 'regular', 'new']))
  const prices = news.flatMap(event =>
    event.type === 'ProductUpdated' ? [event.unitPriceMinor] : [],
  )
  expect(prices.length).toBeGreaterThan(100)
  expect(Math.min(...prices)).toBeGreaterThan(0)
})

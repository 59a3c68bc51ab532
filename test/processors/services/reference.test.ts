/** Orders beside their customers and products: what is known now, then, and of all tasks. */
import assert from 'node:assert/strict'
import { afterEach, expect, test } from 'vitest'
import type { BusinessEvent, CustomerUpdated, OrderCreated } from '../../../contracts/events.ts'
import { eventKeyOf, eventTimeOf, eventTopics } from '../../../contracts/topics.ts'
import { referenceTopology } from '../../../processors/services/reference.ts'
import { defaultServiceSettings } from '../../../processors/services/settings.ts'
import { textKey } from '../../../streams/index.ts'
import { partitionOfKey } from '../../../streams/sinks.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import type { Input, Stamped } from '../../oracle/inputs.ts'
import { deadLetters } from '../../oracle/proof.ts'
import type { Random } from '../../support/random.ts'

const PARTITIONS = 3
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const T = 0
/** Of the last records of a story: so far all is decided. */
const END = T + 4 * HOUR_MS

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const topology = () => referenceTopology(defaultServiceSettings)

async function start(): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology(), { partitions: PARTITIONS, startMs: T })
  open.push(driver)
  return driver
}

const customer = (customerId: string, segment: string, updatedAt: number): CustomerUpdated => {
  const name = `${customerId} of ${segment}`
  const email = `${customerId}@${segment}.example`
  return { type: 'CustomerUpdated', customerId, name, email, segment, region: 'eu', updatedAt }
}
const product = (sku: string, name: string, updatedAt = T): BusinessEvent => ({
  type: 'ProductUpdated',
  sku,
  name,
  category: 'home',
  unitPriceMinor: 500,
  currency: 'EUR',
  updatedAt,
})
function order(orderId: string, createdAt: number, changes: Partial<OrderCreated> = {}) {
  const event: OrderCreated = {
    type: 'OrderCreated',
    orderId,
    customerId: 'ann',
    region: 'eu',
    currency: 'EUR',
    items: [{ sku: 'mug', category: 'home', quantity: 2, unitPriceMinor: 500 }],
    totalMinor: 1000,
    createdAt,
    channel: null,
  }
  return { ...event, ...changes }
}

let told = 0
function input(event: BusinessEvent): Input {
  const key = eventKeyOf(event)
  return {
    topic: eventTopics[event.type],
    partition: partitionOfKey(textKey(), key, PARTITIONS),
    key,
    value: event,
    timeMs: eventTimeOf(event),
    headers: { ce_id: `e${told++}` },
  }
}

async function tell(driver: TopologyTestDriver, ...events: readonly BusinessEvent[]) {
  for (const event of events) {
    const one = input(event)
    await driver.append(one.topic, [one])
    await driver.process()
  }
}

test('a contact is that of now: it follows its customer', async () => {
  const driver = await start()
  await tell(driver, order('o-1', T), order('o-2', T, { customerId: 'bob' }))
  const contacts = async () =>
    (await driver.rows('order-contacts')).map(({ orderId, name, email }) => [orderId, name, email])
  expect(await contacts()).toEqual([
    ['o-1', null, null],
    ['o-2', null, null],
  ])
  await tell(driver, customer('ann', 'new', T))
  await tell(driver, customer('ann', 'gold', T + 2), customer('ann', 'lost', T + 1))
  expect(await contacts()).toEqual([
    ['o-1', 'ann of gold', 'ann@gold.example'],
    ['o-2', null, null],
  ])
})

/** Moves the event time of all partitions on. */
async function moveTo(driver: TopologyTestDriver, timeMs: number) {
  for (const event of ends(timeMs)) await tell(driver, event)
}

function ends(timeMs: number): BusinessEvent[] {
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition)
  const idIn = (partition: number) => {
    for (let i = 0; ; i++) {
      const id = `end-${i}`
      if (partitionOfKey(textKey(), id, PARTITIONS) === partition) return id
    }
  }
  return partitions.flatMap(partition => [
    customer(idIn(partition), 'end', timeMs),
    order(idIn(partition), timeMs, { items: [], customerId: 'end' }),
  ])
}

test('a sale is of the segment of then, whenever that is heard of', async () => {
  const driver = await start()
  await tell(driver, order('o-1', T + 5 * MINUTE_MS), order('o-2', T + 15 * MINUTE_MS))
  await tell(driver, order('o-3', T + 15 * MINUTE_MS, { customerId: 'nobody' }))
  await tell(driver, customer('ann', 'gold', T + 10 * MINUTE_MS), customer('ann', 'new', T))
  await moveTo(driver, T + 30 * MINUTE_MS)
  const sales = await driver.rows('segment-sales')
  expect(sales.map(({ segment, orders, grossMinor }) => [segment, orders, grossMinor])).toEqual([
    ['gold', 1, 1000],
    ['new', 1, 1000],
    ['unknown', 1, 1000],
  ])
})

test('a product has its name in every task, null where nothing is known', async () => {
  const driver = await start()
  await tell(driver, product('mug', 'Mug'), product('pot', 'Pot'), product('pot', 'Teapot', T + 1))
  const item = { category: 'home', quantity: 1, unitPriceMinor: 700 }
  const items = ['mug', 'pot', 'cup'].map(sku => ({ ...item, sku }))
  await tell(driver, ...Array.from({ length: 9 }, (_, i) => order(`o-${i}`, T + i, { items })))
  const rows = await driver.rows('product-sales')
  expect(
    rows.map(({ sku, name, quantity, grossMinor }) => [sku, name, quantity, grossMinor]).sort(),
  ).toEqual([
    ['cup', null, 9, 6300],
    ['mug', 'Mug', 9, 6300],
    ['pot', 'Teapot', 9, 6300],
  ])
})

interface Results {
  readonly contacts: string[]
  readonly segments: string[]
  readonly products: string[]
  readonly dead: string[]
}

/** Nothing comes later than the grace of ten minutes. */
function story(random: Random): Input[] {
  const arriving: { event: BusinessEvent; arrivalMs: number }[] = []
  for (let i = 0; i < 300; i++) {
    const timeMs = T + i * 20_000 + random.below(20_000)
    const who = `c-${random.below(12)}`
    const items = Array.from({ length: random.below(3) }, () => {
      return { sku: `s-${random.below(6)}`, category: 'home', quantity: 1, unitPriceMinor: 100 }
    })
    const changes = { customerId: who, totalMinor: 100 * random.below(50), items }
    const events = [
      order(`o-${i}`, timeMs, { ...changes, currency: random.pick(['EUR', 'USD']) }),
      customer(who, random.pick(['new', 'silver', 'gold']), timeMs),
      product(`s-${random.below(5)}`, `name ${i}`, timeMs),
    ]
    const event = events[Math.min(random.below(6), 3) % 3]!
    arriving.push({ event, arrivalMs: timeMs + random.below(8 * MINUTE_MS) })
  }
  const events = arriving.sort((a, b) => a.arrivalMs - b.arrivalMs).map(({ event }) => event)
  return [...events, ...ends(END)].map(input)
}

const row = (...parts: unknown[]) => parts.join(' ')

/** Rows of sums by a name and an hour. */
function sums(entries: readonly (readonly [name: string, timeMs: number, number[]])[]): string[] {
  const found = new Map<string, number[]>()
  for (const [name, timeMs, add] of entries) {
    const id = row(name, timeMs - (timeMs % HOUR_MS))
    const before = found.get(id) ?? add.map(() => 0)
    found.set(
      id,
      before.map((sum, i) => sum + add[i]!),
    )
  }
  return [...found].map(([id, values]) => row(id, ...values)).sort()
}

function oracle(records: readonly Stamped[]): Results {
  const events = records.map(({ value }) => value as BusinessEvent)
  const orders = events.filter(event => event.type === 'OrderCreated')
  const customers = events.filter(event => event.type === 'CustomerUpdated')
  const known = (id: string, timeMs: number) =>
    customers.findLast(({ customerId, updatedAt }) => customerId === id && updatedAt <= timeMs)
  const joined = orders.filter(({ createdAt }) => createdAt < END)
  return {
    contacts: orders
      .map(({ orderId, customerId }) => {
        return row(orderId, known(customerId, Number.POSITIVE_INFINITY)?.email ?? null)
      })
      .sort(),
    segments: sums(
      joined.map(({ customerId, createdAt, currency, totalMinor }) => {
        const segment = known(customerId, createdAt)?.segment ?? 'unknown'
        return [row(segment, currency), createdAt, [1, totalMinor]] as const
      }),
    ),
    products: sums(
      orders.flatMap(({ createdAt, currency, items }) =>
        items.map(({ sku, quantity, unitPriceMinor }) => {
          return [row(sku, currency), createdAt, [quantity, quantity * unitPriceMinor]] as const
        }),
      ),
    ),
    dead: [],
  }
}

proofSuite<Results>(
  'reference',
  {
    topology,
    partitions: PARTITIONS,
    inputs: story,
    oracle,
    results: async outcome => {
      const contacts = await outcome.rows('order-contacts')
      const segments = await outcome.rows('segment-sales')
      const products = await outcome.rows('product-sales')
      return {
        contacts: contacts.map(({ orderId, email }) => row(orderId, email)).sort(),
        segments: segments
          .map(({ segment, currency, windowStart, orders, grossMinor }) =>
            row(segment, currency, windowStart, orders, grossMinor),
          )
          .sort(),
        // Which name had been read is a matter of order.
        products: products
          .map(({ sku, currency, windowStart, quantity, grossMinor }) =>
            row(sku, currency, windowStart, quantity, grossMinor),
          )
          .sort(),
        dead: await deadLetters(outcome),
      }
    },
    reaches: ({ contacts, segments, products }) => {
      assert(contacts.length > 50)
      assert(contacts.some(line => line.includes('gold')))
      assert(segments.some(line => line.startsWith('unknown')))
      assert(segments.length > 8 && products.length > 8)
    },
  },
  { kills: 5 },
)

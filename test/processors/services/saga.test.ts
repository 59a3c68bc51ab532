/** All services together: what they make of a story, in whatever order it reaches them. */
import { expect, test } from 'vitest'
import { serviceTopologies } from '../../../processors/services/services.ts'
import type { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { KilledProcess } from '../../oracle/harness.ts'
import { deadLetters } from '../../oracle/proof.ts'
import { Random } from '../../support/random.ts'
import {
  customersStory,
  delivered,
  minuteMs,
  type SagaRecord,
  sagaRecord,
  storyStartMs,
} from '../../support/saga.ts'
import { type Books, checkBooks, checkDecisions } from '../../support/saga-check.ts'
import {
  appendPoison,
  appendRecords,
  closeServices,
  finish,
  openServices,
  saidByServices,
  settle,
  type WrittenEvent,
  writtenEvents,
} from '../../support/saga-run.ts'

/** Events may come five minutes late; the wall clock decides only when nothing more comes. */
const strict = { seed: 7, openingStock: 0 }
/** Decisions are taken as soon as their cause is read: what comes later is too late. */
const hasty = { seed: 7, openingStock: 0, settleMs: 0, patienceMs: 0 }

interface Outcome {
  readonly events: readonly WrittenEvent[]
  readonly books: Books
}

async function outcome(drivers: readonly TopologyTestDriver[]): Promise<Outcome> {
  const events = await writtenEvents(drivers[0]!.log)
  const books = checkBooks(events)
  await checkWarehouse(drivers, books)
  return { events, books }
}

/** The warehouse's own books are those that the events tell. */
async function checkWarehouse(drivers: readonly TopologyTestDriver[], books: Books) {
  const inventory = drivers.find(({ application }) => application === 'inventory')!
  const rows = await inventory.rows('warehouse-stock')
  expect(rows.length).toBe(books.received.size)
  for (const { sku, received, onHand, reserved, shipped } of rows) {
    const name = sku as string
    const left = (books.received.get(name) ?? 0) - (books.shipped.get(name) ?? 0)
    expect({ received, onHand, reserved, shipped }, name).toEqual({
      received: books.received.get(name),
      onHand: left,
      reserved: 0,
      shipped: books.shipped.get(name) ?? 0,
    })
    expect(onHand).toBeGreaterThanOrEqual(0)
  }
}

async function clean(records: readonly SagaRecord[], settings = strict): Promise<Outcome> {
  const drivers = await openServices(serviceTopologies(settings))
  await feedStock(drivers, records)
  await appendRecords(drivers[0]!.log, records)
  await finish(drivers)
  const found = await outcome(drivers)
  await closeServices(drivers)
  return found
}

/** Stock is there before orders come: who gets the last piece is decided by arrival. */
async function feedStock(drivers: readonly TopologyTestDriver[], records: readonly SagaRecord[]) {
  const stock = records.filter(({ topic }) => topic === 'stock')
  await appendRecords(drivers[0]!.log, stock)
  await settle(drivers)
}

interface Feed {
  readonly records: readonly SagaRecord[]
  readonly random: Random
  readonly poison?: number
}

/** Feeds the records in chunks; between them one service or another goes on. */
async function feed(drivers: readonly TopologyTestDriver[], { records, random, poison = 0 }: Feed) {
  const { log } = drivers[0]!
  await feedStock(drivers, records)
  let poisoned = 0
  for (let at = 0; at < records.length; ) {
    const chunk = records.slice(at, at + 1 + random.below(60))
    at += chunk.length
    await appendRecords(log, chunk)
    for (const _ of chunk) {
      if (random.next() >= poison) continue
      await appendPoison(log, 'orders', random)
      poisoned++
    }
    for (const driver of drivers) if (random.below(3) === 0) await driver.process()
  }
  return poisoned
}

const lines = (events: readonly WrittenEvent[]) =>
  saidByServices(events).map(({ event, headers, timeMs }) =>
    JSON.stringify([event, headers, timeMs]),
  )

function throws(check: () => void): boolean {
  try {
    check()
    return false
  } catch {
    return true
  }
}

/** The first event that differs says more than all of them. */
function expectSame(found: readonly WrittenEvent[], wanted: readonly WrittenEvent[], run: string) {
  const [a, b] = [lines(found), lines(wanted)]
  const at = a.findIndex((line, i) => line !== b[i])
  expect(a[at], `${run}, event ${at}`).toBe(b[at])
  expect(a.length, run).toBe(b.length)
}

test('in disorder an order’s additions still reach the log one after the other, those twice too', () => {
  const story = customersStory(new Random(3), { orders: 5_000, stock: 1 })
  const arrived = delivered(story, new Random(5), { delayMs: 5 * minuteMs, duplicates: 0.2 })
  const latest = new Map<string, number>()
  const known = new Set<SagaRecord>()
  for (const record of arrived.filter(({ value }) => value.type === 'OrderItemsAdded')) {
    if (known.has(record)) continue
    known.add(record)
    expect(record.timeMs).toBeGreaterThanOrEqual(latest.get(record.key) ?? 0)
    latest.set(record.key, record.timeMs)
  }
  expect(arrived.length).toBeGreaterThan(story.length * 1.1)
})

test('a story ends: every order once, every cent and piece accounted for', async () => {
  const records = customersStory(new Random(1), { orders: 300, stock: 10_000 })
  const { events, books } = await clean(records)
  checkDecisions(events)
  const endings = [...books.ended.values()]
  expect(endings.length).toBe(300)
  expect(endings.filter(ending => ending === 'fulfilled').length).toBeGreaterThan(200)
  expect(books.netMinor).toBeGreaterThan(0)
  for (const type of ['PaymentDeclined', 'InventoryRejected', 'InventoryReleased']) {
    expect(books.types.get(type), type).toBeGreaterThan(3)
  }
})

test('every interleaving makes the same events, with 5 % duplicates and 1 % poison', async () => {
  let early = 0
  for (let seed = 1; seed <= 12; seed++) {
    const random = new Random(seed)
    const records = customersStory(new Random(seed % 3), { orders: 80, stock: 10_000 })
    const wanted = await clean(records)
    const drivers = await openServices(random.shuffle(serviceTopologies(strict)))
    const disorder = { delayMs: 5 * minuteMs, duplicates: 0.05 }
    const order = delivered(records, random, disorder)
    const poisoned = await feed(drivers, { records: order, random, poison: 0.01 })
    await settle(drivers)
    early += saidByServices(await writtenEvents(drivers[0]!.log)).length
    await finish(drivers)
    const { events, books } = await outcome(drivers)
    checkDecisions(events)
    expectSame(events, wanted.events, `seed ${seed}`)
    expect(books.ended).toEqual(wanted.books.ended)
    for (const driver of drivers) {
      const letters = (await deadLetters(driver)).filter(line => line.startsWith('poison'))
      expect(letters.length, driver.application).toBe(poisoned)
      expect(new Set(letters).size).toBe(poisoned)
    }
    await closeServices(drivers)
  }
  // Most was decided while there still was more to come.
  expect(early).toBeGreaterThan(12 * 130)
})

test('hasty decisions and scarce stock: other endings, all of them legal', async () => {
  let short = 0
  let tooLate = 0
  for (let seed = 1; seed <= 12; seed++) {
    const random = new Random(seed)
    const records = customersStory(new Random(seed), { orders: 80, stock: 25 })
    const drivers = await openServices(random.shuffle(serviceTopologies(hasty)))
    const disorder = { delayMs: 5 * minuteMs, duplicates: 0.05 }
    await feed(drivers, { records: delivered(records, random, disorder), random })
    await finish(drivers)
    const { events } = await outcome(drivers)
    short += events.filter(
      ({ event }) => event.type === 'InventoryRejected' && event.reason === 'out-of-stock',
    ).length
    tooLate += throws(() => checkDecisions(events)) ? 1 : 0
    await closeServices(drivers)
  }
  expect(short).toBeGreaterThan(100)
  // In runs like these much comes too late to count.
  expect(tooLate).toBeGreaterThan(5)
})

/** What the services say, without who made them say it. */
const plain = (events: readonly WrittenEvent[]) =>
  saidByServices(events)
    .filter(({ topic }) => topic !== 'notifications' && topic !== 'risk')
    .map(({ event }) => JSON.stringify(event))

test('orchestrated, every interleaving ends as it does choreographed', async () => {
  const orchestrated = { ...strict, saga: 'orchestrated' as const }
  for (let seed = 1; seed <= 6; seed++) {
    const random = new Random(seed)
    const records = customersStory(new Random(seed % 3), { orders: 80, stock: 10_000 })
    const wanted = await clean(records)
    const drivers = await openServices(random.shuffle(serviceTopologies(orchestrated)))
    const disorder = { delayMs: 5 * minuteMs, duplicates: 0.05 }
    await feed(drivers, { records: delivered(records, random, disorder), random, poison: 0.01 })
    await finish(drivers)
    const { events, books } = await outcome(drivers)
    checkDecisions(events)
    expect(books.ended).toEqual(wanted.books.ended)
    expect(books.netMinor).toBe(wanted.books.netMinor)
    expect(books.shipped).toEqual(wanted.books.shipped)
    expect(plain(events), `seed ${seed}`).toEqual(plain(wanted.events))
    const orchestrator = drivers.find(({ application }) => application === 'orchestrator')!
    expect((await orchestrator.rows('sagas')).length).toBe(80)
    await closeServices(drivers)
  }
})

test('killed at any crash point, the services make the same events, told by whomever', async () => {
  let kills = 0
  for (let seed = 1; seed <= 20; seed++) {
    const records = customersStory(new Random(seed % 2), { orders: 40, stock: 10_000 })
    const wanted = await clean(records)
    kills += await runKilled(seed, records, wanted)
  }
  expect(kills).toBeGreaterThan(200)
})

async function runKilled(seed: number, records: SagaRecord[], wanted: Outcome): Promise<number> {
  const random = new Random(seed)
  // A life must be long enough for the opening of all services and a step more.
  const process = new KilledProcess(random, 100)
  const saga = seed % 3 === 0 ? ('orchestrated' as const) : ('choreographed' as const)
  const open = () =>
    openServices(serviceTopologies({ ...strict, saga }), {
      database: process.database,
      reached: process.reached,
    })
  let drivers = await open()
  await feedStock(drivers, records)
  const order = delivered(records, random, { delayMs: 5 * minuteMs, duplicates: 0.05 })
  for (let at = 0; at < order.length; ) {
    const chunk = order.slice(at, at + 1 + random.below(30))
    at += chunk.length
    process.armed = false
    await appendRecords(drivers[0]!.log, chunk)
    process.armed = true
    for (let done = false; !done; ) {
      try {
        if (process.dead) {
          await process.restart(...drivers.map(({ engine }) => engine.plan))
          drivers = await open()
        }
        for (const driver of random.shuffle([...drivers])) {
          if (random.below(3) > 0) await driver.process()
        }
        done = true
      } catch (error) {
        if (!process.dead) throw error
      }
    }
  }
  process.armed = false
  await finish(drivers)
  const { events } = await outcome(drivers)
  expect(plain(events), `seed ${seed}`).toEqual(plain(wanted.events))
  if (saga === 'choreographed') expectSame(events, wanted.events, `seed ${seed}`)
  await closeServices(drivers)
  return process.kills
}

test('a backlog of more than is kept is carried through: nothing is forgotten that is still to be answered', async () => {
  const story = customersStory(new Random(1), { orders: 100, stock: 10_000 })
  const dayMs = 24 * 60 * minuteMs
  const lastMs = story.at(-1)!.timeMs
  const later = Array.from({ length: 40 }, (_, i) => {
    const order = { orderId: `late-${i}`, customerId: 'c', region: 'eu', currency: 'EUR' }
    const items = [{ sku: 'sku-0', category: 'books', quantity: 1, unitPriceMinor: 100 }]
    const createdAt = lastMs + 31 * dayMs + i * 1000
    const event = { type: 'OrderCreated', ...order, items, totalMinor: 100, createdAt } as const
    return sagaRecord({ ...event, channel: null }, `late-${i}`)
  })
  const drivers = await openServices(serviceTopologies(strict))
  await feedStock(drivers, story)
  drivers[0]!.tick(33 * dayMs)
  await appendRecords(drivers[0]!.log, [
    ...story.filter(({ topic }) => topic !== 'stock'),
    ...later,
  ])
  await finish(drivers)
  const { books } = await outcome(drivers)
  expect(books.ended.size).toBe(140)
  await closeServices(drivers)
})

test('an order of more pieces than an event can say is rejected, refunded and pointed at', async () => {
  const max = 2 ** 31 - 1
  const item = { sku: 'pin', category: 'books', quantity: max, unitPriceMinor: 1 }
  const stock = [1, 2, 3].map(n => {
    const event = { type: 'StockReceived', sku: 'pin', quantity: max } as const
    return sagaRecord({ ...event, receivedAt: storyStartMs }, `stock-${n}`)
  })
  const order = { orderId: 'o-1', customerId: 'c', region: 'eu', currency: 'EUR', channel: null }
  const event = {
    type: 'OrderCreated',
    ...order,
    items: [item, item],
    totalMinor: 2 * max,
  } as const
  const drivers = await openServices(serviceTopologies(strict))
  await feedStock(drivers, stock)
  await appendRecords(drivers[0]!.log, [
    sagaRecord({ ...event, createdAt: storyStartMs + 1000 }, 'o-1.created'),
  ])
  await finish(drivers)
  const { events } = await outcome(drivers)
  const types = events.map(one => one.event.type)
  expect(types).toEqual(
    expect.arrayContaining(['InventoryRejected', 'PaymentRefunded', 'OrderCancelled']),
  )
  expect(types.filter(type => type === 'FraudSuspected')).toHaveLength(1)
  for (const driver of drivers) expect(await deadLetters(driver), driver.application).toEqual([])
  await closeServices(drivers)
})

import { afterEach, expect, test } from 'vitest'
import { eventTimeOf, eventTopics } from '../../../contracts/topics.ts'
import { analyticsTopology } from '../../../processors/analytics/analytics.ts'
import { eventSerde, orderKey, orderStreams } from '../../../processors/analytics/event-streams.ts'
import { orderStatusTopology } from '../../../processors/analytics/order-status.ts'
import { type OrderEvent, orderEventsMax, orderOf } from '../../../processors/orders/order-state.ts'
import { orderRow } from '../../../processors/orders/order-view.ts'
import { Topology } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { append, KilledProcess } from '../../oracle/harness.ts'
import { interleave } from '../../oracle/inputs.ts'
import { orderEvent } from '../../support/order-events.ts'
import { factsInLog, once } from '../../support/order-facts.ts'
import { Random } from '../../support/random.ts'

const PARTITIONS = 3
const BEGIN = Date.UTC(2026, 4, 4)
const SPAN_MS = 3_600_000

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

function statusTopology(): Topology {
  const topology = new Topology('status')
  orderStatusTopology(orderStreams(topology))
  return topology
}

async function start(options: Parameters<typeof TopologyTestDriver.open>[1] = {}) {
  const driver = await TopologyTestDriver.open(statusTopology(), {
    partitions: PARTITIONS,
    startMs: BEGIN + 10 * SPAN_MS,
    ...options,
  })
  open.push(driver)
  return driver
}

const input = (event: OrderEvent, headers: Record<string, string>) => ({
  topic: eventTopics[event.type],
  key: event.orderId,
  value: event,
  timeMs: eventTimeOf(event),
  headers,
})

/** Events of many orders, minutes out of order, one in ten twice. */
function randomInputs(random: Random, orders: number) {
  const inputs: (ReturnType<typeof input> & { arrivalMs: number; partition: number })[] = []
  for (let i = 0; i < orders * 8; i++) {
    const orderId = `order-${random.below(orders)}`
    const timeMs = BEGIN + 1_000 * random.below(SPAN_MS / 1_000)
    const event = orderEvent(random, orderId, timeMs)
    const headers = {
      ce_id: `e${i}`,
      actor: random.pick(['ann', 'system']),
      correlationid: `c${i % 50}`,
      causationid: `e${i - 1}`,
    }
    const partition = Number(orderId.slice(6)) % PARTITIONS
    for (let copy = 0; copy < (random.below(10) === 0 ? 2 : 1); copy++) {
      const arrivalMs = timeMs + random.below(300_000)
      inputs.push({ ...input(event, headers), arrivalMs, partition })
    }
  }
  return inputs.sort((a, b) => a.arrivalMs - b.arrivalMs)
}

test('1,000 random (order, time) pairs: as of then is a replay of the raw events up to then', async () => {
  const random = new Random(7)
  const orders = 120
  const inputs = randomInputs(random, orders)
  const process = new KilledProcess(new Random(8))
  const opening = () => start({ database: process.database, reached: process.reached })
  let driver = await opening()
  let i = 0
  for (const cut of interleave(inputs, random)) {
    process.armed = false
    await append(driver, cut)
    process.armed = ++i % 3 === 0
    try {
      await driver.process()
    } catch (error) {
      if (!process.dead) throw error
      // What is killed has nothing left to close.
      open.pop()
      await process.restart(driver.engine.plan)
      process.armed = false
      driver = await opening()
    }
  }
  process.armed = false
  await driver.process()
  expect(process.kills).toBeGreaterThan(5)
  const facts = once(await factsInLog(driver.log))
  expect(facts.length).toBeLessThan(inputs.length)
  const statuses = new Set<string>()
  let changed = 0
  for (let pair = 0; pair < 1_000; pair++) {
    const orderId = `order-${random.below(orders)}`
    const asOf = BEGIN + random.below(SPAN_MS + 60_000)
    const known = facts.filter(
      ({ event }) => event.orderId === orderId && eventTimeOf(event) <= asOf,
    )
    const { row } = await driver.views.row('order-status', orderId, { asOf })
    const replayed = orderRow(orderOf(orderId, known))
    expect(row, `${orderId} as of ${asOf}`).toEqual(
      known.length === 0 ? undefined : { orderId, ...replayed },
    )
    statuses.add(replayed.status)
    const { row: now } = await driver.views.row('order-status', orderId)
    if (row !== undefined && now!.version !== row.version) changed++
  }
  expect(statuses.size).toBeGreaterThan(6)
  expect(changed).toBeGreaterThan(500)
})

test('a range as of a time has every order that was, as it was', async () => {
  const random = new Random(3)
  const driver = await start()
  await append(driver, randomInputs(random, 40))
  await driver.process()
  const facts = once(await factsInLog(driver.log))
  for (let i = 0; i < 5; i++) {
    const asOf = BEGIN + random.below(SPAN_MS)
    const known = facts.filter(({ event }) => eventTimeOf(event) <= asOf)
    const ids = [...new Set(known.map(({ event }) => event.orderId))].sort()
    const wanted = ids.map(orderId => {
      const own = known.filter(({ event }) => event.orderId === orderId)
      return { orderId, ...orderRow(orderOf(orderId, own)) }
    })
    expect(await driver.rows('order-status', asOf)).toEqual(wanted)
  }
})

test('an order of absurdly many events refuses the others, with the reason, and goes on', async () => {
  const driver = await start()
  const events = Array.from({ length: orderEventsMax + 2 }, (_, i) => {
    const event: OrderEvent = {
      type: 'PaymentDeclined',
      paymentId: `p${i}`,
      orderId: 'o',
      amountMinor: 1,
      currency: 'EUR',
      method: 'card',
      reason: 'no',
      declinedAt: BEGIN + i,
    }
    return input(event, { ce_id: `e${i}` })
  })
  await driver.pipe('payments', ...events)
  const { row } = await driver.views.row('order-status', 'o')
  expect(row).toMatchObject({ version: orderEventsMax, status: 'declined' })
  const serdes = { key: orderKey, value: eventSerde }
  const letters = await driver.output('status-dead-letters', serdes)
  expect(letters.map(({ headers }) => headers.dl_reason)).toEqual(['overflow', 'overflow'])
  expect(letters[0]!.headers.dl_detail).toContain('the order o has 500 events already')
})

test('an event without headers is told by its place', async () => {
  const driver = await start()
  const event = orderEvent(new Random(1), 'o', BEGIN)
  await driver.pipe(eventTopics[event.type], input(event, {}))
  const { row } = await driver.views.row('order-status', 'o')
  const [told] = row!.events as Record<string, unknown>[]
  expect(told).toMatchObject({ id: `${told!.topic}/${told!.partition}/0`, actor: null, offset: 0 })
})

test('the analytics serve it, versioned', () => {
  const { views } = analyticsTopology({ retentionMs: Number.POSITIVE_INFINITY })
  const view = views.find(({ declaration }) => declaration.name === 'order-status')
  expect(view?.declaration.versioned).toEqual({ historyMs: Number.POSITIVE_INFINITY })
})

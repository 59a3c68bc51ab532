import { afterEach, expect, test } from 'vitest'
import type { OrderCommand, OrderCommandRecord } from '../../../contracts/order-commands.ts'
import { orderCommandTopic } from '../../../contracts/order-commands.ts'
import { eventTimeOf, eventTopics } from '../../../contracts/topics.ts'
import { eventSerde, orderKey } from '../../../processors/analytics/event-streams.ts'
import {
  compareFacts,
  NO_PLACE,
  type OrderEvent,
  type OrderState,
  orderEventsMax,
  orderOf,
} from '../../../processors/orders/order-state.ts'
import { orderingTopology } from '../../../processors/orders/ordering.ts'
import { committedRows } from '../../../state/committed-rows.ts'
import { json, textKey } from '../../../streams/index.ts'
import { partitionOfKey } from '../../../streams/sinks.ts'
import { storeInDatabase } from '../../../streams/task-parts.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { append, checkStores, KilledProcess } from '../../oracle/harness.ts'
import { interleave } from '../../oracle/inputs.ts'
import { orderEvent } from '../../support/order-events.ts'
import { factsInLog } from '../../support/order-facts.ts'
import { Random } from '../../support/random.ts'

const PARTITIONS = 3
const T0 = Date.UTC(2026, 4, 4)
const items = [{ sku: 'mug', category: 'home', quantity: 2, unitPriceMinor: 500 }]

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(options: Parameters<typeof TopologyTestDriver.open>[1] = {}) {
  const settings = { idleAfterMs: Number.POSITIVE_INFINITY }
  const defaults = { partitions: PARTITIONS, startMs: T0 + 1e9, settings }
  const driver = await TopologyTestDriver.open(orderingTopology(), { ...defaults, ...options })
  open.push(driver)
  return driver
}

const place = (orderId: string): OrderCommand => ({
  type: 'PlaceOrder',
  orderId,
  ifMatch: null,
  customerId: 'ann',
  region: 'eu',
  currency: 'EUR',
  items,
  totalMinor: 1000,
  channel: null,
})
const add = (orderId: string, ifMatch: number | null = null): OrderCommand => {
  return { type: 'AddItems', orderId, ifMatch, items }
}
const cancel = (orderId: string): OrderCommand => {
  return { type: 'CancelOrder', orderId, ifMatch: null, reason: 'changed-mind' }
}

function asked(id: string, command: OrderCommand, timeMs: number) {
  const value: OrderCommandRecord = { id, fingerprint: `f-${id}`, command }
  const headers = { ce_id: id, correlationid: id, actor: 'ann' }
  return { topic: orderCommandTopic, key: command.orderId, value, timeMs, headers }
}

function heard(id: string, event: OrderEvent) {
  const { orderId: key } = event
  const headers = { ce_id: id }
  return { topic: eventTopics[event.type], key, value: event, timeMs: eventTimeOf(event), headers }
}

const paid = (orderId: string, authorizedAt: number): OrderEvent => ({
  type: 'PaymentAuthorized',
  paymentId: `p-${orderId}`,
  orderId,
  amountMinor: 1000,
  currency: 'EUR',
  method: 'card',
  authorizedAt,
})

const outcome = async (driver: TopologyTestDriver, id: string) => {
  const { row } = await driver.views.row('order-commands', id)
  return row && `${row.refusal ?? row.eventType} ${row.version} ${row.status}`
}

const eventsOut = (driver: TopologyTestDriver) =>
  driver.output('orders', { key: orderKey, value: eventSerde })

test('a command becomes an event with its cause, and an outcome, in one epoch', async () => {
  const driver = await start()
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0))
  expect(await outcome(driver, 'c1')).toBe('OrderCreated 1 pending')
  const [event, ...more] = await eventsOut(driver)
  expect(more).toEqual([])
  expect(event).toMatchObject({ timeMs: T0, value: { type: 'OrderCreated', createdAt: T0 } })
  expect(event!.headers).toEqual({
    ce_id: 'c1.1',
    ce_type: 'OrderCreated',
    ce_source: 'millrace/ordering',
    ce_time: new Date(T0).toISOString(),
    ce_specversion: '1.0',
    correlationid: 'c1',
    causationid: 'c1',
    actor: 'ann',
  })
})

test('commands see what those before decided, before it comes back', async () => {
  const driver = await start()
  await driver.pipe(
    orderCommandTopic,
    asked('c1', place('o'), T0),
    asked('c2', add('o', 1), T0 + 1),
    asked('c3', add('o', 1), T0 + 2),
    asked('c4', cancel('o'), T0 + 3),
    asked('c5', add('o'), T0 + 4),
  )
  expect(await outcome(driver, 'c2')).toBe('OrderItemsAdded 2 pending')
  expect(await outcome(driver, 'c3')).toBe('ORDER_CHANGED 2 pending')
  expect(await outcome(driver, 'c4')).toBe('OrderCancelled 3 cancelled')
  expect(await outcome(driver, 'c5')).toBe('ORDER_CLOSED 3 cancelled')
})

test('the events of others count: a paid order takes no items', async () => {
  const driver = await start()
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0))
  await driver.pipe('payments', heard('e1', paid('o', T0 + 5)))
  await driver.pipe(orderCommandTopic, asked('c2', add('o'), T0 + 6), asked('c3', cancel('o'), T0))
  expect(await outcome(driver, 'c2')).toBe('ORDER_CLOSED 2 paid')
  expect(await outcome(driver, 'c3')).toBe('OrderCancelled 3 cancelled')
  const events = await eventsOut(driver)
  // Decided after the payment was known, it does not lie before it.
  expect(events.map(({ timeMs }) => timeMs)).toEqual([T0, T0 + 5])
})

test('a command that comes twice is decided once', async () => {
  const driver = await start()
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0), asked('c1', place('o'), T0 + 9))
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0 + 20))
  for (const timeMs of [T0 + 30, T0 + 40]) {
    await driver.pipe(orderCommandTopic, asked('c2', add('o'), timeMs))
  }
  expect(await outcome(driver, 'c1')).toBe('OrderCreated 1 pending')
  expect(await outcome(driver, 'c2')).toBe('OrderItemsAdded 2 pending')
  expect((await eventsOut(driver)).map(({ headers }) => headers.ce_id)).toEqual(['c1.1', 'c2.1'])
})

test('a full order, one that is too large and one that is unknown refuse', async () => {
  const driver = await start()
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0), asked('c2', add('none'), T0))
  const dear = [{ ...items[0]!, quantity: 1, unitPriceMinor: Number.MAX_SAFE_INTEGER }]
  const command: OrderCommand = { type: 'AddItems', orderId: 'o', ifMatch: null, items: dear }
  await driver.pipe(orderCommandTopic, asked('c3', command, T0 + 1))
  const many = Array.from({ length: orderEventsMax }, (_, i): OrderEvent => {
    return {
      ...paid('o', T0 + 2 + i),
      type: 'PaymentDeclined',
      reason: 'no',
      declinedAt: T0 + 2 + i,
    } as OrderEvent
  })
  await driver.pipe('payments', ...many.map((event, i) => heard(`e${i}`, event)))
  await driver.pipe(orderCommandTopic, asked('c4', add('o'), T0 + 1000))
  expect(await outcome(driver, 'c2')).toBe('ORDER_UNKNOWN 0 unknown')
  expect(await outcome(driver, 'c3')).toBe('ORDER_TOO_LARGE 1 pending')
  expect(await outcome(driver, 'c4')).toBe(`ORDER_FULL ${orderEventsMax} declined`)
})

test('items beyond what the services take are not added', async () => {
  const driver = await start()
  const item = { ...items[0]!, sku: 'x'.repeat(1000) }
  const many = Array.from({ length: 40 }, () => item)
  const command: OrderCommand = { type: 'AddItems', orderId: 'o', ifMatch: null, items: many }
  await driver.pipe(orderCommandTopic, asked('c1', place('o'), T0))
  await driver.pipe(orderCommandTopic, asked('c2', command, T0 + 1), asked('c3', command, T0 + 2))
  await driver.pipe(orderCommandTopic, asked('c4', add('o'), T0 + 3))
  expect(await outcome(driver, 'c2')).toBe('OrderItemsAdded 2 pending')
  expect(await outcome(driver, 'c3')).toBe('ORDER_FULL 2 pending')
  expect(await outcome(driver, 'c4')).toBe('OrderItemsAdded 3 pending')
  const large = { ...place('p'), items: [...many, ...many] }
  await driver.pipe(orderCommandTopic, asked('c5', large, T0 + 4))
  expect(await outcome(driver, 'c5')).toBe('ORDER_FULL 0 unknown')
})

test('what is no command is a dead letter, with the reason', async () => {
  const driver = await start()
  const other = { ...asked('c1', place('o'), T0), key: 'other' }
  const broken = { ...asked('c2', place('o'), T0), value: { id: 'c2', fingerprint: '' } as never }
  await driver.pipe(orderCommandTopic, other, broken)
  const letters = await driver.output('ordering-dead-letters', { key: orderKey, value: json() })
  expect(letters).toHaveLength(2)
  expect(await driver.rows('order-commands')).toEqual([])
})

/** The aggregate's rows, as committed. */
async function aggregates(driver: TopologyTestDriver): Promise<Map<string, OrderState>> {
  const found = new Map<string, OrderState>()
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const name = storeInDatabase('ordering', 'order-aggregate-orders')
    const codec = json<OrderState>()
    const rows = committedRows({ name, partition, codec, reader: driver.database })
    for await (const chunk of rows.scan({})) {
      for (const { key, value } of chunk) found.set(textKey().decode(key), value)
    }
  }
  return found
}

/** Commands and events of others, at random, and kills between and within epochs. */
async function story(seed: number): Promise<{ driver: TopologyTestDriver; kills: number }> {
  const random = new Random(seed)
  const inputs = Array.from({ length: 300 }, (_, i) => {
    const orderId = `o-${random.below(25)}`
    const timeMs = T0 + i * 50 + random.below(2_000)
    const partition = partitionOfKey(orderKey, orderId, PARTITIONS)
    const commands = [place(orderId), add(orderId), add(orderId, random.below(4)), cancel(orderId)]
    const input =
      random.below(2) === 0
        ? asked(`c${i}`, random.pick(commands), timeMs)
        : heard(`e${i}`, orderEvent(random, orderId, timeMs))
    return { ...input, partition }
  })
  const process = new KilledProcess(random)
  const opening = () => start({ database: process.database, reached: process.reached })
  let driver = await opening()
  for (const cut of interleave(inputs, random)) {
    process.armed = false
    await append(driver, cut)
    process.armed = random.below(3) === 0
    try {
      if (random.below(3) > 0) await driver.process()
    } catch (error) {
      if (!process.dead) throw error
      open.pop()
      await process.restart(driver.engine.plan)
      process.armed = false
      driver = await opening()
    }
  }
  process.armed = false
  // What was decided last comes back by the log.
  for (let i = 0; i < 2; i++) await driver.process()
  return { driver, kills: process.kills }
}

test('after any story with kills, each aggregate is what a replay of the events in the log gives', async () => {
  let kills = 0
  let decided = 0
  for (let seed = 1; seed <= 6; seed++) {
    const { driver, kills: own } = await story(seed)
    kills += own
    const facts = Map.groupBy(await factsInLog(driver.log), ({ event }) => event.orderId)
    const rows = await aggregates(driver)
    expect([...rows.keys()].sort()).toEqual([...facts.keys()].sort())
    for (const [orderId, row] of rows) {
      expect(row, `seed ${seed} ${orderId}`).toEqual(orderOf(orderId, facts.get(orderId)!))
      expect(row.events.every(({ offset }) => offset !== NO_PLACE)).toBe(true)
      expect([...row.events].sort(compareFacts)).toEqual(row.events)
    }
    const outcomes = await driver.rows('order-commands')
    const events = [...facts.values()].flat().filter(({ causationId }) => causationId !== null)
    // Each command that was done has one event in the log, and no other has one.
    const done = outcomes.filter(({ refusal }) => refusal === null).map(row => row.eventId)
    expect(events.map(({ id }) => id).sort()).toEqual(done.sort())
    decided += done.length
    await checkStores(driver)
  }
  expect(kills).toBeGreaterThan(10)
  expect(decided).toBeGreaterThan(150)
})

test('additions of one time come to the sum of all, whether or not the former are back', async () => {
  const driver = await start({ startMs: T0 })
  // The clock of who placed it is ahead: all that is decided now is of that time.
  const createdAt = T0 + 10_000
  const created = { type: 'OrderCreated', orderId: 'o', customerId: 'ann', region: 'eu' } as const
  const event = { ...created, currency: 'EUR', items, totalMinor: 1000, createdAt, channel: null }
  const { topic, ...order } = heard('e1', event)
  await driver.pipe(topic, order)
  const command = (id: string, n: number) => {
    const { topic: _, ...rest } = asked(id, add('o'), T0 + n)
    return rest
  }
  await driver.pipe(orderCommandTopic, command('a', 0))
  await driver.process()
  await driver.pipe(orderCommandTopic, command('b', 1), command('c', 2))
  const told = await driver.output('orders', { key: orderKey, value: eventSerde })
  const totals = told.map(({ value }) => (value as { totalMinor: number }).totalMinor)
  expect(totals).toEqual([1000, 2000, 3000, 4000])
})

import { afterEach, expect, test } from 'vitest'
import type { BusinessEvent, EventOf } from '../../../contracts/events.ts'
import { eventKeyOf, eventTimeOf, eventTopics } from '../../../contracts/topics.ts'
import { analyticsTopology } from '../../../processors/analytics/analytics.ts'
import { text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
/** A whole day, so that it begins windows of all sizes. */
const t0 = Date.UTC(2026, 4, 4)

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(analyticsTopology({ retentionMs: 30 * day }), {
    startMs: t0 + 10 * day,
  })
  open.push(driver)
  return driver
}

function order(
  orderId: string,
  createdAt: number,
  rest: Partial<EventOf<'OrderCreated'>> = {},
): BusinessEvent {
  const items = [{ sku: 'mug', category: 'home', quantity: 2, unitPriceMinor: 500 }]
  return {
    type: 'OrderCreated',
    orderId,
    customerId: 'ann',
    region: 'eu',
    currency: 'EUR',
    items,
    totalMinor: 1000,
    createdAt,
    ...rest,
  }
}

const payment = (orderId: string, amountMinor = 1000, method = 'card') => ({
  paymentId: `pay-${orderId}`,
  orderId,
  amountMinor,
  currency: 'EUR',
  method,
})

function authorized(orderId: string, authorizedAt: number, amountMinor = 1000): BusinessEvent {
  return { type: 'PaymentAuthorized', ...payment(orderId, amountMinor), authorizedAt }
}

function declined(orderId: string, declinedAt: number): BusinessEvent {
  return { type: 'PaymentDeclined', ...payment(orderId), reason: 'expired-card', declinedAt }
}

function fulfilled(orderId: string, fulfilledAt: number): BusinessEvent {
  return { type: 'OrderFulfilled', orderId, carrier: 'post', fulfilledAt }
}

async function pipe(driver: TopologyTestDriver, ...events: BusinessEvent[]): Promise<void> {
  for (const event of events) {
    const record = { key: eventKeyOf(event), value: event, timeMs: eventTimeOf(event) }
    await driver.pipe(eventTopics[event.type], record)
  }
}

/** Moves the event time of both topics. */
async function moveTo(driver: TopologyTestDriver, timeMs: number): Promise<void> {
  const refunded = { ...payment(`clock-${timeMs}`, 1, 'clock'), reason: 'clock' }
  await pipe(
    driver,
    { type: 'OrderCancelled', orderId: `clock-${timeMs}`, reason: 'clock', cancelledAt: timeMs },
    { type: 'PaymentRefunded', ...refunded, refundedAt: timeMs },
  )
}

async function deadLetters(driver: TopologyTestDriver): Promise<string[]> {
  const dead = await driver.output('analytics-dead-letters', { key: textKey(), value: text() })
  return dead.map(({ headers }) => `${headers.dl_reason} ${headers.dl_step}`).sort()
}

test('the views have the names, keys and fields of their contract', async () => {
  const views = (await start()).views.views()
  const contract = views.map(({ name, kind, key, value }) => [
    name,
    kind,
    key.map(field => field.name).join(' '),
    Object.keys(value.properties).join(' '),
  ])
  expect(contract.sort()).toEqual([
    ['active-customers', 'window', '', 'customers'],
    ['alerts', 'window', 'rule key', 'severity observed expected message'],
    [
      'customer-profile',
      'table',
      'customerId',
      'orders spendMinor firstOrderAt lastOrderAt favouriteCategory',
    ],
    ['customer-sessions', 'session', 'customerId currency', 'orders spendMinor'],
    ['inventory-levels', 'table', 'sku', 'onHand reserved'],
    ['order-funnel', 'window', '', 'created paid reserved fulfilled cancelled'],
    [
      'order-status',
      'table',
      'orderId',
      'status version customerId region currency totalMinor authorizedMinor refundedMinor items ' +
        'carrier tracking reason createdAt updatedAt events',
    ],
    ['order-volume', 'window', 'region currency', 'orders items grossMinor'],
    ['payment-outcomes', 'window', 'method', 'authorized declined refunded authorizationRate'],
    ['revenue', 'window', 'region currency', 'paidOrders revenueMinor'],
    ['revenue-trend', 'window', 'region currency', 'paidOrders revenueMinor'],
    ['stage-latency', 'window', 'stage', 'count p50 p95 p99'],
    ['top-products', 'window', 'currency rank', 'sku quantity grossMinor'],
    ['unpaid-orders', 'table', 'orderId', 'customerId totalMinor currency createdAt'],
  ])
  const rank = views.find(({ name }) => name === 'top-products')!.key[1]
  expect(rank).toEqual({ name: 'rank', type: 'integer' })
})

test('a sum that would pass 2^53 - 1 is put aside and leaves the rows as they are', async () => {
  const driver = await start()
  const most = Number.MAX_SAFE_INTEGER
  await pipe(driver, order('o1', t0, { totalMinor: most }), order('o2', t0, { totalMinor: 0 }))
  await pipe(driver, order('o3', t0, { totalMinor: 1 }))
  const volume = { orders: 2, items: 4, grossMinor: most }
  expect(await driver.rows('order-volume')).toMatchObject([volume])
  expect(await driver.rows('customer-profile')).toMatchObject([
    { orders: 2, spendMinor: { EUR: most } },
  ])
  expect(await driver.rows('customer-sessions')).toMatchObject([{ orders: 2, spendMinor: most }])
  expect(await deadLetters(driver)).toEqual([
    'overflow customer-profile',
    'overflow customer-sessions',
    'overflow order-volume',
  ])
})

test('a product of quantity and price that is too large is put aside, the order still counts', async () => {
  const driver = await start()
  const dear = { sku: 'yacht', category: 'sea', quantity: 3, unitPriceMinor: 2 ** 52 }
  await pipe(driver, order('o1', t0, { items: [dear] }))
  expect(await driver.rows('top-products')).toEqual([])
  expect(await driver.rows('order-volume')).toMatchObject([{ orders: 1, items: 3 }])
  expect(await deadLetters(driver)).toEqual(['overflow top-products'])
})

test('__proto__ and its like are names as any other', async () => {
  const driver = await start()
  const items = ['__proto__', 'constructor', '__proto__'].map(category => ({
    sku: category,
    category,
    quantity: 1,
    unitPriceMinor: 10,
  }))
  const named = { items, currency: '__proto__', region: 'toString', customerId: '__proto__' }
  await pipe(driver, order('o1', t0, named), order('o2', t0, named))
  const [profile] = await driver.rows('customer-profile')
  expect(profile).toMatchObject({ customerId: '__proto__', favouriteCategory: '__proto__' })
  expect(JSON.stringify(profile!.spendMinor)).toBe('{"__proto__":2000}')
  expect(await driver.rows('order-volume')).toMatchObject([
    { region: 'toString', currency: '__proto__', orders: 2, items: 6 },
  ])
  expect(await driver.rows('top-products')).toMatchObject([
    { rank: 1, sku: '__proto__', quantity: 4 },
    { rank: 2, sku: 'constructor', quantity: 2 },
  ])
})

test('favourites with as many items are ordered by name; without items there is none', async () => {
  const driver = await start()
  const item = (category: string) => ({ sku: category, category, quantity: 1, unitPriceMinor: 1 })
  await pipe(driver, order('o1', t0, { items: [item('b'), item('a')] }))
  await pipe(driver, order('o2', t0, { customerId: 'bob', items: [] }))
  const rows = await driver.rows('customer-profile')
  expect(rows.map(({ favouriteCategory }) => favouriteCategory)).toEqual(['a', null])
})

test('revenue has the time of the payment, also of one that comes before its order', async () => {
  const driver = await start()
  await pipe(driver, authorized('o1', t0 + minute, 700), order('o1', t0 + 3 * minute))
  await pipe(driver, order('o2', t0 + 3 * minute), authorized('o2', t0 + 4 * minute, 40))
  const rows = await driver.rows('revenue')
  expect(rows).toMatchObject([
    { windowStart: t0 + minute, paidOrders: 1, revenueMinor: 700 },
    { windowStart: t0 + 4 * minute, paidOrders: 1, revenueMinor: 40 },
  ])
  const trend = await driver.rows('revenue-trend')
  expect(trend.length).toBe(12)
  expect(trend.every(({ revenueMinor }) => revenueMinor === 740)).toBe(true)
})

test('each step of an order counts in the hour in which it happened', async () => {
  const driver = await start()
  await pipe(driver, order('o1', t0), order('o2', t0 + minute), authorized('o1', t0 + hour - 1))
  const items = [{ sku: 'mug', quantity: 2 }]
  const reservedAt = t0 + hour
  await pipe(driver, { type: 'InventoryReserved', orderId: 'o1', items, reservedAt })
  await pipe(driver, fulfilled('o1', t0 + 2 * hour), declined('o2', t0 + 2 * hour))
  const cancelledAt = t0 + hour
  await pipe(driver, { type: 'OrderCancelled', orderId: 'o2', reason: 'changed-mind', cancelledAt })
  const none = { created: 0, paid: 0, reserved: 0, fulfilled: 0, cancelled: 0, final: false }
  const at = (hours: number) => {
    return { windowStart: t0 + hours * hour, windowEnd: t0 + (hours + 1) * hour }
  }
  expect(await driver.rows('order-funnel')).toEqual([
    { ...none, ...at(0), created: 2, paid: 1 },
    { ...none, ...at(1), reserved: 1, cancelled: 1 },
    { ...none, ...at(2), fulfilled: 1 },
  ])
})

test('a stage takes from one event to the next, in the hour of the next, in either order', async () => {
  const driver = await start()
  await pipe(driver, order('o1', t0), authorized('o1', t0 + 40_000))
  await pipe(driver, fulfilled('o2', t0 + 8 * hour), authorized('o2', t0 + hour))
  await pipe(driver, order('o2', t0 + hour - 20_000))
  await pipe(driver, authorized('o3', t0), fulfilled('o3', t0 + 7 * day))
  await pipe(driver, authorized('o4', t0), fulfilled('o4', t0 + 7 * day + 1))
  const shown = (await driver.rows('stage-latency')).map(row => {
    const { stage, windowStart, count, p50, p95, p99 } = row
    expect([p95, p99]).toEqual([p50, p50])
    return [stage, (Number(windowStart) - t0) / hour, count, p50]
  })
  expect(shown).toEqual([
    ['created→paid', 0, 1, 40_000],
    ['created→paid', 1, 1, 20_000],
    ['paid→fulfilled', 8, 1, 7 * hour],
    ['paid→fulfilled', 168, 1, 7 * day],
  ])
})

const reserved = (orderId: string, ...quantities: number[]): BusinessEvent => {
  const items = quantities.map((quantity, i) => ({ sku: `sku-${i}`, quantity }))
  return { type: 'InventoryReserved', orderId, items, reservedAt: t0 }
}

test('what came in is on hand, reserved or shipped, in whatever order the events come', async () => {
  const received = (quantity: number): BusinessEvent => {
    return { type: 'StockReceived', sku: 'sku-0', quantity, receivedAt: t0 }
  }
  const items = [{ sku: 'sku-0', quantity: 1 }]
  const released: BusinessEvent = {
    type: 'InventoryReleased',
    orderId: 'o2',
    items,
    releasedAt: t0,
  }
  const events = [
    received(10),
    reserved('o1', 2, 5),
    fulfilled('o1', t0),
    reserved('o2', 4),
    released,
    fulfilled('o3', t0),
    received(1),
  ]
  for (const order of [events, events.toReversed()]) {
    const driver = await start()
    await pipe(driver, ...order)
    expect(await driver.rows('inventory-levels')).toEqual([
      { sku: 'sku-0', onHand: 6, reserved: 3 },
      { sku: 'sku-1', onHand: -5, reserved: 0 },
    ])
  }
})

test('an order is shipped once, and what comes back of it is on hand again', async () => {
  const driver = await start()
  const items = [{ sku: 'sku-0', quantity: 1 }]
  await pipe(driver, reserved('o1', 3), fulfilled('o1', t0), fulfilled('o1', t0 + 1))
  expect(await driver.rows('inventory-levels')).toMatchObject([{ onHand: -3, reserved: 0 }])
  await pipe(driver, { type: 'InventoryReleased', orderId: 'o1', items, releasedAt: t0 + 2 })
  expect(await driver.rows('inventory-levels')).toMatchObject([{ onHand: -2, reserved: 0 }])
})

test('quantiles of a stage are within 1 % of the exact ones', async () => {
  const driver = await start()
  const took = Array.from({ length: 200 }, (_, i) => 1000 + 137 * i * i)
  for (const [i, ms] of took.entries()) {
    await pipe(driver, order(`o${i}`, t0 + 2 * hour - ms), authorized(`o${i}`, t0 + 2 * hour))
  }
  const [row] = await driver.rows('stage-latency')
  expect(row!.count).toBe(200)
  for (const [field, share] of [
    ['p50', 0.5],
    ['p95', 0.95],
    ['p99', 0.99],
  ] as const) {
    const exact = took[Math.floor(share * 199)]!
    expect(Math.abs(Number(row![field]) / exact - 1), field).toBeLessThanOrEqual(0.01)
  }
})

test('the rate of a method that only refunded is 0', async () => {
  const driver = await start()
  await moveTo(driver, t0)
  const none = { authorized: 0, declined: 0, refunded: 1, authorizationRate: 0 }
  expect(await driver.rows('payment-outcomes')).toMatchObject([none])
})

test('an order is unpaid once 24 h and the grace have passed, not if it was paid at 24 h', async () => {
  const driver = await start()
  await pipe(driver, order('paid', t0), order('unpaid', t0, { customerId: 'bob' }))
  await pipe(driver, declined('unpaid', t0 + minute), authorized('paid', t0 + day))
  await moveTo(driver, t0 + day + 10 * minute)
  expect(await driver.rows('unpaid-orders')).toEqual([])
  await moveTo(driver, t0 + day + 10 * minute + 1)
  const row = { orderId: 'unpaid', customerId: 'bob', totalMinor: 1000, currency: 'EUR' }
  expect(await driver.rows('unpaid-orders')).toEqual([{ ...row, createdAt: t0 }])
})

test('orders exactly 30 minutes apart are one session, a millisecond more makes two', async () => {
  const driver = await start()
  const gap = 30 * minute
  await pipe(driver, order('o1', t0), order('o2', t0 + gap), order('o3', t0 + 2 * gap + 1))
  expect(await driver.rows('customer-sessions')).toMatchObject([
    { windowStart: t0, windowEnd: t0 + gap, orders: 2, spendMinor: 2000 },
    { windowStart: t0 + 2 * gap + 1, windowEnd: t0 + 2 * gap + 1, orders: 1 },
  ])
})

test('four attempts within ten minutes raise one alert, until there were fewer again', async () => {
  const driver = await start()
  const orders = ['o1', 'o2', 'o3'].map(id => order(id, t0))
  await pipe(driver, ...orders)
  const attempts = [0, 3, 6, 10, 11].map(at => declined('o1', t0 + at * minute))
  await pipe(driver, ...attempts)
  await moveTo(driver, t0 + 20 * minute - 1)
  expect(await driver.rows('alerts')).toEqual([])
  await moveTo(driver, t0 + 20 * minute)
  const first = {
    rule: 'payment-attempts',
    key: 'ann',
    windowStart: t0,
    windowEnd: t0 + 10 * minute,
    final: true,
    observed: 4,
    expected: 3,
  }
  expect(await driver.rows('alerts')).toMatchObject([first])
  await moveTo(driver, t0 + hour)
  expect((await driver.rows('alerts')).length).toBe(1)
  await pipe(driver, ...[0, 1, 2, 3].map(at => declined('o2', t0 + 2 * hour + at * minute)))
  await moveTo(driver, t0 + 3 * hour)
  const second = { windowStart: t0 + 2 * hour - 7 * minute, windowEnd: t0 + 2 * hour + 3 * minute }
  expect(await driver.rows('alerts')).toMatchObject([first, second])
})

test('an event with an id seen within 7 days is counted once, one without an id always', async () => {
  const driver = await start()
  const record = (timeMs: number, id?: string) => ({
    key: 'o1',
    value: order('o1', timeMs),
    timeMs,
    ...(id === undefined ? {} : { headers: { ce_id: id } }),
  })
  await driver.pipe('orders', record(t0, 'a'), record(t0, 'a'), record(t0), record(t0))
  await driver.pipe('orders', record(t0 + 7 * day, 'a'), record(t0 + 7 * day + 1, 'a'))
  const rows = await driver.rows('order-volume')
  expect(rows.map(({ orders }) => orders)).toEqual([3, 1])
  const duplicates = (await deadLetters(driver)).filter(line => line.startsWith('duplicate'))
  expect(duplicates).toEqual(['duplicate orders-once', 'duplicate orders-once'])
})

test('records that are no event of their order are put aside, and what follows is counted', async () => {
  const driver = await start()
  await driver.pipe('orders', { key: 'o1', value: null, timeMs: t0 })
  await driver.pipe('payments', { key: 'o1', value: null, timeMs: t0 })
  await driver.pipe('orders', { key: null, value: order('o1', t0), timeMs: t0 })
  await driver.pipe('orders', { key: 'o9', value: order('o1', t0), timeMs: t0 })
  await pipe(driver, order('o2', t0))
  expect(await driver.rows('order-volume')).toMatchObject([{ orders: 1 }])
  const dead = await driver.output('analytics-dead-letters', { key: textKey(), value: text() })
  const reasons = dead.map(({ headers }) => `${headers.dl_reason}: ${headers.dl_detail}`)
  expect(reasons.sort()).toEqual([
    'poison: TypeError: a null value is no event',
    'poison: TypeError: a null value is no event',
    'poison: TypeError: the key is not the orderId of the event',
    'poison: TypeError: the key is null',
  ])
})

/** `GET /v1/search/orders` over the search service's own views. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { termsOf, wordsOf } from '../../contracts/search-terms.ts'
import { searchTopology } from '../../processors/services/search.ts'
import { defaultServiceSettings } from '../../processors/services/settings.ts'
import type { TopologyTestDriver } from '../../streams/testing/index.ts'
import { fakeServer } from '../support/fake-server.ts'
import { Random } from '../support/random.ts'
import { customersStory, minuteMs, sagaRecord, storyStartMs } from '../support/saga.ts'
import { appendRecords, closeServices, openServices, settle } from '../support/saga-run.ts'

const day = 24 * 60 * minuteMs
let drivers: TopologyTestDriver[]
let server: Server

const item = (sku: string) => ({ sku, category: 'x', quantity: 1, unitPriceMinor: 1 })
const created = (orderId: string, rest: object): BusinessEvent => ({
  type: 'OrderCreated',
  orderId,
  customerId: 'Ann-Lee',
  region: 'eu-west',
  currency: 'EUR',
  items: [item('lamp-7')],
  totalMinor: 1,
  createdAt: storyStartMs,
  channel: null,
  ...rest,
})
const shipped: BusinessEvent = {
  type: 'OrderShipped',
  orderId: 'x-2',
  tracking: 'BL12345',
  shippedAt: storyStartMs + 2,
}
const fulfilled: BusinessEvent = {
  type: 'OrderFulfilled',
  orderId: 'x-2',
  carrier: 'c',
  fulfilledAt: storyStartMs + 2,
}
const cancelled = (orderId: string): BusinessEvent => {
  return { type: 'OrderCancelled', orderId, reason: 'r', cancelledAt: storyStartMs + 3 }
}
const story = customersStory(new Random(4), { orders: 200, stock: 1 })

beforeAll(async () => {
  drivers = await openServices([searchTopology({ ...defaultServiceSettings, keepMs: 30 * day })])
  const events = [
    created('x-1', { items: [item('lamp-7'), item('Lampe-ß')] }),
    shipped,
    fulfilled,
    created('x-2', { createdAt: storyStartMs + 1 }),
    cancelled('x-3'),
    created('x-3', { customerId: 'lamp-7', region: 'Japan' }),
    created('x-4', { customerId: 'zoe', items: [] }),
    cancelled('x-4'),
  ]
  const records = [...events.map((event, i) => sagaRecord(event, `${i}`)), ...story]
  await appendRecords(
    drivers[0]!.log,
    records.filter(({ topic }) => topic !== 'stock'),
  )
  await settle(drivers)
  ;({ server } = await fakeServer({ views: drivers[0]!.views }))
})

afterAll(async () => {
  await server.close()
  await closeServices(drivers)
})

async function search(parameters: string) {
  const response = await server.inject(`/v1/search/orders?${parameters}`)
  return { status: response.statusCode, body: response.json() }
}

async function found(q: string): Promise<string[]> {
  const { body } = await search(`q=${encodeURIComponent(q)}`)
  return body.orders.map(({ orderId }: { orderId: string }) => orderId)
}

test('text is cut into terms as the file says', () => {
  expect(termsOf('SKU-12 München')).toEqual(['sku-12', 'münchen', 'sku', '12'])
  expect(termsOf('  a\ta ')).toEqual(['a'])
  expect(termsOf('Ａｂ１ ﬁ')).toEqual(['ab1', 'fi'])
  expect(termsOf('日本 __proto__')).toEqual(['日本', '__proto__', 'proto'])
  expect(termsOf(' ')).toEqual([])
  expect(wordsOf('Lamp-7  LAMP-7 x')).toEqual(['lamp-7', 'x'])
})

test('an order is found by id, customer, product, parcel, region and status', async () => {
  expect(await found('x-1')).toEqual(['x-1'])
  expect(await found('ann-lee')).toEqual(['x-2', 'x-1'])
  expect(await found('LAMPE')).toEqual(['x-1'])
  expect(await found('BL12345')).toEqual(['x-2'])
  expect(await found('bl12')).toEqual(['x-2'])
  expect(await found('japan')).toEqual(['x-3'])
  expect(await found('fulfilled ann')).toEqual(['x-2'])
  expect(await found('ann japan')).toEqual([])
  expect(await found('nothing')).toEqual([])
  const { body } = await search('q=x-2')
  expect(body.orders).toEqual([
    {
      orderId: 'x-2',
      customerId: 'Ann-Lee',
      region: 'eu-west',
      status: 'fulfilled',
      tracking: 'BL12345',
      skus: ['lamp-7'],
      createdAt: storyStartMs + 1,
    },
  ])
  expect(body).toMatchObject({ truncated: false, next: null })
})

test('whole words come before beginnings, then the newest, then by id', async () => {
  expect(await found('lamp')).toEqual(['x-2', 'x-1', 'x-3'])
  expect((await found('o-1')).slice(0, 1)).toEqual(['o-1'])
})

test('an order is no longer found by the status that it had', async () => {
  for (const order of ['x-3', 'x-4']) {
    expect(await found(`${order} pending`)).toEqual([])
    expect(await found(`${order} cancelled`)).toEqual([order])
  }
})

test('pages follow each other, and find what a look at every order finds', async () => {
  const skus = new Map<string, Set<string>>()
  for (const { value } of story) {
    if (value.type !== 'OrderCreated' && value.type !== 'OrderItemsAdded') continue
    const own = skus.get(value.orderId) ?? new Set<string>()
    for (const { sku } of value.items) own.add(sku)
    skus.set(value.orderId, own)
  }
  const wanted = [...skus].filter(([, own]) => own.has('sku-3')).map(([orderId]) => orderId)
  expect(wanted.length).toBeGreaterThan(40)
  const seen: string[] = []
  for (let cursor = ''; ; ) {
    const { body } = await search(`q=sku-3&limit=7${cursor}`)
    seen.push(...body.orders.map(({ orderId }: { orderId: string }) => orderId))
    if (body.next === null) break
    cursor = `&cursor=${body.next}`
  }
  expect(seen.toSorted()).toEqual(wanted.toSorted())
})

test('a search that is none is refused, with the parameter', async () => {
  for (const [parameters, name] of [
    ['', 'q'],
    ['q=+', 'q'],
    ['q=a+b+c+d+e+f+g+h+i', 'q'],
    ['q=a&limit=0', 'limit'],
    ['q=a&cursor=zz', 'cursor'],
    ['q=a&p=1', 'p'],
  ] as const) {
    const { status, body } = await search(parameters)
    expect([status, body.code, body.parameter], parameters).toEqual([400, 'QUERY_INVALID', name])
  }
})

test('it is in the document, which stays valid', async () => {
  const document = (await server.inject('/openapi.json')).json()
  expect(document.paths['/v1/search/orders']).toBeDefined()
  const result = await new Validator().validate(document)
  expect(result.errors).toBeUndefined()
})

test('without the search service there is no search', async () => {
  const { server: other } = await fakeServer()
  const response = await other.inject('/v1/search/orders?q=a')
  expect(response.statusCode).toBe(404)
  await other.close()
})

test('an old order is forgotten with all of its terms', async () => {
  const [driver] = await openServices([
    searchTopology({ ...defaultServiceSettings, keepMs: minuteMs }),
  ])
  const late = created('x-9', { createdAt: storyStartMs + 10 * minuteMs, customerId: 'bo' })
  const events = [created('x-1', {}), shipped, late]
  await appendRecords(
    driver!.log,
    events.map((event, i) => sagaRecord(event, `${i}`)),
  )
  await settle([driver!])
  // One record a partition moves its event time on.
  const ends = Array.from({ length: 40 }, (_, i) =>
    sagaRecord(created(`end-${i}`, { createdAt: storyStartMs + day }), `end-${i}`),
  )
  await appendRecords(driver!.log, ends)
  await settle([driver!])
  const terms = await driver!.rows('order-search-terms')
  expect(new Set(terms.map(({ orderId }) => orderId)).size).toBe(ends.length)
  expect((await driver!.rows('order-search')).length).toBe(ends.length)
  await closeServices([driver!])
})

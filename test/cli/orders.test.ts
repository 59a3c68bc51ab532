/** Orders over HTTP: commands, optimistic concurrency, idempotency, the past, provenance. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Answer, mug, OrdersClient, placed, seen } from '../support/orders-client.ts'
import { OrdersService } from '../support/orders-service.ts'

let service: OrdersService
let client: OrdersClient

beforeAll(async () => {
  service = await OrdersService.open()
  client = service.client
})

afterAll(() => service.close())

async function placeOrder(): Promise<Answer & { id: string }> {
  const answer = await client.post('/v1/orders', placed)
  expect(answer.status).toBe(201)
  return { ...answer, id: String(answer.body.orderId) }
}

/** How much there is in the topics that commands write to. */
async function commandsAndEvents(): Promise<unknown[]> {
  const ends = await service.ends()
  return [ends['order-commands'], ends.orders]
}

test('an order is placed, and its writer reads it at once', async () => {
  const answer = await placeOrder()
  expect(answer.body).toMatchObject({ version: 1, status: 'pending' })
  expect(answer.headers.get('etag')).toBe('"1"')
  expect(answer.headers.get('location')).toBe(`/v1/orders/${answer.id}`)
  const read = await client.get(`/v1/orders/${answer.id}`, seen(answer))
  expect(read.status).toBe(200)
  expect(read.headers.get('etag')).toBe('"1"')
  expect(read.body).toMatchObject({
    orderId: answer.id,
    status: 'pending',
    version: 1,
    customerId: 'ann',
    totalMinor: 1000,
    items: [mug],
  })
  expect(read.body).not.toHaveProperty('events')
})

test('items are added and the order cancelled, each at the version that was read', async () => {
  const { id } = await placeOrder()
  const added = await client.post(`/v1/orders/${id}/items`, { items: [mug] }, { 'If-Match': '"1"' })
  expect([added.status, added.body.version, added.headers.get('etag')]).toEqual([200, 2, '"2"'])
  const stale = { 'If-Match': '"1"' }
  const refused = await client.post(`/v1/orders/${id}/cancel`, { reason: 'no' }, stale)
  expect(refused.status).toBe(412)
  expect(refused.headers.get('content-type')).toContain('application/problem+json')
  expect(refused.headers.get('etag')).toBe('"2"')
  expect(refused.body).toMatchObject({ code: 'ORDER_CHANGED', version: 2, orderId: id })
  const ended = await client.post(`/v1/orders/${id}/cancel`, { reason: 'no' }, { 'If-Match': '*' })
  expect(ended.body).toMatchObject({ version: 3, status: 'cancelled' })
  const { body } = await client.get(`/v1/orders/${id}`, seen(ended))
  expect(body).toMatchObject({ status: 'cancelled', reason: 'no', totalMinor: 2000, version: 3 })
  const late = await client.post(`/v1/orders/${id}/items`, { items: [mug] })
  expect([late.status, late.body.code]).toEqual([409, 'ORDER_CLOSED'])
})

test('of two commands at one version, one is done and the other refused', async () => {
  const { id } = await placeOrder()
  const headers = { 'If-Match': '"1"' }
  const path = `/v1/orders/${id}/items`
  const asked = Array.from({ length: 8 }, () => client.post(path, { items: [mug] }, headers))
  const statuses = (await Promise.all(asked)).map(({ status }) => status).sort()
  expect(statuses).toEqual([200, 412, 412, 412, 412, 412, 412, 412])
})

test('a command tried again gets the same answer, byte for byte, and is done once', async () => {
  const key = { 'Idempotency-Key': 'place-1' }
  const asked = Array.from({ length: 5 }, () => client.post('/v1/orders', placed, key))
  const answers = await Promise.all(asked)
  answers.push(await client.post('/v1/orders', placed, key))
  expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]))
  const id = String(answers[0]!.body.orderId)
  const cancel = { 'Idempotency-Key': 'cancel-1', 'If-Match': '"7"' }
  const path = `/v1/orders/${id}/cancel`
  const first = await client.post(path, { reason: 'no' }, cancel)
  expect(first.status).toBe(412)
  const added = await client.post(`/v1/orders/${id}/items`, { items: [mug] })
  const before = await commandsAndEvents()
  const again = await client.post(path, { reason: 'no' }, cancel)
  expect([again.status, again.text]).toEqual([412, first.text])
  expect((await client.post('/v1/orders', placed, key)).text).toBe(answers[0]!.text)
  expect(await commandsAndEvents()).toEqual(before)
  const { body } = await client.get(`/v1/orders/${id}`, seen(added))
  expect(body).toMatchObject({ version: 2, status: 'pending' })
})

test('another command under the same key is a 422; another path or user has its own', async () => {
  const key = { 'Idempotency-Key': 'mixed' }
  const first = await client.post('/v1/orders', placed, key)
  const before = await commandsAndEvents()
  const other = await client.post('/v1/orders', { ...placed, customerId: 'bob' }, key)
  expect([other.status, other.body.code]).toEqual([422, 'IDEMPOTENCY_KEY_REUSED'])
  expect(await commandsAndEvents()).toEqual(before)
  const path = `/v1/orders/${first.body.orderId}/cancel`
  expect((await client.post(path, { reason: 'no' }, key)).status).toBe(200)
  const anothers = await service.other.post('/v1/orders', { ...placed, customerId: 'bob' }, key)
  expect(anothers.status).toBe(201)
  expect(anothers.body.orderId).not.toBe(first.body.orderId)
})

test('what was at an earlier time, and what led there, with its causes', async () => {
  const { id, body: first } = await placeOrder()
  const before = Number(first.decidedAt)
  await new Promise(resolve => setTimeout(resolve, 5))
  const ended = await client.post(`/v1/orders/${id}/cancel`, { reason: 'changed-mind' })
  const { body: then } = await client.get(`/v1/orders/${id}?asOf=${before}`, seen(ended))
  expect(then).toMatchObject({ status: 'pending', version: 1 })
  const iso = new Date(before - 1).toISOString()
  expect((await client.get(`/v1/orders/${id}?asOf=${iso}`)).status).toBe(404)
  const { body } = await client.get(`/v1/orders/${id}/events`, seen(ended))
  const events = body.events as Record<string, unknown>[]
  expect(events.map(({ type }) => type)).toEqual(['OrderCreated', 'OrderCancelled'])
  expect(events[1]).toMatchObject({
    id: (ended.body.event as { id: string }).id,
    actor: 'shop',
    causationId: ended.body.command,
    correlationId: ended.body.command,
    chain: [ended.body.command],
    topic: 'orders',
    offset: expect.any(Number),
    value: { orderId: id, reason: 'changed-mind' },
  })
  const { body: early } = await client.get(`/v1/orders/${id}/events?asOf=${before}`)
  expect(early.events).toHaveLength(1)
})

test('orders of events that others appended take commands, too', async () => {
  const createdAt = Date.now() - 5_000
  const fields = { ...placed, orderId: 'from-events', totalMinor: 1000, createdAt }
  const lines = [
    {
      topic: 'orders',
      type: 'OrderCreated',
      key: 'from-events',
      timestamp: createdAt,
      value: fields,
    },
  ]
  const response = await fetch(`${service.address}/v1/events`, {
    method: 'POST',
    headers: { authorization: 'Bearer write', 'content-type': 'application/x-ndjson' },
    body: lines.map(line => JSON.stringify(line)).join('\n'),
  })
  const { position } = (await response.json()) as { position: string }
  // It is decided on what the position covers.
  const headers = { 'If-Match': '"1"', 'Millrace-Position': position }
  const answer = await client.post('/v1/orders/from-events/items', { items: [mug] }, headers)
  expect(answer.body).toMatchObject({ version: 2, status: 'pending' })
})

test('the document of the routes is valid and has them', async () => {
  const { body } = await client.get('/openapi.json')
  expect((await new Validator().validate(body)).errors).toBeUndefined()
  const paths = Object.keys(body.paths as object).filter(path => path.startsWith('/v1/orders'))
  expect(paths.sort()).toEqual([
    '/v1/orders',
    '/v1/orders/{id}',
    '/v1/orders/{id}/cancel',
    '/v1/orders/{id}/events',
    '/v1/orders/{id}/items',
  ])
})

test('who may only read places no order, and reads', async () => {
  const { id, ...answer } = await placeOrder()
  const refused = await service.reader.post('/v1/orders', placed)
  expect([refused.status, refused.body.code]).toEqual([403, 'FORBIDDEN'])
  expect((await service.reader.get(`/v1/orders/${id}`, seen(answer))).status).toBe(200)
  const nobody = await new OrdersClient(service.address).post('/v1/orders', placed)
  expect(nobody.status).toBe(401)
})

test('an order that is not there is 404; a time that is none is named', async () => {
  const missing = await client.get('/v1/orders/none')
  expect([missing.status, missing.body.code]).toEqual([404, 'ORDER_UNKNOWN'])
  expect((await client.get('/v1/orders/none?asOf=soon')).body).toMatchObject({ parameter: 'asOf' })
  expect((await client.get('/v1/events')).status).toBe(405)
})

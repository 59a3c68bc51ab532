/** The running service with a receiver of spans: one order's whole story is one trace. */
import { afterEach, expect, test } from 'vitest'
import { OrdersClient, placed } from '../support/orders-client.ts'
import { OtlpReceiver, type ReceivedSpan } from '../support/otlp-receiver.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'
import { orphans } from '../support/spans.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const ROOT = 'b7ad6b7169203331'
const traceparent = `00-${TRACE}-${ROOT}-01`

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function start(environment: NodeJS.ProcessEnv) {
  const receiver = await OtlpReceiver.open()
  closing.push(() => receiver.close())
  const folder = await scratchFolder()
  closing.push(folder.remove)
  const service = await ServiceProcess.start(folder.path, ['--no-demo'], {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_BSP_SCHEDULE_DELAY: '100',
    TRACE_SAMPLE: '0',
    // No story of these tests is cut short, however much falls into one second.
    TRACE_SPANS: '10000',
    ...environment,
  })
  closing.push(() => service.kill())
  return { receiver, service }
}

function stockLine(sku: string, quantity: number, headers = {}): string {
  const timestamp = Date.now() - 1000
  const value = { sku, quantity, receivedAt: timestamp }
  return JSON.stringify({
    topic: 'stock',
    type: 'StockReceived',
    key: sku,
    timestamp,
    value,
    headers,
  })
}

/** Asks until it is so, at most for a minute. */
async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 300; tries++) {
    const answer = await ask()
    if (answer !== undefined) return answer
    await new Promise(resolve => setTimeout(resolve, 200))
  }
  throw new Error('it never came to that')
}

interface Told {
  readonly id: string
  readonly type: string
  readonly causationId: string
  readonly correlationId: string
}

const sentBy = (spans: readonly ReceivedSpan[], id: string) =>
  spans.find(
    ({ name, attributes }) => name.startsWith('send ') && attributes['messaging.message.id'] === id,
  )

/** Names from a span up to the first. */
function ancestry(span: ReceivedSpan, spans: readonly ReceivedSpan[]): ReceivedSpan[] {
  const before = spans.find(({ context }) => context.spanId === span.parent)
  return before === undefined ? [span] : [span, ...ancestry(before, spans)]
}

test('an order that is placed with a traceparent is one trace, through all that comes of it', async () => {
  const { receiver, service } = await start({ SERVICES: 'on', PATIENCE: '500ms' })
  const client = new OrdersClient(service.url)
  await service.post([stockLine('mug', 1000)])
  // Not all are paid, reserved and shipped in the world of the services: one of some is.
  const orders = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      client.post('/v1/orders', placed, { traceparent: traceparent.replace(/^00-0/, `00-${n}`) }),
    ),
  )
  const { events, trace } = await until(async () => {
    for (const [n, { body: placed }] of orders.entries()) {
      const { body } = await client.get(`/v1/orders/${placed.orderId}/events`)
      const events = body.events as Told[]
      if (body.status === 'fulfilled') return { events, trace: TRACE.replace(/^0/, `${n}`) }
    }
    return undefined
  })
  await new Promise(resolve => setTimeout(resolve, 2000))
  await service.stop()
  const spans = receiver.spans.filter(({ context }) => context.traceId === trace)
  expect([...receiver.requests]).toEqual(['POST /v1/traces application/x-protobuf'])
  const traces = new Set(receiver.spans.map(({ context }) => context.traceId))
  expect(traces.size).toBe(8)
  expect(orphans(receiver.spans, ROOT)).toEqual([])
  const [request, ...others] = spans.filter(({ parent }) => parent === ROOT)
  expect([request?.name, others.length]).toEqual(['POST /v1/orders', 0])
  expect(request?.attributes['http.response.status_code']).toBe(201)
  // Each event was sent in the trace, below the sending of the event that it follows from.
  expect(events.length).toBeGreaterThanOrEqual(3)
  for (const { id, type, causationId } of events) {
    const sent = sentBy(spans, id)
    expect(sent, type).toBeDefined()
    const before = ancestry(sent!, spans).map(span => span.attributes['messaging.message.id'])
    expect(before, type).toContain(causationId)
    expect(ancestry(sent!, spans).at(-1)).toBe(request)
  }
  expect(new Set(events.map(({ correlationId }) => correlationId)).size).toBe(1)
  const services = new Set(spans.map(span => span.service))
  expect([...services]).toEqual(
    expect.arrayContaining(['millrace', 'millrace-analytics', 'millrace-payment']),
  )
  expect(events.map(({ type }) => type)).toEqual(
    expect.arrayContaining(['OrderCreated', 'PaymentAuthorized', 'OrderFulfilled', 'OrderShipped']),
  )
  // The order met its payment in the join of the analytics; other orders where they are summed up.
  const byId = new Map(receiver.spans.map(span => [span.context.spanId, span]))
  const linked = spans.flatMap(({ name, links }) =>
    links.map(({ spanId }) => ({ name, to: byId.get(spanId) })),
  )
  expect(linked.filter(({ name, to }) => to?.name !== name)).toEqual([])
  const within = linked.filter(({ to }) => to?.context.traceId === trace)
  expect(within.map(({ name }) => name)).toContain('payment-attempts')
})

test('of requests and events that come without a trace a share begins one, others by their client', async () => {
  const environment = { TRACE_SAMPLE: '1', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }
  const { receiver, service } = await start({ ...environment, OTEL_SERVICE_NAME: 'shop' })
  const stock = (sku: string, headers = {}) => stockLine(sku, 1, headers)
  const post = (body: string, headers = {}) =>
    fetch(`${service.url}/v1/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', ...headers },
      body,
    })
  await post(
    `${stock('a')}\n${stock('b', { traceparent: traceparent.replace(ROOT, '1'.repeat(16)) })}`,
  )
  await post(stock('c'), { traceparent })
  const last = await post(stock('d'), { traceparent: traceparent.replace(/1$/, '0') })
  await fetch(`${service.url}/livez`)
  // All of it has been read.
  const headers = { 'millrace-position': last.headers.get('millrace-position')! }
  const rows = await fetch(`${service.url}/v1/views/inventory-levels/rows`, { headers })
  expect(rows.status).toBe(200)
  await service.stop()
  const { spans } = receiver
  const story = spans
    .filter(({ name }) => /^(send|POST)/.test(name))
    .map(({ name, service: of, context, parent, attributes }) => {
      const own = context.traceId === TRACE ? 'asked' : 'new'
      return [
        of,
        name,
        own,
        parent === undefined ? 'first' : 'below',
        attributes['http.response.status_code'],
      ]
    })
  expect(story.map(String).sort()).toEqual(
    [
      ['shop', 'POST /v1/events', 'new', 'first', 200],
      ['shop', 'send stock', 'new', 'first', undefined],
      ['shop', 'POST /v1/events', 'asked', 'below', 200],
      ['shop', 'send stock', 'asked', 'below', undefined],
    ]
      .map(String)
      .sort(),
  )
  const read = spans.filter(
    ({ name, service: of }) => name === 'process stock' && of === 'shop-analytics',
  )
  expect(read.map(({ context }) => context.traceId === TRACE).sort()).toEqual([false, true, true])
  expect([...receiver.requests]).toEqual(['POST /v1/traces application/json'])
})

test('however much is sampled, a second has no more spans than TRACE_SPANS says', async () => {
  const { receiver, service } = await start({ TRACE_SAMPLE: '1', TRACE_SPANS: '5' })
  const beganMs = Date.now()
  const events = Array.from({ length: 200 }, (_, n) => stockLine(`mug-${n}`, 1))
  await service.rows('inventory-levels', await service.post(events))
  await service.stop()
  const seconds = Math.ceil((Date.now() - beganMs) / 1000) + 1
  expect(receiver.spans.length).toBeGreaterThan(0)
  // Without a limit they are 400 at least: one where an event was sent, one where it was read.
  expect(receiver.spans.length).toBeLessThanOrEqual(5 * seconds)
})

test('a receiver that is not there keeps nothing up, and a protocol that is not spoken is refused', async () => {
  const { receiver, service } = await start({ TRACE_SAMPLE: '1' })
  await receiver.close()
  const answer = await fetch(`${service.url}/v1/views`)
  expect(answer.status).toBe(200)
  const { code } = await service.stop()
  expect(code).toBe(0)
  await expect(start({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' })).rejects.toThrow(
    'expected http/protobuf or http/json',
  )
})

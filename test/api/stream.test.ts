import { afterEach, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'

const servers: Server[] = []
const controllers: AbortController[] = []

afterEach(async () => {
  for (const controller of controllers.splice(0)) controller.abort()
  for (const server of servers.splice(0)) await server.close()
})

interface Event {
  readonly id?: string
  readonly event?: string
  readonly data?: string
  readonly comment?: string
}

async function setUp(options: Parameters<typeof fakeServer>[0] = {}) {
  const made = await fakeServer(options)
  servers.push(made.server)
  const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
  const open = async (path: string, headers: Record<string, string> = {}) => {
    const controller = new AbortController()
    controllers.push(controller)
    const response = await fetch(`${address}${path}`, { headers, signal: controller.signal })
    return { response, events: eventsOf(response.body!), controller }
  }
  return { ...made, open }
}

async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Event> {
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true })
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const event: Record<string, string> = {}
      for (const line of text.slice(0, end).split('\n')) {
        const colon = line.indexOf(':')
        event[line.slice(0, colon) || 'comment'] = line.slice(colon + 1).trim()
      }
      text = text.slice(end + 2)
      yield event
    }
  }
}

async function take(events: AsyncGenerator<Event>, count: number): Promise<Event[]> {
  const taken: Event[] = []
  while (taken.length < count) {
    const { value, done } = await events.next()
    if (done) break
    taken.push(value)
  }
  return taken
}

test('an event stream is the snapshot, up-to-date and deltas, whose ids are positions', async () => {
  const { views, open } = await setUp()
  const start = views.put('order-volume', volumeRow('eu', 1, 1))
  const { response, events } = await open('/v1/stream/order-volume')
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  expect(response.headers.get('cache-control')).toBe('no-store')
  expect(response.headers.get('millrace-position')).toBe(start)
  expect(response.headers.get('content-security-policy')).toContain("default-src 'self'")
  const [retry, snapshot, upToDate] = await take(events, 3)
  expect(retry).toEqual({ retry: '1000' })
  // A client cut off in the middle of a snapshot must not resume from it.
  expect([snapshot!.event, snapshot!.id]).toEqual(['snapshot', undefined])
  expect(JSON.parse(snapshot!.data!)).toMatchObject({ rows: [volumeRow('eu', 1, 1)] })
  expect([upToDate!.event, upToDate!.id]).toEqual(['up-to-date', start])
  const next = views.put('order-volume', volumeRow('eu', 1, 2))
  const [delta] = await take(events, 1)
  expect([delta!.event, delta!.id]).toEqual(['delta', next])
  expect(JSON.parse(delta!.data!)).toEqual({
    type: 'delta',
    id: 'order-volume',
    view: 'order-volume',
    position: next,
    changes: [{ op: 'upsert', row: volumeRow('eu', 1, 2) }],
  })
})

test('Last-Event-ID goes on from there, or must refetch', async () => {
  const { views, open } = await setUp()
  const first = views.put('order-volume', volumeRow('eu', 1, 1))
  const { events } = await open('/v1/stream/order-volume')
  await take(events, 3)
  views.put('order-volume', volumeRow('eu', 1, 2))
  await take(events, 1)
  const known = await open('/v1/stream/order-volume', { 'last-event-id': first })
  const missed = (await take(known.events, 3)).slice(1)
  expect(missed.map(({ event }) => event)).toEqual(['delta', 'up-to-date'])
  const unknown = await open('/v1/stream/order-volume', { 'last-event-id': 'gone' })
  const anew = (await take(unknown.events, 4)).slice(1)
  expect(anew.map(({ event, id }) => [event, id])).toEqual([
    ['must-refetch', ''],
    ['snapshot', undefined],
    ['up-to-date', views.position()],
  ])
})

test('a quiet stream sends comments', async () => {
  const { open } = await setUp({ limits: { heartbeatMs: 20 } })
  const { events } = await open('/v1/stream/order-volume')
  const [comment] = (await take(events, 4)).slice(3)
  expect(comment).toEqual({ comment: 'still here' })
})

test('filters are those of rows, and mistakes are problems', async () => {
  const { views, open } = await setUp()
  views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
  const { events } = await open('/v1/stream/order-volume?region=us')
  const [, snapshot] = await take(events, 2)
  expect(JSON.parse(snapshot!.data!).rows).toEqual([volumeRow('us', 1, 1)])
  const problem = async (path: string) => {
    const { response } = await open(path)
    return [response.status, (await response.json()).code]
  }
  expect(await problem('/v1/stream/nothing')).toEqual([404, 'VIEW_UNKNOWN'])
  expect(await problem('/v1/stream/order-volume?limit=1')).toEqual([400, 'QUERY_INVALID'])
})

test('leaving ends the subscription, and closing the server ends the stream', async () => {
  const { server, open } = await setUp()
  const left = await open('/v1/stream/order-volume')
  const stays = await open('/v1/stream/order-volume')
  await take(left.events, 3)
  await take(stays.events, 3)
  left.controller.abort()
  const metrics = async () => (await server.inject({ url: '/metrics' })).body
  await expect.poll(metrics).toMatch(/^live_subscriptions 1$/m)
  await server.close()
  expect(await take(stays.events, 1)).toEqual([])
})

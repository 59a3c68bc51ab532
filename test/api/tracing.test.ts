/** Spans of requests: who begins them, what they say, and what follows from them. */
import { afterEach, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { FirstSpans, TraceIds } from '../../cli/first-spans.ts'
import { fakeServer, orderLine, testViews } from '../support/fake-server.ts'
import { FakeViews } from '../support/fake-views.ts'
import { keptSpans, storyOf } from '../support/spans.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const ROOT = 'b7ad6b7169203331'
const asked = `00-${TRACE}-${ROOT}-01`

const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

async function setUp(share: number) {
  let nowMs = 1_750_000_000_000
  const { tracing, ended } = keptSpans({ clock: () => ++nowMs })
  const ids = new TraceIds(share, size => Buffer.alloc(size, 0xff))
  const views = new FakeViews(testViews)
  const followed: (string | undefined)[] = []
  const { server } = await fakeServer({
    fake: views,
    tracing: new FirstSpans({ ...tracing, ids }),
    append: async (_records, traceparent) => {
      followed.push(traceparent)
      return views.commit()
    },
  })
  servers.push(server)
  const url = await server.listen({ host: '127.0.0.1', port: 0 })
  const get = (path: string, headers = {}) => fetch(url + path, { headers })
  const post = (headers = {}) =>
    fetch(`${url}/v1/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', ...headers },
      body: orderLine('o-1', Date.now()),
    })
  return { ended, followed, get, post, server }
}

test('a request in a trace is a span of it, with route and status', async () => {
  const { ended, get, server } = await setUp(0)
  await get('/v1/views/order-volume/rows?limit=0', { traceparent: asked })
  await get('/v1/nothing', { traceparent: asked })
  await get('/livez', { traceparent: asked })
  await get('/v1/views')
  await get('/v1/views', { traceparent: asked.replace(/1$/, '0') })
  await server.close()
  const told = ended.map(({ name, parent, context, attributes: of }) => {
    expect([parent, context.traceId]).toEqual([ROOT, TRACE])
    return [name, of['http.route'], of['url.path'], of['http.response.status_code']]
  })
  const route = '/v1/views/:name/rows'
  expect(told).toEqual([
    [`GET ${route}`, route, '/v1/views/order-volume/rows', 400],
    ['GET', undefined, '/v1/nothing', 404],
  ])
})

test('of the others a share is traced; what is no traceparent counts as none', async () => {
  const all = await setUp(1)
  await all.get('/v1/views')
  await all.get('/v1/views', { traceparent: 'nonsense' })
  await all.get('/v1/views', { traceparent: asked.replace(/1$/, '0') })
  await all.server.close()
  expect(storyOf(all.ended)).toBe('GET /v1/views\nGET /v1/views')
})

test('events follow from a request whose client asked for it, else each is for itself', async () => {
  const { ended, followed, post, server } = await setUp(1)
  await post()
  await post({ traceparent: asked })
  await post({ traceparent: asked.replace(/1$/, '0') })
  await server.close()
  const [own, request] = ended
  expect([own?.parent, request?.parent]).toEqual([undefined, ROOT])
  const unsampled = asked.replace(/1$/, '0')
  const spanId = request?.context.spanId
  expect(followed).toEqual([undefined, `00-${TRACE}-${spanId}-01`, unsampled])
})

/** Every route and every message with every kind of credential. */
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createTokenVerifier, KeySet, parseApiKeys, type Server } from '../../api/index.ts'
import { fakeServer, orderLine, volumeRow } from '../support/fake-server.ts'
import {
  audience,
  issuer,
  type SigningKey,
  sign,
  signingKey,
} from '../support/identity-provider.ts'
import { LiveSocket } from '../support/live-socket.ts'

let server: Server
let address: string
let key: SigningKey
let other: SigningKey

const schedule = (run: () => void, delayMs: number) => {
  const timer = setTimeout(run, delayMs)
  return () => clearTimeout(timer)
}

beforeAll(async () => {
  key = await signingKey('first')
  other = await signingKey('second')
  const fetch = async () => JSON.stringify({ keys: [key.jwk] })
  const clock = Date.now
  const keySet = new KeySet({ fetch, clock, schedule })
  const tokens = createTokenVerifier({ keySet, clock, issuer, audience })
  const keys = parseApiKeys('rea:reader:r-1,wri:writer:w-1,adm:admin:a-1')
  const made = await fakeServer({
    auth: { keys, tokens, allowedOrigins: [] },
    limits: { requestsPerMinuteMax: 100_000 },
  })
  made.views.put('order-volume', volumeRow('eu', 1, 1))
  server = made.server
  address = await server.listen({ host: '127.0.0.1', port: 0 })
})

afterAll(() => server.close())

const now = () => Math.floor(Date.now() / 1000)
const none = async (): Promise<undefined> => undefined

/** What is shown, and how it is refused. */
const refused: [string, string, () => Promise<string | undefined>][] = [
  ['nothing', 'UNAUTHENTICATED', none],
  ['an unknown key', 'UNAUTHENTICATED', async () => 'r-2'],
  ["a key's name", 'UNAUTHENTICATED', async () => 'adm'],
  ['an expired token', 'TOKEN_EXPIRED', () => sign(key, { exp: now() - 1, roles: 'admin' })],
  ['a token of the future', 'TOKEN_INVALID', () => sign(key, { nbf: now() + 99 })],
  ['a token for another service', 'TOKEN_INVALID', () => sign(key, { aud: 'x', roles: 'admin' })],
  ['a token of another issuer', 'TOKEN_INVALID', () => sign(key, { iss: 'x', roles: 'admin' })],
  ['a token of another key', 'TOKEN_INVALID', () => sign(other, { roles: 'admin' })],
  ['a forged token', 'TOKEN_INVALID', () => sign({ ...other, kid: 'first' }, { roles: 'admin' })],
]

const holders: [string, number, () => Promise<string>][] = [
  ['a token without role', 0, () => sign(key, { roles: [] })],
  ['a reader key', 1, async () => 'r-1'],
  ['a reader token', 1, () => sign(key)],
  ['a writer key', 2, async () => 'w-1'],
  ['a writer token', 2, () => sign(key, { roles: ['writer'] })],
  ['an admin key', 3, async () => 'a-1'],
  ['an admin token', 3, () => sign(key, { roles: ['reader', 'admin'] })],
]

/** The role every route needs: a new route is to be entered here. */
const routes: Record<string, string> = {
  'GET /livez': 'anyone',
  'GET /readyz': 'anyone',
  'GET /metrics': 'reader',
  'GET /openapi.json': 'reader',
  'GET /asyncapi.json': 'reader',
  'GET /v1/views': 'reader',
  'GET /v1/views/:name': 'reader',
  'GET /v1/views/:name/rows': 'reader',
  'GET /v1/views/:name/rows/*': 'reader',
  'GET /v1/stream/:view': 'reader',
  'GET /v1/topology': 'reader',
  'GET /v1/dead-letters': 'admin',
  'GET /v1/dead-letters/:id': 'admin',
  'POST /v1/dead-letters/:id/replay': 'admin',
  'POST /v1/dead-letters/:id/discard': 'admin',
  'POST /v1/dead-letters/replay': 'admin',
  'POST /v1/dead-letters/discard': 'admin',
  'POST /v1/events': 'writer',
  'POST /v1/orders': 'writer',
  'POST /v1/orders/:id/items': 'writer',
  'POST /v1/orders/:id/cancel': 'writer',
  'GET /v1/orders/:id': 'reader',
  'GET /v1/orders/:id/events': 'reader',
  'GET /v1/search/orders': 'reader',
}
const ranks = ['anyone', 'reader', 'writer', 'admin']

/** With a view that exists, and with one that does not. */
function requestsOf(route: string): { method: string; path: string }[] {
  const [method = '', url = ''] = route.split(' ')
  return ['order-volume', 'nothing'].map(view => ({
    method,
    path: url.replace(/:name|:view|:id/, view).replace('*', 'c1'),
  }))
}

async function ask({ method, path }: { method: string; path: string }, secret?: string) {
  const headers = new Headers({ 'content-type': 'application/x-ndjson' })
  if (secret !== undefined) headers.set('authorization', `Bearer ${secret}`)
  const body = method === 'POST' ? orderLine('o-1', Date.now() - 1000) : null
  const stop = new AbortController()
  const response = await fetch(address + path, { method, headers, body, signal: stop.signal })
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
  const text = isStream ? '' : await response.text()
  stop.abort()
  const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json')
  return { status: response.status, problem: isProblem ? JSON.parse(text) : undefined }
}

test('the table names every route with its role', () => {
  const served = server.routes.filter(({ method, role }) => {
    return role !== undefined || method === 'GET'
  })
  const named = new Set(
    served
      .filter(({ method }) => method !== 'HEAD')
      .map(({ method, url, role }) => `${method} ${url}: ${role ?? 'anyone'}`),
  )
  // Methods that a route does not serve are refused before any role matters.
  for (const url of ['/v1/events', '/v1/orders', '/v1/orders/:id/items', '/v1/orders/:id/cancel']) {
    named.delete(`GET ${url}: anyone`)
  }
  for (const action of ['replay', 'discard']) {
    named.delete(`GET /v1/dead-letters/${action}: anyone`)
    named.delete(`GET /v1/dead-letters/:id/${action}: anyone`)
  }
  expect([...named].sort()).toEqual(
    Object.entries(routes)
      .map(([route, role]) => `${route}: ${role}`)
      .sort(),
  )
})

describe.each(refused)('%s', (_, code, make) => {
  test.each(Object.keys(routes))(`at %s is refused with ${code}`, async route => {
    const secret = await make()
    const answers = await Promise.all(requestsOf(route).map(request => ask(request, secret)))
    if (routes[route] === 'anyone') {
      expect(answers.map(({ status }) => status)).toEqual([200, 200])
      return
    }
    expect(answers.map(({ status, problem }) => [status, problem?.code])).toEqual([
      [401, code],
      [401, code],
    ])
    // What exists reads like what does not.
    const [there, not] = answers.map(({ problem: { instance: _id, ...rest } }) => rest)
    expect(there).toEqual(not)
  })

  test.each([
    ['subscribe', { type: 'subscribe', id: 's', view: 'order-volume' }],
    ['subscribe to what does not exist', { type: 'subscribe', id: 's', view: 'nothing' }],
    ['complete', { type: 'complete', id: 's' }],
    ['ping', { type: 'ping' }],
    ['pong', { type: 'pong' }],
  ])('in connection_init gets nothing for a %s', async (_name, message) => {
    const secret = await make()
    const live = new LiveSocket(address)
    await once(live.socket, 'open')
    const payload = secret === undefined ? undefined : { apiKey: secret }
    live.send(JSON.stringify({ type: 'connection_init', payload }))
    live.send(JSON.stringify(message))
    expect(await live.closing()).toBe(secret === undefined ? 4401 : 4403)
    expect(live.messages).toEqual([])
  })
})

test.each([
  ['subscribe', { type: 'subscribe', id: 's', view: 'order-volume' }, 4401],
  ['complete', { type: 'complete', id: 's' }, undefined],
  ['ping', { type: 'ping' }, undefined],
])('a %s before connection_init tells nothing', async (_, message, code) => {
  const live = new LiveSocket(address)
  await once(live.socket, 'open')
  live.send(JSON.stringify(message))
  if (code === undefined) live.send('{"type":"connection_init"}')
  expect(await live.closing()).toBe(4401)
  expect(live.types().filter(type => type !== 'pong')).toEqual([])
})

describe.each(holders)('%s', (_, rank, make) => {
  test.each(Object.entries(routes))('at %s, which needs %s', async (route, role) => {
    const secret = await make()
    const allowed = rank >= ranks.indexOf(role)
    for (const request of requestsOf(route)) {
      const { status, problem } = await ask(request, secret)
      if (!allowed) expect([status, problem?.code]).toEqual([403, 'FORBIDDEN'])
      else expect([401, 403, 429, 500]).not.toContain(status)
    }
  })

  test('on a live socket', async () => {
    const live = new LiveSocket(address)
    await once(live.socket, 'open')
    live.send({ type: 'connection_init', payload: { token: await make() } })
    live.send({ type: 'subscribe', id: 's', view: 'order-volume' })
    if (rank === 0) {
      expect(await live.closing()).toBe(4403)
      expect(live.messages).toEqual([])
      return
    }
    await live.until(() => live.types().includes('up-to-date'))
    live.close()
  })
})

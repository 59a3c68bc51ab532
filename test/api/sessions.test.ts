import { once } from 'node:events'
import { afterEach, beforeAll, expect, test } from 'vitest'
import {
  createTokenVerifier,
  type FetchKeySet,
  KeySet,
  type Limits,
  parseApiKeys,
} from '../../api/index.ts'
import { connectLive } from '../../client/index.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'
import {
  audience,
  issuer,
  type SigningKey,
  sign,
  signingKey,
} from '../support/identity-provider.ts'
import { LiveSocket } from '../support/live-socket.ts'

const closing: (() => unknown)[] = []
let key: SigningKey

beforeAll(async () => {
  key = await signingKey('first')
})

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const schedule = (run: () => void, delayMs: number) => {
  const timer = setTimeout(run, delayMs)
  return () => clearTimeout(timer)
}

/** A listening server; time stands still but for what the test adds. */
async function setUp(limits: Partial<Limits> = {}, fetchKeys?: FetchKeySet) {
  const time = { nowMs: Date.now() }
  const clock = () => time.nowMs
  const provided = { keys: [key.jwk] }
  const keySet = new KeySet({
    fetch: fetchKeys ?? (async () => JSON.stringify(provided)),
    clock,
    schedule,
  })
  const tokens = createTokenVerifier({ keySet, clock, issuer, audience })
  const auth = { keys: parseApiKeys('wil:reader:w-1'), tokens, allowedOrigins: [] }
  const quick = { sessionCheckMs: 10, publishIntervalMs: 1, closeGraceMs: 50 }
  const made = await fakeServer({ auth, clock, schedule, limits: { ...quick, ...limits } })
  closing.push(() => made.server.close())
  const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
  const open = async (headers: Record<string, string> = {}) => {
    const live = new LiveSocket(address, { headers })
    closing.push(() => live.close())
    await once(live.socket, 'open')
    return live
  }
  /** Opens a socket and says who it is: the acknowledgement, or the code of the close. */
  const greet = async (payload: object | undefined, headers: Record<string, string> = {}) => {
    const live = await open(headers)
    live.send(JSON.stringify({ type: 'connection_init', payload }))
    await live.until(() => live.closed !== undefined || live.messages.length > 0)
    return { live, answer: live.closed?.code ?? live.messages[0]!.type }
  }
  const stream = async (secret: string) => {
    const headers = { authorization: `Bearer ${secret}` }
    const response = await fetch(`${address}/v1/stream/order-volume`, { headers })
    return { status: response.status, text: response.text() }
  }
  return { ...made, address, time, provided, open, greet, stream }
}

const soon = (seconds: number, nowMs: number) => Math.floor(nowMs / 1000) + seconds

test('a token opens a live socket: by header, as token, as key; or 4401 and 4403', async () => {
  const { greet, time } = await setUp()
  const token = await sign(key)
  const authorization = `Bearer ${token}`
  expect((await greet(undefined, { authorization })).answer).toBe('connection_ack')
  expect((await greet({ token })).answer).toBe('connection_ack')
  expect((await greet({ apiKey: token })).answer).toBe('connection_ack')
  expect((await greet({ apiKey: 'w-1' })).answer).toBe('connection_ack')
  expect((await greet(undefined)).answer).toBe(4401)
  const bad = [
    `${token}x`,
    await sign(key, { exp: soon(-1, time.nowMs) }),
    await sign(key, { aud: 'billing' }),
    await sign(key, { roles: [] }),
    await sign(await signingKey('other')),
  ]
  for (const wrong of bad) expect((await greet({ token: wrong })).answer).toBe(4403)
  // What the client says counts before what its upgrade said.
  expect((await greet({ token: bad[0] }, { authorization })).answer).toBe(4403)
})

test('a token that ends closes its live socket with 1008, and its event stream', async () => {
  const { greet, stream, views, time } = await setUp()
  views.put('order-volume', volumeRow('eu', 1, 1))
  const short = await sign(key, { exp: soon(60, time.nowMs) })
  const long = await sign(key, { exp: soon(120, time.nowMs) })
  const [ending, staying, byKey] = [
    await greet({ token: short }),
    await greet({ token: long }),
    await greet({ apiKey: 'w-1' }),
  ]
  const ended = await stream(short)
  const streaming = stream(long)
  for (const { live } of [ending, staying, byKey]) {
    live.send({ type: 'subscribe', id: 's', view: 'order-volume' })
    await live.until(() => live.types().includes('up-to-date'))
  }
  time.nowMs += 61_000
  expect(await ending.live.closing()).toBe(1008)
  expect(await ended.text).toMatch(/event: error\ndata: .*TOKEN_EXPIRED/)
  // The others go on.
  views.put('order-volume', volumeRow('eu', 1, 2))
  for (const { live } of [staying, byKey]) {
    await live.until(() => live.deltas().length > 0)
    expect(live.closed).toBeUndefined()
  }
  time.nowMs += 60_000
  expect(await staying.live.closing()).toBe(1008)
  expect(await (await streaming).text).toContain('TOKEN_EXPIRED')
  expect(byKey.live.closed).toBeUndefined()
})

test('a key that its issuer withdraws closes what tokens of it opened', async () => {
  const { greet, time, provided } = await setUp()
  const other = await signingKey('second')
  provided.keys = [key.jwk, other.jwk]
  const [of, ofOther] = [await sign(key, { exp: soon(9e6, time.nowMs) }), await sign(other)]
  const withdrawn = await greet({ token: of })
  const kept = await greet({ token: ofOther })
  provided.keys = [other.jwk]
  time.nowMs += 600_000
  expect(await withdrawn.live.closing()).toBe(1008)
  expect(kept.live.closed).toBeUndefined()
})

test('keys that cannot be had end no session and refuse with 1013', async () => {
  let down = false
  const fetchKeys = async () => {
    if (down) throw new Error('down')
    return JSON.stringify({ keys: [key.jwk] })
  }
  const { greet, time } = await setUp({}, fetchKeys)
  const token = await sign(key, { exp: soon(9e6, time.nowMs) })
  const { live } = await greet({ token })
  down = true
  time.nowMs += 4_000_000
  expect((await greet({ token })).answer).toBe(1013)
  live.send({ type: 'ping' })
  await live.until(() => live.types().includes('pong'))
  expect(live.closed).toBeUndefined()
})

test('what a client sends before it is acknowledged is done after, or is too much', async () => {
  const answers: (() => void)[] = []
  const fetchKeys = () =>
    new Promise<string>(resolve => {
      answers.push(() => resolve(JSON.stringify({ keys: [key.jwk] })))
    })
  const { open, views } = await setUp({ messageBytesMax: 2048 }, fetchKeys)
  views.put('order-volume', volumeRow('eu', 1, 1))
  const init = { type: 'connection_init', payload: { token: await sign(key) } } as const
  const [hasty, flooding] = [await open(), await open()]
  for (const live of [hasty, flooding]) {
    live.send(init)
    live.send({ type: 'subscribe', id: 's', view: 'order-volume' })
  }
  for (let index = 0; index < 100; index++) flooding.send({ type: 'ping', payload: index })
  expect(await flooding.closing()).toBe(1013)
  expect(hasty.messages).toEqual([])
  for (const answer of answers) answer()
  await hasty.until(() => hasty.types().includes('up-to-date'))
  expect(hasty.types()).toEqual(['connection_ack', 'snapshot', 'up-to-date'])
})

test('a user has so many feeds and no more; others are not concerned', async () => {
  const { greet, stream } = await setUp({ userFeedsMax: 2 })
  const [ann, bob] = [await sign(key, { sub: 'ann' }), await sign(key, { sub: 'bob' })]
  const one = await greet({ token: ann })
  const two = await stream(ann)
  expect([one.answer, two.status]).toEqual(['connection_ack', 200])
  expect((await greet({ token: ann })).answer).toBe(1013)
  const refused = await stream(ann)
  expect([refused.status, JSON.parse(await refused.text).code]).toEqual([429, 'FEEDS_EXCEEDED'])
  expect((await greet({ token: bob })).answer).toBe('connection_ack')
  one.live.close()
  await expect.poll(async () => (await greet({ token: ann })).answer).toBe('connection_ack')
})

test('sockets that do not say who they are do not keep others out for long', async () => {
  const { open, greet, address } = await setUp({ socketsUnknownMax: 2, initTimeoutMs: 10_000 })
  await open()
  await open()
  const third = new LiveSocket(address)
  const [, response] = await once(third.socket, 'unexpected-response')
  response.resume()
  expect(response.statusCode).toBe(503)
  await expect
    .poll(async () => (await greet({ apiKey: 'w-1' }).catch(() => undefined))?.answer)
    .toBe('connection_ack')
})

test('the client goes on with the next token, from the position it had', async () => {
  const { address, views, time } = await setUp()
  views.put('order-volume', volumeRow('eu', 1, 1))
  const given: string[] = []
  const tokens = [await sign(key, { exp: soon(60, time.nowMs) }), await sign(key)]
  const connection = connectLive(`${address}/v1/live`, {
    WebSocket: globalThis.WebSocket,
    schedule,
    random: () => 0.5,
    backoffMs: [10, 50],
    token: () => {
      given.push(tokens[given.length]!)
      return given.at(-1)
    },
  })
  closing.push(() => connection.close())
  const subscription = connection.subscribe<{ orders: number }>({ view: 'order-volume' })
  const orders = () => [...subscription.rows.values()].map(row => row.orders)
  await expect.poll(orders).toEqual([1])
  time.nowMs += 61_000
  await expect.poll(() => given.length).toBe(2)
  views.put('order-volume', volumeRow('eu', 1, 2))
  await expect.poll(orders).toEqual([2])
  expect(connection.state).toBe('open')
})

import { once } from 'node:events'
import { afterEach, describe, expect, test } from 'vitest'
import { parseApiKeys, type Server } from '../../api/index.ts'
import type { ServerMessage } from '../../contracts/live.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'
import { LiveSocket } from '../support/live-socket.ts'

const servers: Server[] = []
const sockets: LiveSocket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.close()
  for (const server of servers.splice(0)) await server.close()
})

async function listening(options: Parameters<typeof fakeServer>[0] = {}) {
  const made = await fakeServer(options)
  servers.push(made.server)
  const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
  const connect = async () => {
    const socket = await LiveSocket.connected(address)
    sockets.push(socket)
    return socket
  }
  const raw = (clientOptions = {}) => {
    const socket = new LiveSocket(address, clientOptions)
    sockets.push(socket)
    return socket
  }
  return { ...made, address, connect, raw }
}

const subscribe = { type: 'subscribe', id: 's', view: 'order-volume' } as const
const caughtUp = (live: LiveSocket, id = 's') => live.types(id).includes('up-to-date')
const last = (live: LiveSocket) => live.messages.at(-1) as ServerMessage & { position: string }

describe('a subscription', () => {
  test('gets the snapshot, up-to-date, then deltas, each with its position', async () => {
    const { views, connect } = await listening()
    const start = views.put('order-volume', volumeRow('eu', 1, 5))
    const live = await connect()
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    expect(live.messages.slice(1)).toEqual([
      {
        type: 'snapshot',
        id: 's',
        view: 'order-volume',
        position: start,
        key: ['region', 'currency', 'windowStart', 'windowEnd'],
        rows: [volumeRow('eu', 1, 5)],
      },
      { type: 'up-to-date', id: 's', view: 'order-volume', position: start },
    ])
    const next = views.put('order-volume', volumeRow('eu', 1, 6))
    await live.until(() => live.deltas().length > 0)
    const changes = [{ op: 'upsert', row: volumeRow('eu', 1, 6) }]
    const delta = { type: 'delta', id: 's', view: 'order-volume', position: next, changes }
    expect(live.deltas()).toEqual([delta])
  })

  test('to an empty view gets one empty snapshot', async () => {
    const { connect } = await listening()
    const live = await connect()
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    expect(live.types()).toEqual(['connection_ack', 'snapshot', 'up-to-date'])
  })

  test('a large view comes in chunks of one cut, and what changes meanwhile after them', async () => {
    const { views, connect } = await listening()
    views.put('order-volume', ...Array.from({ length: 2600 }, (_, i) => volumeRow('eu', i, 1)))
    const live = await connect()
    live.send(subscribe)
    await live.until(() => live.types().includes('snapshot'))
    views.put('order-volume', volumeRow('eu', 0, 2))
    await live.until(() => live.deltas().length > 0)
    const chunks = live.messages.filter(message => message.type === 'snapshot')
    expect(chunks.length).toBeGreaterThan(4)
    expect(new Set(chunks.map(chunk => chunk.position)).size).toBe(1)
    expect(chunks.flatMap(chunk => chunk.rows)).toHaveLength(2600)
    expect(live.rows('s').get('eu,EUR,0,60000')).toEqual(volumeRow('eu', 0, 2))
  })

  test('commits that come close together are one delta with the last state of each row', async () => {
    const { views, connect } = await listening({ limits: { publishIntervalMs: 40 } })
    const live = await connect()
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    views.put('order-volume', volumeRow('eu', 9, 9))
    await live.until(() => live.deltas().length === 1)
    for (let orders = 1; orders <= 20; orders++) {
      views.put('order-volume', volumeRow('eu', 1, orders), volumeRow('us', 1, orders))
    }
    views.commit({ 'order-volume': [{ op: 'delete', row: volumeRow('us', 1, 0) }] })
    await live.until(() => live.deltas().length === 2)
    expect(live.deltas()[1]!.position).toBe(views.position())
    expect(live.deltas()[1]!.changes).toEqual([
      { op: 'upsert', row: volumeRow('eu', 1, 20) },
      { op: 'delete', row: volumeRow('us', 1, 0) },
    ])
  })

  test('a view that does not change still tells its position now and then', async () => {
    const { views, connect } = await listening({ limits: { idlePositionMs: 20 } })
    const live = await connect()
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    const position = views.commit()
    await live.until(() => live.deltas().length > 0)
    expect(live.deltas()).toMatchObject([{ position, changes: [] }])
  })

  test('a filter selects rows of the snapshot, of deltas and of deletions', async () => {
    const { views, connect } = await listening()
    views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1), volumeRow('eu', 2, 1))
    const live = await connect()
    live.send({ ...subscribe, filter: { region: 'eu', from: 120_000 } })
    await live.until(() => caughtUp(live))
    expect([...live.rows('s').keys()]).toEqual(['eu,EUR,120000,180000'])
    views.put('order-volume', volumeRow('us', 2, 7), volumeRow('eu', 1, 7))
    views.commit({ 'order-volume': [{ op: 'delete', row: volumeRow('eu', 2, 1) }] })
    await live.until(() => live.deltas().length > 0)
    expect(live.deltas().flatMap(delta => delta.changes)).toEqual([
      { op: 'delete', row: volumeRow('eu', 2, 1) },
    ])
  })

  test('two hundred subscribers cost one encoding an update', async () => {
    const { views, server, connect } = await listening()
    const lives = await Promise.all(Array.from({ length: 20 }, connect))
    for (const live of lives) {
      for (let index = 0; index < 10; index++) live.send({ ...subscribe, id: `s${index}` })
    }
    for (const live of lives) await live.until(() => caughtUp(live, 's9'))
    views.put('order-volume', volumeRow('eu', 1, 1))
    for (const live of lives) await live.until(() => live.deltas().length === 10)
    const { body } = await server.inject({ url: '/metrics' })
    expect(body).toContain('\nlive_frames_encoded_total 1\n')
    expect(body).toContain('\nlive_subscriptions 200\n')
  })

  test('a large delta arrives whole though it is shared', async () => {
    const { views, connect } = await listening()
    const live = await connect()
    live.send(subscribe)
    live.send({ ...subscribe, id: 't' })
    await live.until(() => caughtUp(live, 't'))
    views.put('order-volume', ...Array.from({ length: 900 }, (_, i) => volumeRow('eu', i, 1)))
    await live.until(() => live.deltas().length === 2)
    expect([live.rows('s').size, live.rows('t').size]).toEqual([900, 900])
  })

  test('complete ends it and frees its id; an unknown id is ignored', async () => {
    const { views, server, connect } = await listening()
    const live = await connect()
    live.send({ type: 'complete', id: 'never' })
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    live.send({ type: 'complete', id: 's' })
    live.send({ type: 'ping', payload: 1 })
    await live.until(() => live.types().includes('pong'))
    views.put('order-volume', volumeRow('eu', 1, 1))
    live.send(subscribe)
    await live.until(() => live.types('s').length === 4)
    expect(live.types('s')).toEqual(['snapshot', 'up-to-date', 'snapshot', 'up-to-date'])
    expect((await server.inject({ url: '/metrics' })).body).toContain('\nlive_subscriptions 1\n')
    expect(views.snapshotsOpen).toBe(0)
  })
})

describe('resume', () => {
  test('at the present position goes on without a snapshot', async () => {
    const { views, connect } = await listening()
    const position = views.put('order-volume', volumeRow('eu', 1, 1))
    const live = await connect()
    live.send({ ...subscribe, resume: position })
    await live.until(() => caughtUp(live))
    expect(live.types('s')).toEqual(['up-to-date'])
    views.put('order-volume', volumeRow('eu', 1, 2))
    await live.until(() => live.deltas().length > 0)
  })

  test('gets exactly the rows that changed meanwhile', async () => {
    const { views, connect } = await listening()
    views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
    const before = await connect()
    before.send(subscribe)
    await before.until(() => caughtUp(before))
    const { position } = last(before)
    before.close()
    views.put('order-volume', volumeRow('eu', 1, 2))
    views.put('order-volume', volumeRow('eu', 1, 3))
    const after = await connect()
    after.send({ ...subscribe, resume: position })
    await after.until(() => caughtUp(after))
    expect(after.types('s')).toEqual(['delta', 'up-to-date'])
    expect(after.deltas()[0]!.changes).toEqual([{ op: 'upsert', row: volumeRow('eu', 1, 3) }])
  })

  test('from a position that is not known must refetch', async () => {
    const { views, connect } = await listening({ limits: { resumeRowsMax: 10 } })
    const live = await connect()
    live.send({ ...subscribe, resume: 'b-00000003' })
    await live.until(() => caughtUp(live))
    expect(live.types('s')).toEqual(['must-refetch', 'snapshot', 'up-to-date'])
    const { position } = last(live)
    views.put('order-volume', ...Array.from({ length: 11 }, (_, i) => volumeRow('eu', i, 1)))
    await live.until(() => live.deltas().length > 0)
    views.put('order-volume', volumeRow('us', 1, 1))
    await live.until(() => live.deltas().length > 1)
    live.send({ ...subscribe, id: 't', resume: position })
    await live.until(() => caughtUp(live, 't'))
    expect(live.types('t')).toEqual(['must-refetch', 'snapshot', 'up-to-date'])
  })

  test('when the engine begins anew every subscriber refetches', async () => {
    const { views, connect } = await listening()
    views.put('order-volume', volumeRow('eu', 1, 1))
    const live = await connect()
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    const { position } = last(live)
    views.reset()
    await live.until(() => live.types('s').length === 5)
    expect(live.types('s').slice(2)).toEqual(['must-refetch', 'snapshot', 'up-to-date'])
    live.send({ ...subscribe, id: 't', resume: position })
    await live.until(() => caughtUp(live, 't'))
    expect(live.types('t')[0]).toBe('must-refetch')
  })
})

describe('the protocol', () => {
  const init = '{"type":"connection_init"}'
  test.each([
    ['a subscribe before init', 4401, [JSON.stringify(subscribe)]],
    ['a second init', 4429, [init, init]],
    ['no JSON', 4400, ['hello']],
    ['no id', 4400, ['{"type":"subscribe"}']],
    ['no known type', 4400, ['{"type":"nothing"}']],
    ['an unknown member', 4400, ['{"type":"connection_init","extra":1}']],
    ['null', 4400, ['null']],
    ['deep nonsense', 4400, [`{"type":"ping","payload":${'['.repeat(20_000)}}`]],
    ['a message over 64 KiB', 1009, ['x'.repeat(70_000)]],
  ])('%s closes with %i', async (_, code, messages) => {
    const { raw } = await listening()
    const live = raw()
    await once(live.socket, 'open')
    for (const message of messages) live.send(message)
    expect(await live.closing()).toBe(code)
  })

  test('without connection_init it closes with 4408', async () => {
    const { raw } = await listening({ limits: { initTimeoutMs: 30 } })
    expect(await raw().closing()).toBe(4408)
  })

  test('an id in use closes with 4409', async () => {
    const { connect } = await listening()
    const live = await connect()
    live.send(subscribe)
    live.send(subscribe)
    expect(await live.closing()).toBe(4409)
  })

  test('`__proto__` is answered by an error frame and changes no prototype', async () => {
    const { connect } = await listening()
    const live = await connect()
    live.send(
      '{"type":"subscribe","id":"s","view":"order-volume","filter":{"__proto__":{"a":"1"}}}',
    )
    expect(await live.closing()).toBe(4400)
    expect(last(live)).toMatchObject({ type: 'error', payload: { code: 'MESSAGE_INVALID' } })
    expect(({} as Record<string, unknown>).a).toBeUndefined()
  })

  test('an unknown view or a bad filter is an error of that id alone', async () => {
    const { connect } = await listening()
    const live = await connect()
    live.send({ ...subscribe, id: 'a', view: 'nothing' })
    live.send({ ...subscribe, id: 'b', filter: { colour: 'red' } })
    live.send({ ...subscribe, id: 'c', filter: { from: 'NaN' } })
    live.send(subscribe)
    await live.until(() => caughtUp(live))
    const errors = live.messages.filter(message => message.type === 'error')
    expect(errors.map(({ id, payload }) => [id, payload.code])).toEqual([
      ['a', 'VIEW_UNKNOWN'],
      ['b', 'QUERY_INVALID'],
      ['c', 'QUERY_INVALID'],
    ])
  })

  test('subscriptions a connection and messages a second are limited', async () => {
    const { connect } = await listening({
      limits: { subscriptionsMax: 2, messagesPerSecondMax: 50 },
    })
    const live = await connect()
    for (const id of ['a', 'b', 'c']) live.send({ ...subscribe, id })
    await live.until(() => live.types().includes('error'))
    expect(live.messages.find(message => message.type === 'error')).toMatchObject({
      id: 'c',
      payload: { code: 'SUBSCRIPTIONS_EXCEEDED' },
    })
    for (let index = 0; index < 100; index++) live.send({ type: 'ping' })
    expect(await live.closing()).toBe(1013)
  })

  test('a client that answers no ping is dropped', async () => {
    const { server, raw } = await listening({ limits: { heartbeatMs: 30 } })
    const live = raw({ autoPong: false })
    await once(live.socket, 'open')
    await live.closing()
    const metrics = async () => (await server.inject({ url: '/metrics' })).body
    await expect.poll(metrics).toContain('\nlive_sockets 0\n')
  })

  test('a server that stops says 1001', async () => {
    const { server, connect } = await listening()
    const live = await connect()
    const closing = live.closing()
    await server.close()
    expect(await closing).toBe(1001)
  })
})

describe('who may connect', () => {
  const status = async (live: LiveSocket) => {
    const [, response] = await once(live.socket, 'unexpected-response')
    response.resume()
    return response.statusCode
  }

  test('a foreign origin, path, subprotocol or host name is refused before the upgrade', async () => {
    const { address, raw } = await listening()
    expect(await status(raw({ origin: 'https://evil.example' }))).toBe(403)
    expect(await status(raw({ origin: 'null' }))).toBe(403)
    expect(await status(raw({ headers: { host: 'evil.example' } }))).toBe(403)
    const own = raw({ origin: address })
    await once(own.socket, 'open')
    const elsewhere = new LiveSocket(`${address}/x`)
    sockets.push(elsewhere)
    expect(await status(elsewhere)).toBe(404)
  })

  test('an allowed origin may connect, and sockets are limited', async () => {
    const auth = { keys: [], allowedOrigins: ['https://ops.example'] }
    const { raw } = await listening({ auth, limits: { socketsMax: 1 } })
    const live = raw({ origin: 'https://ops.example' })
    await once(live.socket, 'open')
    expect(await status(raw())).toBe(503)
  })

  test('with keys configured: by header, by payload, or 4401 and 4403', async () => {
    const auth = { keys: parseApiKeys('ann:reader:s3cret'), allowedOrigins: [] }
    const { raw } = await listening({ auth })
    const greet = async (live: LiveSocket, payload: object | undefined) => {
      await once(live.socket, 'open')
      live.send(JSON.stringify({ type: 'connection_init', payload }))
      await live.until(() => live.closed !== undefined || live.messages.length > 0)
      return live.closed?.code ?? live.messages[0]!.type
    }
    expect(await greet(raw(), undefined)).toBe(4401)
    expect(await greet(raw(), { apiKey: 'wrong' })).toBe(4403)
    expect(await greet(raw(), { apiKey: 's3cret' })).toBe('connection_ack')
    const headers = { authorization: 'Bearer s3cret' }
    expect(await greet(raw({ headers }), undefined)).toBe('connection_ack')
  })
})

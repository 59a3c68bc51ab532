import { afterEach, expect, test } from 'vitest'
import { parseApiKeys, type Server } from '../../api/index.ts'
import { type ConnectionState, connectLive, type LiveConnection } from '../../client/index.ts'
import { fakeServer, testViews, volumeRow } from '../support/fake-server.ts'
import { FakeViews } from '../support/fake-views.ts'
import { freePort } from '../support/ports.ts'

const closing: { close(): unknown }[] = []

afterEach(async () => {
  for (const each of closing.splice(0).reverse()) await each.close()
})

async function serve(options: Parameters<typeof fakeServer>[0] = {}, port = 0) {
  const made = await fakeServer(options)
  closing.push(made.server)
  const address = await made.server.listen({ host: '127.0.0.1', port })
  return { ...made, address }
}

function schedule(run: () => void, delayMs: number) {
  const timer = setTimeout(run, delayMs)
  return () => clearTimeout(timer)
}

function connect(address: string, options: Partial<Parameters<typeof connectLive>[1]> = {}) {
  const states: ConnectionState[] = []
  const connection: LiveConnection = connectLive(`${address}/v1/live`, {
    WebSocket: globalThis.WebSocket,
    schedule,
    random: () => 0.5,
    backoffMs: [10, 50],
    onState: state => states.push(state),
    ...options,
  })
  closing.push(connection)
  return { connection, states }
}

interface VolumeRow {
  readonly region: string
  readonly orders: number
}

const orders = (rows: ReadonlyMap<string, VolumeRow>) =>
  [...rows.values()].map(row => `${row.region} ${row.orders}`).join(', ')

test('rows are kept by identity and follow every change', async () => {
  const { address, views } = await serve()
  views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
  const { connection } = connect(address)
  const events: string[] = []
  const subscription = connection.subscribe<VolumeRow>(
    { view: 'order-volume' },
    { onRows: event => events.push(event.type) },
  )
  await expect.poll(() => orders(subscription.rows)).toBe('eu 1, us 1')
  views.put('order-volume', volumeRow('eu', 1, 2))
  await expect.poll(() => orders(subscription.rows)).toBe('eu 2, us 1')
  views.commit({ 'order-volume': [{ op: 'delete', row: volumeRow('us', 1, 0) }] })
  await expect.poll(() => orders(subscription.rows)).toBe('eu 2')
  expect(events).toEqual(['reset', 'changes', 'changes'])
  expect(subscription.position).toBe(views.position())
})

test('filters reach the server; closing a subscription ends it there', async () => {
  const { address, views, server } = await serve()
  views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
  const { connection } = connect(address)
  const request = { view: 'order-volume', filter: { region: 'us' } }
  const subscription = connection.subscribe<VolumeRow>(request)
  await expect.poll(() => orders(subscription.rows)).toBe('us 1')
  subscription.close()
  const metrics = async () => (await server.inject('/metrics')).body
  await expect.poll(metrics).toMatch(/^live_subscriptions 0$/m)
})

test('a refused subscription is told once and not tried again', async () => {
  const { address } = await serve()
  const { connection } = connect(address)
  const errors: string[] = []
  connection.subscribe({ view: 'nothing' }, { onError: error => errors.push(error.code) })
  await expect.poll(() => errors).toEqual(['VIEW_UNKNOWN'])
})

test('a view that is not ready is subscribed to again until it is', async () => {
  const { address, views } = await serve()
  views.put('order-volume', volumeRow('eu', 1, 1))
  const { connection } = connect(address)
  await expect.poll(() => connection.state).toBe('open')
  views.notReady = 'its partitions are moving'
  const errors: string[] = []
  let asked = 0
  const declared = views.views.bind(views)
  views.views = () => {
    asked++
    return declared()
  }
  const subscription = connection.subscribe<VolumeRow>(
    { view: 'order-volume' },
    { onError: error => errors.push(error.code) },
  )
  await expect.poll(() => asked).toBeGreaterThan(3)
  views.notReady = undefined
  await expect.poll(() => orders(subscription.rows)).toBe('eu 1')
  expect(errors).toEqual([])
})

test('messages can be followed without keeping rows, and say when there is a gap', async () => {
  const { address, views } = await serve()
  views.put('order-volume', volumeRow('eu', 1, 1))
  const { connection } = connect(address)
  const seen: string[] = []
  const end = connection.follow(
    { view: 'order-volume' },
    { onMessage: ({ type }) => seen.push(type), onInterrupted: () => seen.push('interrupted') },
  )
  await expect.poll(() => seen).toEqual(['snapshot', 'up-to-date'])
  views.put('order-volume', volumeRow('eu', 1, 2))
  await expect.poll(() => seen).toEqual(['snapshot', 'up-to-date', 'delta'])
  views.reset()
  const anew = ['must-refetch', 'snapshot', 'up-to-date']
  await expect.poll(() => seen.slice(3)).toEqual(anew)
  end()
  views.put('order-volume', volumeRow('eu', 1, 3))
  connection.close()
  expect(seen.slice(6)).toEqual([])
})

async function restart(server: Server, port: number, views: FakeViews) {
  await server.close()
  return serve({ fake: views }, port)
}

test('after a restart of the server it resumes where it was, without a snapshot', async () => {
  const port = await freePort()
  const { address, views, server } = await serve({}, port)
  views.put('order-volume', volumeRow('eu', 1, 1))
  const { connection, states } = connect(address)
  const events: string[] = []
  const subscription = connection.subscribe<VolumeRow>(
    { view: 'order-volume' },
    { onRows: event => events.push(event.type) },
  )
  await expect.poll(() => orders(subscription.rows)).toBe('eu 1')
  await restart(server, port, views)
  await expect.poll(() => states.filter(state => state === 'open').length).toBe(2)
  views.put('order-volume', volumeRow('eu', 1, 2))
  await expect.poll(() => orders(subscription.rows)).toBe('eu 2')
  expect(events).toEqual(['reset', 'changes'])
  expect(states).toContain('waiting')
})

test('when the server has other data, the old rows stand until the new ones are whole', async () => {
  const port = await freePort()
  const { address, views, server } = await serve({}, port)
  views.put('order-volume', volumeRow('eu', 1, 1), volumeRow('us', 1, 1))
  const { connection } = connect(address)
  const seen = new Set<string>()
  const subscription = connection.subscribe<VolumeRow>(
    { view: 'order-volume' },
    { onRows: () => seen.add(orders(subscription.rows)) },
  )
  await expect.poll(() => orders(subscription.rows)).toBe('eu 1, us 1')
  const other = new FakeViews(testViews, { incarnation: 'b' })
  other.put('order-volume', volumeRow('asia', 1, 7))
  await restart(server, port, other)
  await expect.poll(() => orders(subscription.rows)).toBe('asia 7')
  expect([...seen]).toEqual(['eu 1, us 1', 'asia 7'])
  expect(subscription.position).toBe(other.position())
})

test('a wrong key is refused for good, until reconnect() is called with another', async () => {
  const auth = { keys: parseApiKeys('ann:reader:right'), allowedOrigins: [] }
  const { address, views } = await serve({ auth })
  views.put('order-volume', volumeRow('eu', 1, 1))
  let apiKey = 'wrong'
  const { connection, states } = connect(address, { apiKey: () => apiKey })
  const subscription = connection.subscribe<VolumeRow>({ view: 'order-volume' })
  await expect.poll(() => connection.state).toBe('refused')
  apiKey = 'right'
  connection.reconnect()
  await expect.poll(() => orders(subscription.rows)).toBe('eu 1')
  expect(states).toEqual(['refused', 'connecting', 'open'])
})

test('tries come at growing, spread and bounded intervals', async () => {
  const delays: number[] = []
  let retries = 0
  const port = await freePort()
  const { connection } = connect(`http://127.0.0.1:${port}`, {
    schedule: (run, delayMs) => {
      if (delayMs === 10_000) return () => undefined
      delays.push(delayMs)
      return ++retries > 6 ? () => undefined : schedule(run, 0)
    },
    random: () => 0,
    backoffMs: [100, 1000],
  })
  await expect.poll(() => delays.length).toBe(7)
  expect(delays).toEqual([50, 100, 200, 400, 500, 500, 500])
  expect(connection.state).toBe('waiting')
})

test('a connection that has gone quiet is pinged, then given up', async () => {
  const sent: string[] = []
  const sockets: FakeSocket[] = []
  class FakeSocket {
    readyState = 1
    readonly listeners = new Map<string, (event: { data?: unknown }) => void>()
    constructor() {
      sockets.push(this)
    }
    addEventListener(type: string, listener: (event: { data?: unknown }) => void) {
      this.listeners.set(type, listener)
    }
    send(data: string) {
      sent.push(JSON.parse(data).type)
    }
    close() {}
  }
  const { states } = connect('http://x', { WebSocket: FakeSocket, pingMs: 20 })
  const [socket] = sockets
  socket!.listeners.get('open')!({})
  socket!.listeners.get('message')!({ data: '{"type":"connection_ack","payload":{}}' })
  await expect.poll(() => states.slice(0, 3)).toEqual(['open', 'waiting', 'connecting'])
  expect(sent.slice(0, 2)).toEqual(['connection_init', 'ping'])
})

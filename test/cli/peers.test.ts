/** Instances that ask each other over real HTTP and WebSocket. */
import { afterEach, expect, test } from 'vitest'
import { type AuthSettings, noAuth, parseApiKeys } from '../../api/index.ts'
import { peerSecret, withPeers } from '../../cli/peers.ts'
import { connectLive, type LiveConnection } from '../../client/index.ts'
import { faults, PARTITIONS, readings, readingsTopology, TOPIC } from '../cluster/readings.ts'
import {
  GroupedService,
  type Instance,
  type InstanceOptions,
  until,
} from '../support/grouped-service.ts'

const closing: { close(): unknown }[] = []

afterEach(async () => {
  for (const each of closing.splice(0).reverse()) await each.close()
})

async function grouped(): Promise<GroupedService> {
  const service = await GroupedService.open(readingsTopology, [TOPIC], PARTITIONS)
  closing.push(service)
  return service
}

/** Two instances that share the tasks. */
async function pair(options: InstanceOptions = {}) {
  const service = await grouped()
  const a = await service.start({ readings: [0, 1], 'by-meter': [2, 3] }, options)
  const b = await service.start({ readings: [2, 3], 'by-meter': [0, 1] }, options)
  const records = readings(1, 300)
  const token = await service.append(TOPIC, records)
  return { service, a, b, records, token }
}

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

async function get(
  { address }: Pick<Instance, 'address'>,
  path: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(address + path, { headers })
  return { status: response.status, body: (await response.json()) as Answer['body'] }
}

const rowsOf = ({ body }: Answer) => body.rows as Readonly<Record<string, unknown>>[]

function follow(address: string, apiKey?: string): LiveConnection {
  const connection = connectLive(`${address}/v1/live`, {
    WebSocket: globalThis.WebSocket,
    schedule: (run, delayMs) => {
      const timer = setTimeout(run, delayMs)
      return () => clearTimeout(timer)
    },
    random: () => 0.5,
    backoffMs: [10, 50],
    ...(apiKey === undefined ? {} : { apiKey: () => apiKey }),
  })
  closing.push(connection)
  return connection
}

test('either of two instances answers for the whole view, at a token that both have to cover', async () => {
  const { a, b, records, token } = await pair()
  for (const instance of [a, b]) {
    for (const view of ['meters', 'minutes', 'devices'] as const) {
      const answer = await get(instance, `/v1/views/${view}/rows?limit=1000`, {
        'Millrace-Position': token,
      })
      expect(answer.status).toBe(200)
      expect(answer.body).toMatchObject({ consistent: false, partitions: [0, 1, 2, 3], next: null })
      const given = { view, rows: rowsOf(answer) }
      for (const position of [token, String(answer.body.position)]) {
        expect(faults({ ...given, position }, records, token)).toEqual([])
      }
    }
  }
})

test('pages go on at the other instance, with filters, in the order of the view', async () => {
  const { a, b, token } = await pair()
  await get(a, '/v1/views/minutes/rows', { 'Millrace-Position': token })
  const whole = rowsOf(await get(a, '/v1/views/minutes/rows?limit=1000&prefix=m1'))
  const paged: unknown[] = []
  let cursor = ''
  for (let page = 0; page === 0 || cursor !== ''; page++) {
    const path = `/v1/views/minutes/rows?limit=7&prefix=m1${cursor}`
    const answer = await get(page % 2 === 0 ? a : b, path)
    expect(rowsOf(answer).length).toBeLessThanOrEqual(7)
    paged.push(...rowsOf(answer))
    cursor = answer.body.next === null ? '' : `&cursor=${answer.body.next}`
  }
  expect(paged).toEqual(whole)
  const starts = whole.map(row => Number(row.windowStart))
  expect(starts).toEqual([...starts].sort((x, y) => x - y))
  expect(new Set(whole.map(row => String(row.meter)[1]))).toEqual(new Set(['1']))
})

test('a row is found wherever it is; one that is nowhere is 404 with a position', async () => {
  const { a, b, records, token } = await pair()
  const headers = { 'Millrace-Position': token }
  for (const instance of [a, b]) {
    for (const { key, value } of records.slice(0, 20)) {
      const device = await get(instance, `/v1/views/devices/rows/${key}`, headers)
      const meter = await get(instance, `/v1/views/meters/rows/${value.meter}`, headers)
      expect([device.status, meter.status]).toEqual([200, 200])
      const asked = (identity: string) => identity === key
      const rows = [device.body.row as Readonly<Record<string, unknown>>]
      expect(faults({ view: 'devices', rows, position: token, asked }, records, token)).toEqual([])
      expect(meter.body.row).toMatchObject({ meter: value.meter })
      expect(meter.body.partitions).toHaveLength(1)
    }
    const nobody = await get(instance, '/v1/views/devices/rows/nobody', headers)
    expect([nobody.status, nobody.body.code]).toEqual([404, 'ROW_MISSING'])
    expect(typeof nobody.body.position).toBe('string')
  }
})

test('a token that one of them does not reach is 503 after the common timeout, with both positions', async () => {
  const { a, token } = await pair()
  const [incarnation, offsets] = JSON.parse(Buffer.from(token, 'base64url').toString())
  offsets[TOPIC][3] += 1000
  const ahead = Buffer.from(JSON.stringify([incarnation, offsets])).toString('base64url')
  const headers = { 'Millrace-Position': ahead }
  const { status, body } = await get(a, '/v1/views/devices/rows?timeout=300', headers)
  expect([status, body.code, body.required]).toEqual([503, 'POSITION_TIMEOUT', ahead])
  expect(typeof body.position).toBe('string')
  // A row waits for what it depends on: its own partition, where its device is found at once.
  const there = await get(a, '/v1/views/devices/rows/d3-1?timeout=300', headers)
  const here = await get(a, '/v1/views/devices/rows/d0-1?timeout=300', headers)
  expect([there.status, here.status]).toEqual([503, 200])
})

test('a partition that nobody answers for is told, with its number and where it should be', async () => {
  const { service, a, b } = await pair()
  await service.assign(b, { readings: [2, 3], 'by-meter': [0] })
  const nowhere = await get(a, '/v1/views/meters/rows')
  expect([nowhere.status, nowhere.body.code, nowhere.body.partition]).toEqual([
    503,
    'VIEW_NOT_READY',
    1,
  ])
  expect(nowhere.body.detail).toMatch(/partition 1 \(task by-meter\/1\) is on no instance/)
  // The group is wrong about it: who is asked says so.
  service.tell(new Map([[b, { readings: [2, 3], 'by-meter': [0, 1] }]]))
  const wrong = await get(a, '/v1/views/meters/rows')
  expect([wrong.status, wrong.body.owner]).toEqual([503, `127.0.0.1:${b.self.port}`])
  expect(wrong.body.detail).toContain('its partition 1 is not on this instance')
  await b.server.close()
  const gone = await get(a, '/v1/views/devices/rows')
  expect([gone.status, gone.body.owner]).toEqual([503, `127.0.0.1:${b.self.port}`])
  expect(gone.body.detail).toMatch(/partition 2 is at 127\.0\.0\.1:\d+, which does not answer/)
})

test('what is asked for by partitions is answered from here alone, or refused', async () => {
  const { a, b, token } = await pair()
  const of = (partitions: string) => ({ 'Millrace-Partitions': partitions })
  const covering = { ...of('0,1'), 'Millrace-Position': token }
  const mine = await get(a, '/v1/views/devices/rows?limit=1000', covering)
  expect(mine.status).toBe(200)
  const places = mine.body.places as [string, number][]
  expect(places.map(([key]) => key)).toEqual(rowsOf(mine).map(row => row.device))
  expect(new Set(places.map(([, partition]) => partition))).toEqual(new Set([0, 1]))
  const theirs = await get(a, '/v1/views/devices/rows', of('1,2'))
  expect([theirs.status, theirs.body.partition]).toEqual([503, 2])
  const before = await requests(b)
  await get(a, '/v1/views/meters/rows/m1', of('0'))
  // Asked by nobody but this test.
  expect(await requests(b)).toBe(before + 1)
  for (const bad of ['', 'x', '1,0', '1,1', '-1']) {
    const { status, body } = await get(a, '/v1/views/devices/rows', of(bad))
    expect([status, body.code]).toEqual([400, 'REQUEST_MALFORMED'])
  }
})

async function metric({ address }: Instance, name: string): Promise<number> {
  const text = await (await fetch(`${address}/metrics`)).text()
  return [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\d+)$`, 'gm'))]
    .map(([, value]) => Number(value))
    .reduce((sum, value) => sum + value, 0)
}

const requests = (instance: Instance) => metric(instance, 'http_server_requests_total')

test('a client that leaves takes the requests to other instances with it', async () => {
  const { a, b, token } = await pair()
  const [incarnation, offsets] = JSON.parse(Buffer.from(token, 'base64url').toString())
  offsets[TOPIC][3] += 1000
  const ahead = Buffer.from(JSON.stringify([incarnation, offsets])).toString('base64url')
  const abort = new AbortController()
  const left = fetch(`${a.address}/v1/views/devices/rows?timeout=60000`, {
    headers: { 'Millrace-Position': ahead },
    signal: abort.signal,
  })
  // The metrics are a request themselves.
  const active = () => metric(b, 'http_server_active_requests')
  await until(async () => (await active()) === 2)
  abort.abort()
  await expect(left).rejects.toThrow()
  await until(async () => (await active()) === 1)
})

test('an instance that its group has lost answers nothing, and the others say so', async () => {
  const { a, b } = await pair()
  expect((await get(b, '/v1/views/meters/rows')).status).toBe(200)
  b.membership.change({ alive: false })
  const fenced = await get(b, '/v1/views/meters/rows', { 'Millrace-Partitions': '0' })
  expect([fenced.status, fenced.body.code]).toEqual([503, 'VIEW_NOT_READY'])
  const asked = await get(a, '/v1/views/meters/rows')
  expect([asked.status, asked.body.owner]).toEqual([503, `127.0.0.1:${b.self.port}`])
})

test('live clients see changes of all instances, over one feed of each view between them', async () => {
  const { service, a, b, records, token } = await pair()
  const peer = a.peers.at(b.self)
  const followed: string[] = []
  const followPeer = peer.follow.bind(peer)
  peer.follow = (view, onUpdate) => {
    followed.push(view)
    return followPeer(view, onUpdate)
  }
  const clients = [0, 1, 2].map(() =>
    follow(a.address).subscribe<Readonly<Record<string, unknown>>>({ view: 'meters' }),
  )
  const wrong = (end: string) =>
    clients.flatMap(({ rows }) =>
      faults({ view: 'meters', rows: [...rows.values()], position: end }, records, end),
    )
  await until(() => wrong(token).length === 0)
  const more = readings(2, 100)
  records.push(...more)
  const end = await service.append(TOPIC, more)
  await until(() => wrong(end).length === 0)
  expect(await metric(b, 'live_subscriptions')).toBe(1)
  expect(await metric(b, 'live_sockets')).toBe(1)
  expect(followed).toEqual(['meters'])
})

test('an event stream of one instance has the rows of all', async () => {
  const { a, records, token } = await pair()
  const abort = new AbortController()
  const headers = { 'Millrace-Position': token }
  const response = await fetch(`${a.address}/v1/stream/meters`, { headers, signal: abort.signal })
  let text = ''
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString()
    if (text.includes('event: up-to-date')) break
  }
  abort.abort()
  const data = [...text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json!))
  const rows = data.flatMap(message => message.rows ?? [])
  expect(faults({ view: 'meters', rows, position: token }, records, token)).toEqual([])
})

test('a live client goes on when partitions move, and when an instance is lost', async () => {
  const { service, a, b, records, token } = await pair()
  const connection = follow(a.address)
  const live = connection.subscribe<Readonly<Record<string, unknown>>>({ view: 'meters' })
  const lost: string[] = []
  const most = new Map<string, number>()
  const look = () => {
    for (const { meter, count } of live.rows.values()) {
      const before = most.get(String(meter)) ?? 0
      if (Number(count) < before) lost.push(`${meter} from ${before} to ${count}`)
      most.set(String(meter), Number(count))
    }
  }
  const wrong = (end: string) => {
    look()
    const rows = [...live.rows.values()]
    return faults({ view: 'meters', rows, position: end }, records, end)
  }
  await until(() => wrong(token).length === 0)
  const append = async (seed: number) => {
    const more = readings(seed, 60)
    records.push(...more)
    return service.append(TOPIC, more)
  }
  await service.assign(b, { readings: [2, 3], 'by-meter': [0] })
  const moving = await append(3)
  await service.assign(a, { readings: [0, 1], 'by-meter': [1, 2, 3] })
  await until(() => wrong(moving).length === 0)
  await b.server.close()
  // Told at once that it does not have the whole view, and not when the group finds out.
  await until(() => live.position === undefined)
  await service.assign(b, {})
  await service.assign(a, { readings: [0, 1, 2, 3], 'by-meter': [0, 1, 2, 3] })
  const end = await append(4)
  await until(() => wrong(end).length === 0)
  expect(lost).toEqual([])
})

const readerKey = 'of-a-reader'

function keyed(secret: string | undefined): InstanceOptions {
  const auth: AuthSettings = { ...noAuth, keys: parseApiKeys(`somebody:reader:${readerKey}`) }
  const limits = { requestsPerMinuteMax: 30 }
  return { auth: withPeers(auth, secret), limits, ...(secret && { secret }) }
}

test('where credentials are asked for, instances show each other a key that follows from the first', async () => {
  const secret = peerSecret('', parseApiKeys(`somebody:reader:${readerKey}`))
  expect(secret).not.toContain(readerKey)
  expect(peerSecret('given', [])).toBe('given')
  expect(peerSecret('', [])).toBe(undefined)
  const { a, b, records, token } = await pair(keyed(secret))
  const mine = { Authorization: `Bearer ${readerKey}` }
  const headers = { ...mine, 'Millrace-Position': token }
  const answer = await get(a, '/v1/views/meters/rows?limit=1000', headers)
  const given = { view: 'meters', rows: rowsOf(answer), position: token } as const
  expect(faults(given, records, token)).toEqual([])
  expect((await get(a, '/v1/views/meters/rows')).status).toBe(401)
  // The limit is that of clients: b is asked more often than a client may.
  const asked: number[] = []
  for (let i = 0; i < 20; i++) asked.push((await get(a, '/v1/views/meters/rows', mine)).status)
  for (let i = 0; i < 8; i++) asked.push((await get(a, '/v1/views/devices/rows/none', mine)).status)
  expect(new Set(asked)).toEqual(new Set([200, 404]))
  expect((await get(b, '/v1/views/meters/rows', mine)).status).toBe(200)
  const live = follow(a.address, readerKey).subscribe({ view: 'meters' })
  await until(() => live.rows.size === 30)
})

test('without a key that the others accept, an instance says what to do', async () => {
  const { a } = await pair({ ...keyed(undefined), secret: 'another' })
  const mine = { Authorization: `Bearer ${readerKey}` }
  const { status, body } = await get(a, '/v1/views/meters/rows', mine)
  expect([status, body.code]).toEqual([503, 'VIEW_NOT_READY'])
  expect(body.detail).toMatch(/401 UNAUTHENTICATED \(give all instances the same PEER_KEY/)
  follow(a.address, readerKey).subscribe({ view: 'meters' })
  await until(() => a.refused.length > 0)
  expect(a.refused[0]).toMatch(/refuses the key of this instance \(give all instances/)
})

test('the topology tells where the tasks are', async () => {
  const { service, a, b } = await pair()
  await service.assign(b, { readings: [2, 3], 'by-meter': [0] })
  const { body } = await get(a, '/v1/topology')
  const endpoint = (instance: Instance) => `127.0.0.1:${instance.self.port}`
  const none = { restoring: [], standby: [] }
  const names = (tasks: string) => tasks.split(' ')
  expect(body.instances).toEqual([
    {
      endpoint: endpoint(a),
      self: true,
      active: names('readings/0 readings/1 by-meter/2 by-meter/3'),
      ...none,
    },
    {
      endpoint: endpoint(b),
      self: false,
      active: names('readings/2 readings/3 by-meter/0'),
      ...none,
    },
  ])
})

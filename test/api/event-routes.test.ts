import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { fakeServer, orderLine } from '../support/fake-server.ts'

const ndjson = { 'content-type': 'application/x-ndjson' }
const now = 1_760_000_000_000
const clock = () => now
const open: Server[] = []

afterEach(async () => {
  for (const server of open.splice(0)) await server.close()
})

async function setUp(options: Parameters<typeof fakeServer>[0] = {}) {
  const made = await fakeServer({ clock, ...options })
  open.push(made.server)
  const post = async (payload: string, url = '/v1/events', headers: object = ndjson) => {
    const request = { method: 'POST' as const, url, payload, headers: { ...headers } }
    const response = await made.server.inject(request)
    return { status: response.statusCode, headers: response.headers, body: response.json() }
  }
  return { ...made, post }
}

const lines = (...list: string[]) => list.map(line => `${line}\n`).join('')

describe('POST /v1/events', () => {
  test('good lines are appended, bad ones named by line and code', async () => {
    const { post, appended, views } = await setUp()
    const bad = orderLine('o2', now).replace('OrderCreated', 'OrderEaten')
    const { status, headers, body } = await post(
      lines(orderLine('o1', now), bad, '', '{oops', orderLine('o3', now)),
    )
    expect(status).toBe(200)
    expect(body.accepted).toBe(2)
    const rejected = body.rejected.map((one: { line: number; code: string }) => [
      one.line,
      one.code,
    ])
    expect(rejected).toEqual([
      [2, 'TYPE_UNKNOWN'],
      [4, 'JSON_INVALID'],
    ])
    expect(body.position).toBe(views.position())
    expect(headers['millrace-position']).toBe(body.position)
    expect(appended.flat().map(record => record.key.toString())).toEqual(['o1', 'o3'])
  })

  test('a read with the token of the write waits for it', async () => {
    const { post, server } = await setUp()
    const { body } = await post(lines(orderLine('o1', now)))
    const headers = { 'Millrace-Position': body.position }
    const read = await server.inject({ url: '/v1/views/order-volume/rows', headers })
    expect(read.statusCode).toBe(200)
  })

  test('when no line is good the answer is 400 with the same list', async () => {
    const { post, appended } = await setUp()
    const { status, headers, body } = await post(lines('nope', '{}'))
    expect([status, body.code]).toEqual([400, 'EVENTS_REJECTED'])
    expect(body.rejected.map((one: { line: number }) => one.line)).toEqual([1, 2])
    expect(headers['content-type']).toContain('application/problem+json')
    expect(headers['millrace-position']).toBe(body.position)
    expect(appended).toEqual([])
    expect((await post('')).body.code).toBe('EVENTS_REJECTED')
  })

  test('atomic: one bad line and nothing is appended, none and all are at once', async () => {
    const { post, appended } = await setUp({ limits: { appendRecordsMax: 2 } })
    const good = Array.from({ length: 5 }, (_, index) => orderLine(`o${index}`, now))
    const refused = await post(lines(...good, 'nope'), '/v1/events?atomic=true')
    expect([refused.status, refused.body.code]).toEqual([400, 'EVENTS_REJECTED'])
    expect(appended).toEqual([])
    const kept = await post(lines(...good), '/v1/events?atomic=true')
    expect([kept.status, kept.body.accepted]).toEqual([200, 5])
    expect(appended.map(batch => batch.length)).toEqual([5])
  })

  test('lines are appended in batches of a bounded size', async () => {
    const { post, appended } = await setUp({ limits: { appendRecordsMax: 4 } })
    await post(lines(...Array.from({ length: 10 }, (_, index) => orderLine(`o${index}`, now))))
    expect(appended.map(batch => batch.length)).toEqual([4, 4, 2])
  })

  test('the list of rejected lines is bounded and the rest counted', async () => {
    const { post } = await setUp({ limits: { rejectedListMax: 3 } })
    const { body } = await post(lines(orderLine('o1', now), ...Array(10).fill('x')))
    expect([body.rejected.length, body.rejectedCount]).toEqual([3, 10])
  })

  test('an oversized line is refused and the next one is kept', async () => {
    const { post } = await setUp()
    const big = orderLine('o1', now, 'x'.repeat(2 * 1024 * 1024))
    const { status, body } = await post(lines(big, orderLine('o2', now)))
    expect([status, body.accepted]).toEqual([200, 1])
    expect(body.rejected[0]).toMatchObject({ line: 1, code: 'LINE_TOO_LONG' })
  })

  test('`__proto__` in a line is refused and changes no prototype', async () => {
    const { post } = await setUp()
    const line = orderLine('o1', now)
    const evil = [
      line.replace('"value":{', '"value":{"__proto__":{"polluted":1},'),
      line.replace('{"topic"', '{"__proto__":{"polluted":1},"topic"'),
    ]
    const { status, body } = await post(lines(...evil))
    expect([status, body.rejected.length]).toEqual([400, 2])
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
  })

  test('another content type, a compressed body and no body are 415', async () => {
    const { post } = await setUp()
    const json = await post('{}', '/v1/events', { 'content-type': 'application/json' })
    expect([json.status, json.body.code]).toEqual([415, 'MEDIA_TYPE_REFUSED'])
    expect((await post('x', '/v1/events', {})).status).toBe(415)
    const gzip = await post('x', '/v1/events', { ...ndjson, 'content-encoding': 'gzip' })
    expect(gzip.status).toBe(415)
  })

  test('bad parameters are named', async () => {
    const { post } = await setUp()
    expect((await post('', '/v1/events?atomic=yes')).body.parameter).toBe('atomic')
    expect((await post('', '/v1/events?x=1')).body.parameter).toBe('x')
  })

  test('a body over the limit is 413, before it is read when its length is told', async () => {
    const { post, server, appended } = await setUp({ limits: { requestBytesMax: 1000 } })
    const told = await post('x'.repeat(1001))
    expect([told.status, told.body.code]).toEqual([413, 'BODY_TOO_LARGE'])
    expect(told.body.detail).toContain('1000')
    const address = await server.listen({ host: '127.0.0.1', port: 0 })
    const line = lines(orderLine('o1', now))
    const body = new ReadableStream({
      start(controller) {
        for (let index = 0; index < 10; index++) controller.enqueue(Buffer.from(line))
        controller.close()
      },
    })
    const init = { method: 'POST', headers: ndjson, body, duplex: 'half' }
    const response = await fetch(`${address}/v1/events`, init as RequestInit)
    expect(response.status).toBe(413)
    expect(appended.flat().length).toBeLessThan(10)
  })

  test('when the log refuses a later batch the answer says how many lines it has', async () => {
    let calls = 0
    const append = async () => {
      if (++calls === 2) throw new Error('disk /secret/path is full')
      return 'p'
    }
    const { post } = await setUp({ append, limits: { appendRecordsMax: 1 } })
    const { status, body } = await post(lines(orderLine('o1', now), orderLine('o2', now)))
    expect([status, body.code, body.accepted]).toEqual([503, 'EVENTS_CUT_OFF', 1])
    expect(JSON.stringify(body)).not.toContain('secret')
  })

  test('a client that goes away in the middle of a line leaves no half record', async () => {
    const { server, appended } = await setUp()
    const address = new URL(await server.listen({ host: '127.0.0.1', port: 0 }))
    const socket = connect(Number(address.port), '127.0.0.1')
    const line = lines(orderLine('o1', now))
    socket.write(
      'POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\n' +
        `Content-Length: 100000\r\n\r\n${line}${line.slice(0, -1)}`,
    )
    await new Promise(resolve => setTimeout(resolve, 50))
    socket.destroy()
    await new Promise(resolve => setTimeout(resolve, 50))
    expect(appended.flat().length).toBeLessThanOrEqual(1)
    expect((await server.inject({ url: '/livez' })).statusCode).toBe(200)
  })
})

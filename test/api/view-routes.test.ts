import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'
import type { FakeViews } from '../support/fake-views.ts'

let server: Server
let views: FakeViews

beforeAll(async () => {
  ;({ server, views } = await fakeServer())
  for (let minute = 0; minute < 150; minute++) {
    views.put('order-volume', volumeRow('eu', minute, minute), volumeRow('us', minute, 1, 'USD'))
  }
  const spendMinor = { EUR: 1250 }
  views.put('customer-profile', { customerId: 'c/1 ü', orders: 3, spendMinor })
})

async function get(url: string, headers: Record<string, string> = {}) {
  const response = await server.inject({ method: 'GET', url, headers })
  return { status: response.statusCode, headers: response.headers, body: response.json() }
}

async function badParameter(url: string): Promise<string> {
  const { status, headers, body } = await get(url)
  expect(headers['content-type']).toContain('application/problem+json')
  expect(status).toBe(400)
  expect(body.code).toBe('QUERY_INVALID')
  expect(body.detail).toContain(body.parameter)
  return body.parameter
}

const rows = '/v1/views/order-volume/rows'

describe('listing', () => {
  test('views are listed with kind, key and the schema of a whole row', async () => {
    const { body } = await get('/v1/views')
    expect(body.views.map((view: { name: string }) => view.name)).toEqual([
      'order-volume',
      'top-products',
      'customer-profile',
    ])
    const [volume, , profile] = body.views
    expect(volume.kind).toBe('window')
    expect(volume.key).toEqual(['region', 'currency'])
    expect(Object.keys(volume.schema.properties)).toEqual(
      'region currency windowStart windowEnd final orders items grossMinor'.split(' '),
    )
    expect(Object.keys(profile.schema.properties)).toEqual(['customerId', 'orders', 'spendMinor'])
  })

  test('a page has 100 rows unless asked, ordered by window and key', async () => {
    const { body, headers } = await get(rows)
    expect(body.rows).toHaveLength(100)
    expect(body.rows.slice(0, 3)).toEqual([
      volumeRow('eu', 0, 0),
      volumeRow('us', 0, 1, 'USD'),
      volumeRow('eu', 1, 1),
    ])
    expect(body.position).toBe(views.position())
    expect(headers['millrace-position']).toBe(body.position)
  })

  test('following `next` gives every row once, and ends with null', async () => {
    const seen: string[] = []
    let cursor = ''
    do {
      const { body } = await get(`${rows}?limit=7&region=eu${cursor}`)
      for (const row of body.rows) seen.push(`${row.region} ${row.orders}`)
      cursor = body.next === null ? '' : `&cursor=${encodeURIComponent(body.next)}`
    } while (cursor !== '')
    expect(seen).toEqual(Array.from({ length: 150 }, (_, minute) => `eu ${minute}`))
  })

  test('a cursor with other filters, or of our making, is refused', async () => {
    const { body } = await get(`${rows}?limit=7&region=eu`)
    const other = await get(`${rows}?limit=7&region=us&cursor=${body.next}`)
    expect([other.status, other.body.code]).toEqual([400, 'CURSOR_INVALID'])
    const made = await get(`${rows}?cursor=zzz`)
    expect([made.status, made.body.code]).toEqual([400, 'CURSOR_INVALID'])
  })

  test('from is inclusive, to exclusive, as epoch ms or ISO 8601', async () => {
    const count = async (query: string) =>
      (await get(`${rows}?region=eu&${query}`)).body.rows.length
    expect(await count('from=60000&to=180000')).toBe(2)
    expect(await count('from=1970-01-01T00:01:00Z&to=1970-01-01T00:03:00.000Z')).toBe(2)
    expect(await count('from=1970-01-01T02:01:00%2B02:00&to=1970-01-01T02:03:00+02:00')).toBe(2)
    expect(await count('from=1970-01-02')).toBe(0)
    expect(await count('from=0&to=9007199254740991')).toBe(100)
    expect(await count('from=60000&to=60000')).toBe(0)
  })

  test('prefix selects by the first key field', async () => {
    const { body } = await get(`${rows}?prefix=u&limit=1000`)
    expect(new Set(body.rows.map((row: { region: string }) => row.region))).toEqual(new Set(['us']))
  })

  test('one row of a table by its key, percent-decoded once', async () => {
    const url = `/v1/views/customer-profile/rows/${encodeURIComponent('c/1 ü')}`
    const { body, headers } = await get(url)
    expect(body.row).toEqual({ customerId: 'c/1 ü', orders: 3, spendMinor: { EUR: 1250 } })
    expect(headers['millrace-position']).toBe(body.position)
  })

  test('an absent row, an absent view and an absent path are 404 problems', async () => {
    const absent = await get('/v1/views/customer-profile/rows/nobody')
    expect([absent.status, absent.body.code]).toEqual([404, 'ROW_MISSING'])
    for (const name of ['nothing', '__proto__', 'constructor', '%00']) {
      const view = await get(`/v1/views/${name}/rows`)
      expect([view.status, view.body.code]).toEqual([404, 'VIEW_UNKNOWN'])
    }
    const path = await get('/v1/nothing')
    expect([path.status, path.body.code]).toEqual([404, 'ROUTE_UNKNOWN'])
  })

  test('a windowed view has no single rows', async () => {
    const { status, body } = await get('/v1/views/order-volume/rows/eu')
    expect([status, body.code]).toEqual([400, 'VIEW_NOT_TABLE'])
  })

  test('another method is 405 and says which are allowed', async () => {
    const response = await server.inject({ method: 'POST', url: rows, payload: { a: 1 } })
    expect([response.statusCode, response.headers.allow]).toEqual([405, 'GET, HEAD'])
    expect(response.json().code).toBe('METHOD_REFUSED')
  })

  test('a view whose task restores answers 503, never partial rows', async () => {
    views.notReady = 'its task restores'
    const { status, headers, body } = await get(rows)
    views.notReady = undefined
    expect([status, body.code]).toEqual([503, 'VIEW_NOT_READY'])
    expect(headers['retry-after']).toBe('1')
  })
})

describe('parameters', () => {
  test.each([
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['limit=-1', 'limit'],
    ['limit=NaN', 'limit'],
    ['limit=1e2', 'limit'],
    ['limit=', 'limit'],
    ['limit=10&limit=10', 'limit'],
    ['limit=%31%00', 'limit'],
    ['from=Infinity', 'from'],
    ['from=1e400', 'from'],
    ['from=-1', 'from'],
    ['from=yesterday', 'from'],
    ['from=2025-02-31', 'from'],
    ['from=2025-01-01T25:00:00Z', 'from'],
    ['from=99999999999999999999', 'from'],
    ['to=1.5', 'to'],
    ['from=2&to=1', 'from'],
    ['region[]=eu', 'region[]'],
    ['region=eu&region=us', 'region'],
    ['region=%ff', 'region'],
    ['region=%ED%A0%80', 'region'],
    ['region=%', 'region'],
    ['colour=red', 'colour'],
    ['__proto__=1', '__proto__'],
    ['asOf=0', 'asOf'],
    ['cursor=', 'cursor'],
    ['timeout=60001', 'timeout'],
    ['timeout=-1', 'timeout'],
  ])('%s is refused, naming %s', async (query, parameter) => {
    expect(await badParameter(`${rows}?${query}`)).toBe(parameter)
  })

  test('a table has no window range, an integer key takes integers only', async () => {
    expect(await badParameter('/v1/views/customer-profile/rows?from=0')).toBe('from')
    expect(await badParameter('/v1/views/top-products/rows?rank=01')).toBe('rank')
    expect(await badParameter('/v1/views/customer-profile/rows/x?limit=1')).toBe('limit')
    expect(await badParameter('/v1/views/customer-profile/rows/x?asOf=1')).toBe('asOf')
  })

  test('a broken percent-encoding in the path is a problem', async () => {
    const { status, body } = await get('/v1/views/customer-profile/rows/%zz')
    expect([status, body.code]).toEqual([400, 'REQUEST_MALFORMED'])
  })

  test('whatever is asked, the answer is rows or a problem that names the parameter', async () => {
    const name = fc.constantFrom('limit', 'from', 'to', 'cursor', 'asOf', 'timeout', 'region', 'x')
    const value = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('NaN', '1e999', '-0', '0x10', '١', '1,2', 'null', '\u2028', '9'.repeat(400)),
      fc.integer().map(String),
      fc.double().map(String),
    )
    const property = fc.asyncProperty(
      fc.array(fc.tuple(name, value), { maxLength: 3 }),
      async pairs => {
        const query = pairs.map(
          ([key, text]) => `${key}=${encodeURIComponent(text.toWellFormed())}`,
        )
        const { status, body } = await get(`${rows}?${query.join('&')}`)
        if (status === 200) {
          expect(body.rows.length).toBeLessThanOrEqual(1000)
          return
        }
        expect(status).toBe(400)
        if (body.code === 'CURSOR_INVALID') return
        expect(body.code).toBe('QUERY_INVALID')
        expect(pairs.map(([key]) => key)).toContain(body.parameter)
      },
    )
    await fc.assert(property, { seed: 20261104, numRuns: 300 })
  })

  test('raw bytes in a query never reach a view undecoded', async () => {
    const property = fc.asyncProperty(fc.string({ unit: 'binary-ascii' }), async text => {
      const url = `${rows}?${text.replace(/[\s#]/g, '')}`
      const { status, headers } = await get(url)
      expect([200, 400]).toContain(status)
      expect(headers['content-type']).toMatch(/json/)
    })
    await fc.assert(property, { seed: 20261105, numRuns: 300 })
  })
})

describe('consistency token', () => {
  test('a read waits until the view covers the token', async () => {
    const { server, views } = await fakeServer()
    const token = views.token(2)
    let answered = false
    const headers = { 'Millrace-Position': token }
    const reading = server.inject({ url: rows, headers }).then(response => {
      answered = true
      return response
    })
    views.put('order-volume', volumeRow('eu', 1, 1))
    await new Promise(resolve => setTimeout(resolve, 30))
    expect(answered).toBe(false)
    views.put('order-volume', volumeRow('eu', 1, 2))
    const response = await reading
    expect(response.json().rows).toEqual([volumeRow('eu', 1, 2)])
    expect(response.headers['millrace-position']).toBe(token)
  })

  test('past the timeout it answers 503 with both positions', async () => {
    const required = views.token(9999)
    const { status, headers, body } = await get(`${rows}?timeout=20`, {
      'Millrace-Position': required,
    })
    expect([status, body.code]).toEqual([503, 'POSITION_TIMEOUT'])
    expect([body.required, body.position]).toEqual([required, views.position()])
    expect(headers['millrace-position']).toBe(views.position())
  })

  test('a token that is none is 400, one of a lost log end 409', async () => {
    const none = await get(rows, { 'Millrace-Position': 'hello there' })
    expect([none.status, none.body.code]).toEqual([400, 'POSITION_INVALID'])
    const lost = await get(rows, { 'Millrace-Position': 'b-00000001' })
    expect([lost.status, lost.body.code]).toEqual([409, 'POSITION_LOST'])
  })

  test('closing the server ends waiting reads', async () => {
    const { server, views } = await fakeServer()
    const headers = { 'Millrace-Position': views.token(9) }
    const reading = server.inject({ url: rows, headers })
    await new Promise(resolve => setTimeout(resolve, 20))
    await server.close()
    expect((await reading).json().code).toBe('SHUTTING_DOWN')
  })
})

describe('a query over many rows', () => {
  const rarely = '/v1/views/order-volume/rows?region=nowhere'

  test('ends its page when it has looked for long enough, and says that there may be more', async () => {
    let nowMs = 1_000_000
    const made = await fakeServer({ clock: () => nowMs, limits: { queryMsMax: 500 } })
    made.views.reading = async () => {
      nowMs += 500
    }
    const response = await made.server.inject(rarely)
    expect(response.json()).toMatchObject({ rows: [], next: 'more' })
    made.views.reading = async () => {
      nowMs += 499
    }
    expect((await made.server.inject(rarely)).json().next).toBeNull()
    await made.server.close()
  })

  test('stops when its client leaves', async () => {
    const made = await fakeServer()
    let stopped: unknown
    const begun = Promise.withResolvers<void>()
    made.views.reading = signal =>
      new Promise((_, reject) => {
        begun.resolve()
        signal!.addEventListener('abort', () => {
          stopped = signal!.reason
          reject(stopped)
        })
      })
    const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
    const client = new AbortController()
    const asked = fetch(address + rarely, { signal: client.signal })
    await begun.promise
    client.abort()
    await expect(asked).rejects.toThrow()
    await expect.poll(() => stopped).toMatchObject({ code: 'REQUEST_ABORTED' })
    const { body } = await made.server.inject('/metrics')
    expect(body).toContain('\nview_queries_active 0\n')
    await made.server.close()
  })

  test('shares the server with so many others and no more', async () => {
    const made = await fakeServer({ limits: { queriesMax: 2 } })
    const go = Promise.withResolvers<void>()
    made.views.reading = () => go.promise
    const held = [made.server.inject(rarely), made.server.inject(rarely)]
    await expect
      .poll(async () => (await made.server.inject('/metrics')).body)
      .toContain('\nview_queries_active 2\n')
    const refused = await made.server.inject(rarely)
    expect([refused.statusCode, refused.json().code]).toEqual([503, 'OVERLOADED'])
    expect(refused.headers['retry-after']).toBeDefined()
    expect((await made.server.inject('/v1/views')).statusCode).toBe(200)
    go.resolve()
    expect((await Promise.all(held)).map(({ statusCode }) => statusCode)).toEqual([200, 200])
    expect((await made.server.inject(rarely)).statusCode).toBe(200)
    await made.server.close()
  })
})

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { assertBindable, noAuth, parseApiKeys, type Server } from '../../api/index.ts'
import { holdsPath } from '../../cli/dashboard.ts'
import { fakeServer } from '../support/fake-server.ts'

const servers: Server[] = []

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

async function setUp(options: Parameters<typeof fakeServer>[0] = {}) {
  const made = await fakeServer(options)
  servers.push(made.server)
  const get = (url: string, headers: Record<string, string> = {}) =>
    made.server.inject({ method: 'GET', url, headers })
  return { ...made, get }
}

/** Sends bytes, resolves with what comes back until the server closes. */
async function exchange(address: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(bytes)
  let text = ''
  socket.on('data', data => (text += data))
  await new Promise(resolve => socket.once('close', resolve))
  return text
}

describe('health', () => {
  test('livez answers, readyz follows the readiness it was given', async () => {
    let ready = false
    const readiness = () => ({ ready, reason: 'tasks restore', checks: { restored: 0.5 } })
    const { get } = await setUp({ readiness })
    expect((await get('/livez')).statusCode).toBe(200)
    const no = await get('/readyz')
    expect([no.statusCode, no.json().code, no.json().restored]).toEqual([503, 'NOT_READY', 0.5])
    expect(no.json().tasks).toHaveLength(1)
    ready = true
    expect((await get('/readyz')).json()).toMatchObject({ status: 'ready', restored: 0.5 })
  })

  test('metrics are OpenMetrics of the engine and the server', async () => {
    const { get, views } = await setUp()
    const labels = { task: 'a"b\\c\nd' }
    const dropped = { name: 'dropped_records_total', help: 'Dropped.', kind: 'counter', labels }
    views.metricSamples = [{ ...dropped, kind: 'counter', value: 3 }]
    await get('/v1/views')
    const response = await get('/metrics')
    expect(response.headers['content-type']).toContain('application/openmetrics-text')
    expect(response.body).toContain(
      '# TYPE dropped_records counter\n# HELP dropped_records Dropped.\n' +
        'dropped_records_total{task="a\\"b\\\\c\\nd"} 3\n',
    )
    expect(response.body).toContain(
      'http_server_requests_total{method="GET",route="/v1/views",status="200"} 1\n',
    )
    expect(response.body.endsWith('# EOF\n')).toBe(true)
  })

  test('the topology is what it was given', async () => {
    const { get } = await setUp({ topology: () => ({ nodes: ['a'] }) })
    expect((await get('/v1/topology')).json()).toEqual({ nodes: ['a'] })
  })

  test('an error of ours shows neither text nor stack', async () => {
    const topology = () => {
      throw new Error('secret /var/lib/path')
    }
    const { get } = await setUp({ topology })
    const response = await get('/v1/topology')
    expect([response.statusCode, response.json().code]).toEqual([500, 'INTERNAL'])
    expect(response.body).not.toMatch(/secret|at .*\.ts/)
    expect(response.json().instance).toMatch(/^urn:millrace:request:id-/)
  })
})

describe('credentials', () => {
  const keys = parseApiKeys('ann:reader:r-1,wil:writer:w:2, adm:admin:a-3')
  const auth = { keys, allowedOrigins: [] }
  const bearer = (secret: string) => ({ authorization: `Bearer ${secret}` })

  test('each role may do what it says and no more', async () => {
    const { server, get } = await setUp({ auth })
    const post = (secret: string) =>
      server.inject({
        method: 'POST',
        url: '/v1/events',
        headers: { ...bearer(secret), 'content-type': 'application/x-ndjson' },
        payload: '{}\n',
      })
    expect((await get('/v1/views')).statusCode).toBe(401)
    expect((await get('/v1/views')).headers['www-authenticate']).toContain('Bearer')
    expect((await get('/v1/views', bearer('r-2'))).statusCode).toBe(401)
    expect((await get('/v1/views', bearer('r-1'))).statusCode).toBe(200)
    expect((await get('/v1/views', { 'x-api-key': 'r-1' })).statusCode).toBe(200)
    expect((await get('/v1/stream/order-volume')).statusCode).toBe(401)
    expect((await post('r-1')).statusCode).toBe(403)
    expect((await post('w:2')).json().code).toBe('EVENTS_REJECTED')
    expect((await get('/v1/dead-letters', bearer('w:2'))).statusCode).toBe(403)
    expect((await get('/v1/dead-letters', bearer('a-3'))).statusCode).toBe(200)
    for (const path of ['/livez', '/readyz']) expect((await get(path)).statusCode).toBe(200)
    for (const path of ['/metrics', '/openapi.json', '/v1/topology']) {
      expect((await get(path)).statusCode).toBe(401)
    }
  })

  test('a view that exists and one that does not look alike without a key', async () => {
    const { get } = await setUp({ auth })
    const [there, not] = [await get('/v1/views/order-volume/rows'), await get('/v1/views/x/rows')]
    expect([there.statusCode, not.statusCode]).toEqual([401, 401])
    expect(there.json().detail).toBe(not.json().detail)
  })

  test('requests are limited by address, failed keys too; without credentials not', async () => {
    const limits = { requestsPerMinuteMax: 5 }
    const { get } = await setUp({ auth, limits })
    const statuses: number[] = []
    for (let index = 0; index < 7; index++) {
      statuses.push((await get('/v1/views', bearer('guess'))).statusCode)
    }
    expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429])
    const limited = await get('/v1/views')
    expect(limited.json().code).toBe('RATE_LIMITED')
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(0)
    const open = await setUp({ limits })
    for (let index = 0; index < 20; index++) {
      expect((await open.get('/v1/views')).statusCode).toBe(200)
    }
  })

  test('API_KEYS is checked when it is read', () => {
    expect(keys.map(({ name, role }) => `${name} ${role}`)).toEqual([
      'ann reader',
      'wil writer',
      'adm admin',
    ])
    for (const text of ['a', 'a:reader:', ':reader:s', 'a:boss:s', 'a:reader:s,a:admin:t']) {
      expect(() => parseApiKeys(text)).toThrow('API_KEYS')
    }
    expect(JSON.stringify(keys)).not.toContain('r-1')
  })

  test('off loopback credentials are demanded', () => {
    for (const host of [
      '127.0.0.1',
      '127.8.9.1',
      'localhost',
      '::1',
      '[::1]',
      '::ffff:127.0.0.1',
    ]) {
      expect(() => assertBindable(host, noAuth)).not.toThrow()
    }
    for (const host of ['0.0.0.0', '::', '', '10.0.0.1', 'example.org', '127.0.0.1.evil.org']) {
      expect(() => assertBindable(host, noAuth)).toThrow('API_KEYS')
      expect(() => assertBindable(host, auth)).not.toThrow()
    }
  })
})

describe('browsers', () => {
  test('pages get a strict policy and no other origin may read', async () => {
    const { get } = await setUp()
    const { headers } = await get('/v1/views', { origin: 'https://evil.example' })
    expect(headers['content-security-policy']).not.toContain('unsafe')
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'")
    expect(headers['x-content-type-options']).toBe('nosniff')
    expect(headers['access-control-allow-origin']).toBeUndefined()
  })

  test('a foreign host name is refused without credentials (DNS rebinding)', async () => {
    const { get } = await setUp()
    expect((await get('/v1/views', { host: 'evil.example:80' })).json().code).toBe('HOST_REFUSED')
    for (const host of ['localhost:8080', '127.0.0.1', '[::1]:80']) {
      expect((await get('/v1/views', { host })).statusCode).toBe(200)
    }
  })

  test('a page of another site can have nothing changed, not even without a body', async () => {
    const { server } = await setUp()
    const changing = server.routes.filter(({ method }) => !/^(GET|HEAD|OPTIONS)$/.test(method))
    expect(changing.length).toBeGreaterThan(3)
    for (const { method, url } of changing) {
      const asked = (headers: Record<string, string>) =>
        server.inject({ method: method as 'POST', url: url.replace(/:\w+/g, '1'), headers })
      const foreign = await asked({ origin: 'https://evil.example' })
      expect([foreign.statusCode, foreign.json().code], url).toEqual([403, 'ORIGIN_REFUSED'])
      const own = await asked({ host: 'localhost:8080', origin: 'http://localhost:8080' })
      for (const { body } of [await asked({}), own]) expect(body).not.toContain('ORIGIN_REFUSED')
    }
  })

  test('the dashboard is served from its folder and from nowhere else', async () => {
    const root = mkdtempSync(join(tmpdir(), 'dashboard-'))
    mkdirSync(join(root, 'dist/assets'), { recursive: true })
    writeFileSync(join(root, 'secret.txt'), 'secret')
    writeFileSync(join(root, 'dist/.hidden'), 'secret')
    writeFileSync(join(root, 'dist/index.html'), '<title>x</title>')
    writeFileSync(join(root, 'dist/assets/a.js'), '1')
    symlinkSync('../secret.txt', join(root, 'dist/link.txt'))
    symlinkSync('..', join(root, 'dist/up'))
    symlinkSync('a.js', join(root, 'dist/assets/b.js'))
    const dashboardRoot = join(root, 'dist')
    const dashboardHolds = holdsPath(dashboardRoot)
    const { server, get } = await setUp({ dashboardRoot, dashboardHolds })
    const page = await get('/')
    expect(page.headers['content-type']).toContain('text/html')
    expect(page.headers['cache-control']).toBe('no-cache')
    expect((await get('/assets/a.js')).headers['cache-control']).toContain('immutable')
    expect((await get('/assets/b.js')).statusCode).toBe(200)
    const address = await server.listen({ host: '127.0.0.1', port: 0 })
    for (const path of [
      '/../secret.txt',
      '/%2e%2e/secret.txt',
      '/..%2fsecret.txt',
      '/assets/..%2f..%2fsecret.txt',
      '/..\\secret.txt',
      '//secret.txt',
      '/.hidden',
      '/link.txt',
      '/up/secret.txt',
      '/assets/',
      '/%00',
    ]) {
      const answer = await exchange(
        address,
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
      )
      expect(answer, path).toMatch(/^HTTP\/1.1 (400|403|404) /)
      expect(answer, path).not.toContain('secret"')
      expect(answer, path).toContain('application/problem+json')
    }
    rmSync(root, { recursive: true })
  })
})

describe('odd bytes', () => {
  test('no HTTP, too large headers and a too long URL are problems', async () => {
    const { server } = await setUp()
    const address = await server.listen({ host: '127.0.0.1', port: 0 })
    expect(await exchange(address, 'hello\r\n\r\n')).toMatch(/^HTTP\/1.1 400 .*REQUEST_MALFORMED/s)
    const long = `GET /${'x'.repeat(1_000_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`
    expect(await exchange(address, long)).toMatch(/^HTTP\/1.1 431 .*HEADERS_TOO_LARGE/s)
  })

  test('closing does not wait for connections that ask nothing or never end', async () => {
    const { server } = await setUp({ limits: { drainMs: 100 } })
    const { port } = new URL(await server.listen({ host: '127.0.0.1', port: 0 }))
    const sockets = [
      '',
      'GET / HTTP/1.1\r\nHost: local',
      'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 10\r\n\r\n{',
    ].map(bytes => {
      const socket = connect(Number(port), '127.0.0.1')
      socket.on('error', () => undefined)
      socket.write(bytes)
      return new Promise(resolve => socket.once('close', resolve))
    })
    await new Promise(resolve => setTimeout(resolve, 50))
    const started = Date.now()
    await server.close()
    await Promise.all(sockets)
    expect(Date.now() - started).toBeLessThan(20_000)
  })
})

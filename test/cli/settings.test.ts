import { expect, test } from 'vitest'
import { durationMs } from '../../cli/durations.ts'
import { readSettings } from '../../cli/settings.ts'

const message = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('nothing was refused')
}

test('without flags and variables the settings have their defaults', () => {
  const settings = readSettings(
    ['port', 'host', 'dataDir', 'viewRetention', 'idleAfter', 'apiKeys'],
    {},
    {},
  )
  expect(settings).toEqual({
    port: 8080,
    host: '127.0.0.1',
    dataDir: './data',
    viewRetention: 30 * 86_400_000,
    idleAfter: 30_000,
    apiKeys: [],
  })
})

test('a flag wins over the variable, and an empty variable is as good as none', () => {
  expect(readSettings(['port'], { port: '1' }, { PORT: '2' })).toEqual({ port: 1 })
  expect(readSettings(['port', 'rate'], {}, { PORT: '', RATE: '2.5' })).toEqual({
    port: 8080,
    rate: 2.5,
  })
})

test('all bad settings are told at once, by the name they were given under', () => {
  const told = message(() =>
    readSettings(
      ['port', 'viewRetention', 'rate', 'allowedOrigins', 'seed'],
      { port: '65536', rate: '-1' },
      { VIEW_RETENTION: 'soon', ALLOWED_ORIGINS: 'https://a.example/page', SEED: '7' },
    ),
  )
  expect(told.split('\n').map(line => line.trim().split(':')[0])).toEqual([
    'These settings cannot be used',
    '--port',
    'VIEW_RETENTION',
    '--rate',
    'ALLOWED_ORIGINS',
  ])
  expect(told).toContain('"65536"')
})

test('reasons of dead letters are named, and no others', () => {
  const of = (text: string) => readSettings(['deadLetters'], {}, { DEAD_LETTERS: text }).deadLetters
  expect(of('late, null-key')).toEqual(['late', 'null-key'])
  expect(of('')).toEqual([])
  expect(message(() => of('late,lost'))).toMatch(/some of late, null-key, .*got "late,lost"/)
})

test('secrets are not repeated in the message', () => {
  const told = message(() => readSettings(['apiKeys'], {}, { API_KEYS: 'ana:owner:hunter2' }))
  expect(told).toContain('API_KEYS')
  expect(told).not.toContain('hunter2')
})

test('brokers are a list of host:port, and a log-in names its mechanism', () => {
  const names = ['millraceBrokers', 'kafkaSasl', 'kafkaTls'] as const
  const given = { MILLRACE_BROKERS: 'a:9092, [::1]:9093', KAFKA_SASL: 'plain', KAFKA_TLS: 'on' }
  expect(readSettings(names, {}, given)).toEqual({
    millraceBrokers: ['a:9092', '[::1]:9093'],
    kafkaSasl: 'PLAIN',
    kafkaTls: true,
  })
  const told = message(() => {
    readSettings(names, {}, { MILLRACE_BROKERS: 'kafka', KAFKA_SASL: 'MD5', KAFKA_TLS: 'yes' })
  })
  for (const name of Object.keys(given)) expect(told).toContain(name)
})

test('a registry has a URL, and rules for all subjects or for some', () => {
  const names = ['registryUrl', 'schemaCompatibility'] as const
  const read = (REGISTRY_URL: string, SCHEMA_COMPATIBILITY: string) => {
    const given = { REGISTRY_URL, SCHEMA_COMPATIBILITY }
    const { registryUrl, schemaCompatibility } = readSettings(names, {}, given)
    const types = ['OrderCreated', 'OrderCancelled', 'StockReceived'] as const
    return [registryUrl, ...types.map(schemaCompatibility)]
  }
  const byDefault = [undefined, 'BACKWARD', 'BACKWARD', 'BACKWARD']
  expect(read('', '')).toEqual(byDefault)
  expect(read('http://u:p@r/x', 'full_transitive')).toEqual([
    'http://u:p@r/x',
    ...Array(3).fill('FULL_TRANSITIVE'),
  ])
  const some = 'FORWARD, OrderCreated:FULL, millrace.orders.OrderCancelled:NONE'
  expect(read('', some)).toEqual([undefined, 'FULL', 'NONE', 'FORWARD'])
  for (const bad of ['BACK', 'OrderEaten:FULL', 'OrderCreated:', 'FULL,']) {
    expect(message(() => read('ftp://r', bad)).split('\n')).toHaveLength(3)
  }
})

test('services are all, none, or some by name', () => {
  const read = (SERVICES: string) => readSettings(['services'], {}, { SERVICES }).services
  expect(['', 'on', 'off', 'order, payment,order'].map(read)).toEqual([
    undefined,
    'on',
    'off',
    ['order', 'payment'],
  ])
  expect(message(() => read('order;payment'))).toContain('SERVICES: expected on, off, or names')
})

test.each([
  ['30d', 2_592_000_000],
  ['12h', 43_200_000],
  ['90m', 5_400_000],
  ['30s', 30_000],
  ['500ms', 500],
  ['250', 250],
  ['never', Number.POSITIVE_INFINITY],
])('the duration %s is %d ms', (text, ms) => {
  expect(durationMs(text, 'never')).toBe(ms)
})

test.each(['', '0', '0s', '-1s', '1.5h', '1 h', 'h', '1w', 'forever', '99999999999999999d'])(
  'the duration %j is refused',
  text => {
    expect(() => durationMs(text, 'never')).toThrow(/such as 30d/)
  },
)

test('a duration that must end is refused without one', () => {
  for (const value of ['', 'never']) expect(() => durationMs(value)).toThrow(/or 500ms$/)
  const given = { SETTLE: 'never', PATIENCE: 'never' }
  expect(() => readSettings(['settle', 'patience'], {}, given)).toThrow(/or 500ms, got "never"/)
})

test('keys of tokens come over TLS or from this machine', () => {
  const read = (JWKS_URL: string) => readSettings(['jwksUrl'], {}, { JWKS_URL }).jwksUrl
  const good = ['https://login.example/keys', 'http://127.0.0.1:9000/keys', 'http://[::1]/', '']
  for (const url of good) expect(read(url)).toBe(url || undefined)
  for (const url of [
    'http://login.example/keys',
    'login.example',
    'file:///keys',
    'https://u:p@h/',
  ]) {
    expect(message(() => read(url))).toContain('JWKS_URL')
    expect(message(() => read(url))).not.toContain('u:p')
  }
})

test('the claim with the roles is a name, or names joined by dots', () => {
  const read = (JWT_ROLES_CLAIM: string) =>
    readSettings(['jwtRolesClaim'], {}, { JWT_ROLES_CLAIM }).jwtRolesClaim
  expect([read(''), read('scope'), read('realm_access.roles')]).toEqual([
    'roles',
    'scope',
    'realm_access.roles',
  ])
  for (const claim of ['.', 'a.', '.a', 'a..b']) {
    expect(message(() => read(claim))).toContain('JWT_ROLES_CLAIM')
  }
})

test('where the others can ask is host and port, bare or as an http URL', () => {
  const read = (advertised: string) => readSettings(['advertised'], { advertised }, {}).advertised
  expect(read('')).toBe(undefined)
  for (const text of ['node-1:8080', 'http://node-1:8080', 'http://node-1:8080/']) {
    expect(read(text)).toEqual({ host: 'node-1', port: 8080 })
  }
  expect(read('[::1]:80')).toEqual({ host: '::1', port: 80 })
  expect(read('http://node-1:80')).toEqual({ host: 'node-1', port: 80 })
  const bad = ['node-1', ':8080', 'node-1:0', 'node-1:99999', 'https://node-1:8080', 'a b:1']
  for (const text of [...bad, 'node-1:80/x', 'http://u:p@node-1:80', 'http://node-1:80?x']) {
    expect(message(() => read(text))).toContain('--advertised: expected host:port')
  }
})

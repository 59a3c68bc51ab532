import { SignJWT } from 'jose'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  createTokenVerifier,
  KeySet,
  type KeySetOptions,
  parseApiKeys,
  type Server,
  tokenAlgorithms,
} from '../../api/index.ts'
import { fakeServer } from '../support/fake-server.ts'
import {
  audience,
  IdentityProvider,
  issuer,
  type SigningKey,
  sign,
  signingKey,
} from '../support/identity-provider.ts'

const closing: (() => Promise<void>)[] = []
let first: SigningKey
let second: SigningKey

beforeAll(async () => {
  first = await signingKey('first')
  second = await signingKey('second')
})

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const timers: KeySetOptions['schedule'] = (run, delayMs) => {
  const timer = setTimeout(run, delayMs)
  return () => clearTimeout(timer)
}

/** A server whose tokens come from a provider of its own; the clock is in the test's hand. */
async function setUp(keys: readonly SigningKey[] = [first], options: Partial<KeySetOptions> = {}) {
  const provider = new IdentityProvider(keys)
  const url = await provider.listen()
  closing.push(() => provider.close())
  const time = { nowMs: Date.now() }
  const clock = () => time.nowMs
  const errors: unknown[] = []
  const keySet = new KeySet({
    fetch: async signal => {
      const response = await fetch(url, { signal })
      if (!response.ok) throw new Error(`status ${response.status}`)
      return response.text()
    },
    clock,
    schedule: timers,
    onError: error => errors.push(error),
    ...options,
  })
  const tokens = createTokenVerifier({ keySet, clock, issuer, audience })
  const auth = { keys: parseApiKeys('wil:writer:w-1'), tokens, allowedOrigins: [] }
  const { server } = await fakeServer({ auth, limits: { requestsPerMinuteMax: 10_000 } })
  closing.push(() => server.close())
  const get = (token: string, path = '/v1/views') => ask(server, token, path)
  return { provider, time, keySet, server, get, errors }
}

async function ask(server: Server, token: string, url: string) {
  const headers = { authorization: `Bearer ${token}` }
  const answer = await server.inject({ method: 'GET', url, headers })
  return [answer.statusCode, answer.statusCode === 200 ? 'OK' : answer.json().code]
}

const code = async (answer: Promise<unknown[]>) => (await answer).join(' ')

describe('a token', () => {
  test.each(tokenAlgorithms)('signed with %s is accepted', async alg => {
    const key = await signingKey('k', alg)
    const { get } = await setUp([key])
    expect(await get(await sign(key))).toEqual([200, 'OK'])
  })

  test('has the highest role that its claim names, and others mean nothing', async () => {
    const { get } = await setUp()
    const statuses = async (roles: unknown) => {
      const token = await sign(first, { roles })
      const paths = ['/v1/views', '/v1/dead-letters']
      return (await Promise.all(paths.map(path => get(token, path)))).map(([status]) => status)
    }
    expect(await statuses(['reader'])).toEqual([200, 403])
    expect(await statuses(['reader', 'admin', 'other'])).toEqual([200, 200])
    expect(await statuses('openid admin')).toEqual([200, 200])
    for (const none of [undefined, [], 'Admin', { admin: true }, 7, null, ['__proto__']]) {
      expect(await statuses(none)).toEqual([403, 403])
    }
  })

  test('keeps its place beside API keys', async () => {
    const { get } = await setUp()
    expect(await get('w-1')).toEqual([200, 'OK'])
    expect(await get('w-2')).toEqual([401, 'UNAUTHENTICATED'])
    expect(await get(await sign(first))).toEqual([200, 'OK'])
  })

  test('may be of a provider whose clock is half a minute ahead, and ends when it ends', async () => {
    const { get, time } = await setUp()
    const nowMs = Math.floor(Date.now() / 1000) * 1000
    const now = nowMs / 1000
    const token = await sign(first, { nbf: now, exp: now + 60 })
    const at = async (seconds: number) => {
      time.nowMs = nowMs + seconds * 1000
      return code(get(token))
    }
    expect(await at(-31)).toBe('401 TOKEN_INVALID')
    expect(await at(-30)).toBe('200 OK')
    expect(await at(59)).toBe('200 OK')
    expect(await at(60)).toBe('401 TOKEN_EXPIRED')
    expect(await at(120)).toBe('401 TOKEN_EXPIRED')
  })
})

describe('what is refused', () => {
  const now = () => Math.floor(Date.now() / 1000)
  const unsigned = (header: object, claims: object) =>
    `${[header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')}.`
  const claims = () => ({ iss: issuer, aud: audience, sub: 'a', roles: 'admin', exp: now() + 60 })
  const secret = (key: SigningKey) => new TextEncoder().encode(JSON.stringify(key.jwk))

  const cases: [string, string, () => Promise<string>][] = [
    ['an expired one', 'TOKEN_EXPIRED', () => sign(first, { exp: now() - 60 })],
    ['one without an end', 'TOKEN_INVALID', () => sign(first, { exp: undefined })],
    ['one of the future', 'TOKEN_INVALID', () => sign(first, { nbf: now() + 60 })],
    ['another audience', 'TOKEN_INVALID', () => sign(first, { aud: 'billing' })],
    ['no audience', 'TOKEN_INVALID', () => sign(first, { aud: undefined })],
    ['another issuer', 'TOKEN_INVALID', () => sign(first, { iss: 'https://evil.example' })],
    ['nobody', 'TOKEN_INVALID', () => sign(first, { sub: undefined })],
    ['an unknown key', 'TOKEN_INVALID', () => sign(second)],
    ['another key under a known id', 'TOKEN_INVALID', () => sign({ ...second, kid: 'first' })],
    ['no algorithm', 'TOKEN_INVALID', async () => unsigned({ alg: 'none' }, claims())],
    [
      'an algorithm that is not pinned',
      'TOKEN_INVALID',
      async () => sign({ ...(await signingKey('first', 'ES384')), kid: 'first' }),
    ],
    [
      'the public key as a shared secret',
      'TOKEN_INVALID',
      () =>
        new SignJWT(claims())
          .setProtectedHeader({ alg: 'HS256', kid: 'first' })
          .sign(secret(first)),
    ],
    ['one over 8 KiB', 'TOKEN_INVALID', () => sign(first, { junk: 'x'.repeat(8192) })],
    ['no token at all', 'UNAUTHENTICATED', async () => 'a.b'],
    ['dots alone', 'TOKEN_INVALID', async () => 'a.b.c'],
  ]

  test.each(cases)('%s: %s', async (_, expected, make) => {
    const { get } = await setUp()
    expect(await get(await make())).toEqual([401, expected])
  })

  test('a changed claim or signature, wherever it is changed', async () => {
    const { get } = await setUp()
    const token = await sign(first, { roles: ['reader'] })
    const [head = '', body = '', signature = ''] = token.split('.')
    const raised = Buffer.from(body, 'base64url').toString().replace('reader', 'admin!')
    const forged = [head, Buffer.from(raised).toString('base64url'), signature].join('.')
    expect(await code(get(forged, '/v1/dead-letters'))).toBe('401 TOKEN_INVALID')
    for (let at = 0; at < signature.length - 2; at += 7) {
      const other = signature[at] === 'A' ? 'B' : 'A'
      const bent = signature.slice(0, at) + other + signature.slice(at + 1)
      expect(await code(get(`${head}.${body}.${bent}`))).toBe('401 TOKEN_INVALID')
    }
    expect(await code(get(token))).toBe('200 OK')
  })

  test('without a genuine token nobody learns why, nor what exists', async () => {
    const { server } = await setUp()
    const answers = new Set<string>()
    const wrong = [await sign(second), `${await sign(first)}A`, unsigned({ alg: 'none' }, claims())]
    for (const token of wrong) {
      for (const url of ['/v1/views/order-volume/rows', '/v1/views/nothing/rows', '/v1/topology']) {
        const headers = { authorization: `Bearer ${token}` }
        const answer = await server.inject({ url, headers })
        expect(answer.headers['content-type']).toContain('application/problem+json')
        expect(answer.headers['www-authenticate']).toContain('error="invalid_token"')
        const { instance: _, ...problem } = answer.json()
        answers.add(JSON.stringify(problem))
      }
    }
    expect([...answers]).toHaveLength(1)
  })
})

describe('the key set', () => {
  test('is fetched once, however many ask', async () => {
    const { provider, get } = await setUp()
    const token = await sign(first)
    await Promise.all(Array.from({ length: 20 }, () => get(token)))
    expect(provider.asked).toBe(1)
  })

  test('is fetched anew for a new key, and not more often than the cool-down allows', async () => {
    const { provider, time, get } = await setUp()
    expect(await code(get(await sign(first)))).toBe('200 OK')
    provider.keys = [second, first]
    const rotated = await sign(second)
    expect(await code(get(rotated))).toBe('401 TOKEN_INVALID')
    expect(provider.asked).toBe(1)
    time.nowMs += 30_000
    expect(await code(get(rotated))).toBe('200 OK')
    expect(provider.asked).toBe(2)
    const strange = await signingKey('strange')
    for (let index = 0; index < 20; index++) {
      expect(await code(get(await sign(strange)))).toBe('401 TOKEN_INVALID')
    }
    expect(provider.asked).toBe(2)
  })

  test('forgets a key that was withdrawn once it is fetched again', async () => {
    const { provider, time, keySet, get } = await setUp([first, second])
    const token = await sign(first)
    expect(await code(get(token))).toBe('200 OK')
    const generation = keySet.generation()
    provider.keys = [second]
    time.nowMs += 600_000
    // This one still finds the old set, which is fetched again beside it.
    expect(await code(get(token))).toBe('200 OK')
    await expect.poll(() => keySet.generation()).toBe(generation + 1)
    expect(await code(get(token))).toBe('401 TOKEN_INVALID')
  })

  test('that cannot be had is 503, and tried again after a while', async () => {
    const { provider, time, get, errors } = await setUp()
    provider.down = true
    const token = await sign(first)
    expect(await code(get(token))).toBe('503 KEYS_UNAVAILABLE')
    provider.down = false
    expect(await code(get(token))).toBe('503 KEYS_UNAVAILABLE')
    expect(errors).toHaveLength(1)
    time.nowMs += 5_000
    expect(await code(get(token))).toBe('200 OK')
  })

  test('goes on being used while the provider is down, though not for ever', async () => {
    const { provider, time, get } = await setUp()
    const token = await sign(first, { exp: Math.floor(Date.now() / 1000) + 86_400 })
    expect(await code(get(token))).toBe('200 OK')
    provider.down = true
    time.nowMs += 3_599_000
    expect(await code(get(token))).toBe('200 OK')
    time.nowMs += 6_000
    expect(await code(get(token))).toBe('503 KEYS_UNAVAILABLE')
    // A key that it does not know may be in the set that it cannot have.
    time.nowMs -= 1_000_000
    expect(await code(get(await sign(second)))).toBe('503 KEYS_UNAVAILABLE')
  })

  test('that is no key set, or a huge one, or never comes, is as good as none', async () => {
    for (const text of ['', '{}', '{"keys":[1]}', '<html>', 'x'.repeat(2_000_000)]) {
      const { get } = await setUp([first], { fetch: async () => text })
      expect(await code(get(await sign(first)))).toBe('503 KEYS_UNAVAILABLE')
    }
    const never = (signal: AbortSignal) =>
      new Promise<string>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    const { get, errors } = await setUp([first], { fetch: never, times: { timeoutMs: 20 } })
    expect(await code(get(await sign(first)))).toBe('503 KEYS_UNAVAILABLE')
    expect(String(errors[0])).toContain('no answer within 20 ms')
  })
})

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  audience,
  IdentityProvider,
  issuer,
  type SigningKey,
  sign,
  signingKey,
} from '../support/identity-provider.ts'
import { LiveSocket } from '../support/live-socket.ts'
import { runProcess } from '../support/processes.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

let service: ServiceProcess
let provider: IdentityProvider
let key: SigningKey
let folder: Awaited<ReturnType<typeof scratchFolder>>
const secrets: string[] = ['wil-secret', 'adm-secret']

beforeAll(async () => {
  key = await signingKey('first')
  provider = new IdentityProvider([key])
  folder = await scratchFolder()
  service = await ServiceProcess.start(folder.path, ['--no-demo'], {
    HOST: '0.0.0.0',
    API_KEYS: 'wil:writer:wil-secret,adm:admin:adm-secret',
    JWKS_URL: await provider.listen(),
    JWT_ISSUER: issuer,
    JWT_AUDIENCE: audience,
    LOG_LEVEL: 'trace',
  })
})

afterAll(async () => {
  await service?.stop()
  await provider?.close()
  await folder?.remove()
})

async function token(claims: Parameters<typeof sign>[1] = {}): Promise<string> {
  const made = await sign(key, claims)
  secrets.push(made)
  return made
}

async function ask(path: string, secret?: string): Promise<[number, string]> {
  const headers = new Headers()
  if (secret !== undefined) headers.set('authorization', `Bearer ${secret}`)
  const response = await fetch(address() + path, { headers })
  return [response.status, await response.text()]
}

const address = () => service.url.replace('0.0.0.0', '127.0.0.1')
const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds

describe('a service that others can reach', () => {
  test('knows keys and tokens, and refuses all else with a problem', async () => {
    expect((await ask('/livez'))[0]).toBe(200)
    const [status, body] = await ask('/v1/views')
    expect([status, JSON.parse(body).code]).toEqual([401, 'UNAUTHENTICATED'])
    expect((await ask('/v1/views', await token()))[0]).toBe(200)
    expect((await ask('/v1/views', 'wil-secret'))[0]).toBe(200)
    expect((await ask('/v1/dead-letters', await token()))[0]).toBe(403)
    expect((await ask('/v1/dead-letters', await token({ roles: ['admin'] })))[0]).toBe(200)
    const expired = await token({ exp: inSeconds(-5) })
    expect(JSON.parse((await ask('/v1/views', expired))[1]).code).toBe('TOKEN_EXPIRED')
    const other = await token({ aud: 'billing' })
    expect(JSON.parse((await ask('/v1/views', other))[1]).code).toBe('TOKEN_INVALID')
  })

  test('closes a live socket with 1008 when its token ends', async () => {
    const live = new LiveSocket(address(), {
      headers: { authorization: `Bearer ${await token({ exp: inSeconds(12) })}` },
    })
    await new Promise(resolve => live.socket.once('open', resolve))
    live.send({ type: 'connection_init' })
    await live.until(() => live.types().includes('connection_ack'))
    live.send({ type: 'subscribe', id: 's', view: 'revenue' })
    await live.until(() => live.types().includes('up-to-date'))
    await live.until(() => live.closed !== undefined, 60_000)
    expect(live.closed?.code).toBe(1008)
  })

  test('writes no secret to logs, problems, metrics, health or topology', async () => {
    const wrong = await sign(await signingKey('other'))
    const shown = [
      (await ask('/v1/views', `${wrong}`))[1],
      (await ask(`/v1/views?timeout=${secrets[0]}`, 'adm-secret'))[1],
    ]
    for (const path of ['/metrics', '/readyz', '/livez', '/v1/topology', '/openapi.json']) {
      shown.push((await ask(path, 'adm-secret'))[1])
    }
    const live = new LiveSocket(address())
    await new Promise(resolve => live.socket.once('open', resolve))
    live.send({ type: 'connection_init', payload: { apiKey: wrong } })
    expect(await live.closing()).toBe(4403)
    shown.push(live.closed!.reason, service.stdout, service.stderr)
    expect(shown.join('').length).toBeGreaterThan(10_000)
    for (const secret of [...secrets, wrong]) {
      const part = secret.slice(-40)
      for (const text of shown) expect(text.includes(part)).toBe(false)
    }
  })
})

test('without keys and tokens it does not listen where others can reach it', async () => {
  const scratch = await scratchFolder()
  const env = { HOST: '0.0.0.0', PORT: '0', DATA_DIR: scratch.path }
  const ended = await runProcess('node', ['cli/main.ts', 'start'], { timeoutMs: 30_000, env })
  expect(ended.code).not.toBe(0)
  expect(ended.output).toMatch(/API_KEYS .* or JWKS_URL/)
  await scratch.remove()
})

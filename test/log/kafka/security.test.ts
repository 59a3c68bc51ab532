/** TLS and SASL against a broker that demands them, with keys made here by the JDK's keytool. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { KafkaLogOptions } from '../../../log/kafka/index.ts'
import { append, codeOf, readAll } from '../../conformance/log.ts'
import { type KafkaUnderTest, startKafka, steady } from '../../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../../support/kafka/shared.ts'
import { openLog } from './environment.ts'

const password = 'of-this-test'
const REAUTHENTICATION_MS = 2500

/** A key for 127.0.0.1 and its certificate, which nobody else trusts. */
function makeKey(folder: string, name: string) {
  const store = join(folder, `${name}.p12`)
  const keytool = (...args: readonly string[]) =>
    execFileSync('keytool', [...args, '-keystore', store, '-storepass', password, '-alias', name])
  const names = ['-dname', `CN=${name}`, '-ext', 'san=ip:127.0.0.1,dns:localhost']
  keytool('-genkeypair', '-keyalg', 'EC', '-storetype', 'PKCS12', '-validity', '2', ...names)
  return { store, certificate: keytool('-exportcert', '-rfc').toString() }
}

const jaas = (module: string, options: string) =>
  `org.apache.kafka.common.security.${module} required ${options};`

/** A token as the broker's unsecured validator takes it: unsigned. */
function bearerToken(subject: string): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const nowS = Math.floor(Date.now() / 1000)
  return `${part({ alg: 'none' })}.${part({ sub: subject, iat: nowS, exp: nowS + 3600 })}.`
}

const missing = kafkaIsMissing !== undefined

describe.skipIf(missing)('a broker that demands credentials', () => {
  let kafka: KafkaUnderTest
  let ca: string
  let foreign: string
  const folder = missing ? '' : mkdtempSync(join(tmpdir(), 'millrace-keys-'))

  beforeAll(async () => {
    const { store, certificate } = makeKey(folder, 'broker')
    ca = certificate
    foreign = makeKey(folder, 'somebody-else').certificate
    const mechanisms = 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER'
    const safe = 'listener.name.safe'
    kafka = await startKafka({
      listeners: { TLS: 'SSL', SAFE: 'SASL_SSL' },
      scram: [
        'SCRAM-SHA-256=[name=alice,password=wonder]',
        'SCRAM-SHA-512=[name=bob,password=builder]',
      ],
      config: {
        ...steady,
        'ssl.keystore.type': 'PKCS12',
        'ssl.keystore.location': store,
        'ssl.keystore.password': password,
        'sasl.enabled.mechanisms': mechanisms,
        [`${safe}.plain.sasl.jaas.config`]: jaas('plain.PlainLoginModule', 'user_carol="secret"'),
        [`${safe}.scram-sha-256.sasl.jaas.config`]: jaas('scram.ScramLoginModule', ''),
        [`${safe}.scram-sha-512.sasl.jaas.config`]: jaas('scram.ScramLoginModule', ''),
        [`${safe}.oauthbearer.sasl.jaas.config`]: jaas(
          'oauthbearer.OAuthBearerLoginModule',
          'unsecuredLoginStringClaim_sub="broker"',
        ),
        [`${safe}.scram-sha-512.connections.max.reauth.ms`]: REAUTHENTICATION_MS,
      },
    })
  }, START_MS_MAX)
  afterAll(async () => {
    await kafka?.destroy()
    if (folder !== '') rmSync(folder, { recursive: true, force: true })
  })

  const roundTrip = async (listener: string, options: Partial<KafkaLogOptions>, name: string) => {
    const log = await openLog(kafka.address(listener), options)
    try {
      await log.createTopic(name, 1)
      await append(log, { topic: name, partition: 0 }, 'a=1')
      return await readAll(log, { topic: name, partition: 0 })
    } finally {
      await log.close()
    }
  }

  test('TLS: the certificate is checked, and everything goes over it', async () => {
    expect(await roundTrip('TLS', { tls: { ca } }, 'tls')).toEqual(['0 a=1'])
  })

  const accounts: readonly (readonly [string, KafkaLogOptions['sasl']])[] = [
    ['PLAIN', { mechanism: 'PLAIN', username: 'carol', password: 'secret' }],
    ['SCRAM-SHA-256', { mechanism: 'SCRAM-SHA-256', username: 'alice', password: 'wonder' }],
    ['SCRAM-SHA-512', { mechanism: 'SCRAM-SHA-512', username: 'bob', password: 'builder' }],
    ['OAUTHBEARER', { mechanism: 'OAUTHBEARER', token: async () => bearerToken('dave') }],
  ]

  test.each(accounts)('SASL over TLS: %s', async (mechanism, sasl) => {
    expect(await roundTrip('SAFE', { tls: { ca }, sasl }, `sasl-${mechanism}`)).toEqual(['0 a=1'])
  })

  test.each([
    ['no TLS where it is demanded', 'TLS', () => ({})],
    ['a certificate of nobody known', 'TLS', () => ({ tls: { ca: foreign } })],
    ['a password that is wrong', 'SAFE', () => withPassword('wrong')],
    ['an account that does not exist', 'SAFE', () => withPassword('wonder', 'mallory')],
  ] as const)('refused, and not tried again: %s', async (_, listener, optionsOf) => {
    const open = () => openLog(kafka.address(listener), optionsOf())
    expect(await codeOf(open)).toBe('KAFKA_AUTHENTICATION')
  })

  function withPassword(given: string, username = 'alice'): Partial<KafkaLogOptions> {
    return {
      tls: { ca },
      sasl: { mechanism: 'SCRAM-SHA-256', username, password: given },
    }
  }

  test('a broker that hangs up may demand credentials, which the error says', async () => {
    const failure = await openLog(kafka.address('SAFE'), { tls: { ca } }).catch(error => error)
    expect(failure).toMatchObject({ code: 'KAFKA_UNREACHABLE' })
    expect(failure.message).toContain('it may demand credentials')
  })

  test('a wrong password is told as what it is, without the password', async () => {
    const failure = await openLog(kafka.address('SAFE'), withPassword('wrong')).catch(
      error => error,
    )
    expect(failure.code).toBe('KAFKA_AUTHENTICATION')
    expect(failure.message).toContain('Check the TLS and SASL settings')
    expect(JSON.stringify(failure) + String(failure.stack)).not.toContain('wrong')
  })

  test('sessions that end are renewed under way', async () => {
    const log = await openLog(kafka.address('SAFE'), {
      tls: { ca },
      sasl: { mechanism: 'SCRAM-SHA-512', username: 'bob', password: 'builder' },
    })
    try {
      const place = { topic: 'renewed', partition: 0 }
      await log.createTopic(place.topic, 1)
      const untilMs = Date.now() + 3 * REAUTHENTICATION_MS
      let appended = 0
      let offset = 0
      for (; Date.now() < untilMs || appended < 4; appended++) {
        await append(log, place, `k=${appended}`)
        const request = { ...place, offset, bytesMax: 10_000 }
        const [{ nextOffset }] = await log.fetch([request], { waitMsMax: 300 })
        offset = nextOffset
      }
      expect(await readAll(log, place)).toHaveLength(appended)
    } finally {
      await log.close()
    }
  })
})

/**
 * The settings: each an environment variable and a flag of the same name, a flag winning. All
 * that is wrong with them is told at once.
 */
import { defaultRolesClaim, parseApiKeys } from '../api/index.ts'
import type { NewState } from '../streams/environment.ts'
import { durationMs } from './durations.ts'
import { cliError } from './errors.ts'
import { parseMemory } from './memory.ts'
import { parseCompatibility } from './schema-compatibility.ts'
import {
  brokers,
  endpoint,
  httpUrl,
  integer,
  keySetUrl,
  onOff,
  optionalText,
  origins,
  rate,
  reasons,
  sagaKind,
  saslMechanism,
  services,
  share,
  text,
} from './setting-parsers.ts'
import { SPANS_PER_SECOND_MAX } from './tracing.ts'

interface Setting<T> {
  readonly env: string
  readonly placeholder: string
  readonly meaning: string
  /** As one would write it; shown in the help. */
  readonly initial: string
  /** Throws an error whose message says what is expected. */
  readonly parse: (text: string) => T
}

function setting<T>(
  env: string,
  placeholder: string,
  row: Omit<Setting<T>, 'env' | 'placeholder'>,
) {
  return { env, placeholder, ...row }
}

export const settingRows = {
  port: setting('PORT', 'PORT', {
    meaning: 'HTTP and WebSocket port; 0 takes a free one, which the ready line names',
    initial: '8080',
    parse: integer(0, 65_535),
  }),
  host: setting('HOST', 'ADDRESS', {
    meaning: 'address to listen on; off loopback, credentials must be configured',
    initial: '127.0.0.1',
    parse: text,
  }),
  dataDir: setting('DATA_DIR', 'FOLDER', {
    meaning: 'everything that is kept: log, state, offsets',
    initial: './data',
    parse: text,
  }),
  memory: setting('MEMORY', 'MIB', {
    meaning:
      'what the process is to stay within, MiB; unless set 2048, or less in a small container',
    initial: '',
    parse: parseMemory,
  }),
  viewRetention: setting('VIEW_RETENTION', 'TIME', {
    meaning: 'how long views keep their windows, in event time: 30d, 12h, 90m, forever',
    initial: '30d',
    parse: value => durationMs(value, 'forever'),
  }),
  idleAfter: setting('IDLE_AFTER', 'TIME', {
    meaning: 'a partition read to its end for so long holds no window open: 30s, 5m, never',
    initial: '30s',
    parse: value => durationMs(value, 'never'),
  }),
  newState: setting('NEW_STATE', 'beginning|now', {
    meaning: 'where views begin that a running application did not have, in their inputs',
    initial: 'beginning',
    parse: (value: string): NewState => {
      if (value === 'beginning' || value === 'now') return value
      throw new Error('beginning or now')
    },
  }),
  deadLetters: setting('DEAD_LETTERS', 'REASONS', {
    meaning: 'reasons, comma separated, for dead letters although a side output takes the record',
    initial: '',
    parse: reasons,
  }),
  syncInterval: setting('SYNC_INTERVAL', 'TIME', {
    meaning: 'how often the log is forced to the disk, embedded: 1s, 50ms, never',
    initial: 'never',
    parse: value => durationMs(value, 'never'),
  }),
  apiKeys: setting('API_KEYS', 'KEYS', {
    meaning: 'name:role:secret, comma separated; roles are reader, writer and admin',
    initial: '',
    parse: parseApiKeys,
  }),
  allowedOrigins: setting('ALLOWED_ORIGINS', 'ORIGINS', {
    meaning: 'origins of other pages that may call from a browser, comma separated',
    initial: '',
    parse: origins,
  }),
  rate: setting('RATE', 'NUMBER', {
    meaning: 'events a second of the demo',
    initial: '20',
    parse: rate,
  }),
  seed: setting('SEED', 'NUMBER', {
    meaning: 'seed of the demo: the same seed tells the same story',
    initial: '1',
    parse: integer(0, 2 ** 32 - 1),
  }),
  analytics: setting('ANALYTICS', 'on|off', {
    meaning: 'whether the analytics run here; off where a process is for services alone',
    initial: 'on',
    parse: onOff,
  }),
  services: setting('SERVICES', 'on|off|NAMES', {
    meaning: 'which order services run here, comma separated; unless given, all with the demo',
    initial: '',
    parse: services,
  }),
  saga: setting('SAGA', 'choreographed|orchestrated', {
    meaning: 'whether services act on each other’s events, or on commands of an orchestrator',
    initial: 'choreographed',
    parse: sagaKind,
  }),
  settle: setting('SETTLE', 'TIME', {
    meaning: 'how late an event of an order may come, in event time, and still count for services',
    initial: '5m',
    parse: value => durationMs(value),
  }),
  patience: setting('PATIENCE', 'TIME', {
    meaning: 'how long services wait for that when nothing more is to be read',
    initial: '2s',
    parse: value => durationMs(value),
  }),
  millraceBrokers: setting('MILLRACE_BROKERS', 'HOSTS', {
    meaning: 'Kafka instead of the embedded log: host:port of some brokers, comma separated',
    initial: '',
    parse: brokers,
  }),
  kafkaTls: setting('KAFKA_TLS', 'on|off', {
    meaning: 'TLS to the brokers',
    initial: 'off',
    parse: onOff,
  }),
  kafkaCa: setting('KAFKA_CA', 'FILE', {
    meaning: 'certificate (PEM) that signs the brokers’; unless given, those Node trusts',
    initial: '',
    parse: text,
  }),
  kafkaSasl: setting('KAFKA_SASL', 'MECHANISM', {
    meaning: 'how to log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER',
    initial: '',
    parse: saslMechanism,
  }),
  kafkaUsername: setting('KAFKA_USERNAME', 'NAME', {
    meaning: 'user of PLAIN and SCRAM',
    initial: '',
    parse: text,
  }),
  kafkaPassword: setting('KAFKA_PASSWORD', 'SECRET', {
    meaning: 'its password, or the token of OAUTHBEARER',
    initial: '',
    parse: text,
  }),
  standbyReplicas: setting('STANDBY_REPLICAS', 'NUMBER', {
    meaning: 'copies of the state of each task on other instances, on Kafka: 0, 1 or 2',
    initial: '0',
    parse: integer(0, 2),
  }),
  kafkaRack: setting('KAFKA_RACK', 'NAME', {
    meaning: 'rack or zone of this instance, told to the group on Kafka',
    initial: '',
    parse: text,
  }),
  advertised: setting('ADVERTISED_URL', 'HOST:PORT', {
    meaning: 'where the other instances can ask this one; unless given, where it listens',
    initial: '',
    parse: endpoint,
  }),
  peerKey: setting('PEER_KEY', 'SECRET', {
    meaning: 'what the instances of a group show each other; unless given, made from API_KEYS',
    initial: '',
    parse: text,
  }),
  leaveOnStop: setting('LEAVE_ON_STOP', 'on|off', {
    meaning: 'a stop gives the tasks to others at once, on Kafka; off keeps them for a restart',
    initial: 'off',
    parse: onOff,
  }),
  registryUrl: setting('REGISTRY_URL', 'URL', {
    meaning: 'schema registry with Confluent’s API, with Kafka; may name user and password',
    initial: '',
    parse: httpUrl,
  }),
  ordersUrl: setting('ORDERS_URL', 'URL', {
    meaning: 'an instance that is asked for shipped orders, with API_KEY, for the messages of them',
    initial: '',
    parse: httpUrl,
  }),
  schemaCompatibility: setting('SCHEMA_COMPATIBILITY', 'RULES', {
    meaning: 'what a new version of an event must be: FULL, or by subject OrderCreated:FULL,…',
    initial: 'BACKWARD',
    parse: parseCompatibility,
  }),
  jwksUrl: setting('JWKS_URL', 'URL', {
    meaning: 'where the identity provider publishes the keys of its tokens (JWK set)',
    initial: '',
    parse: keySetUrl,
  }),
  jwtIssuer: setting('JWT_ISSUER', 'TEXT', {
    meaning: 'issuer (iss) that tokens must name; unless given, any',
    initial: '',
    parse: optionalText,
  }),
  jwtAudience: setting('JWT_AUDIENCE', 'TEXT', {
    meaning: 'audience (aud) that tokens must name; unless given, any',
    initial: '',
    parse: optionalText,
  }),
  jwtRolesClaim: setting('JWT_ROLES_CLAIM', 'CLAIM', {
    meaning: 'claim with the roles of a token, such as realm_access.roles',
    initial: defaultRolesClaim,
    parse: (value: string) => {
      if (/^[^.]+(\.[^.]+)*$/.test(value)) return value
      throw new Error('a claim, or names joined by dots')
    },
  }),
  otlpEndpoint: setting('OTEL_EXPORTER_OTLP_ENDPOINT', 'URL', {
    meaning: 'receiver of spans, OTLP over HTTP; unless given, nothing is traced',
    initial: '',
    parse: httpUrl,
  }),
  traceSample: setting('TRACE_SAMPLE', 'SHARE', {
    meaning: 'share of requests and events without a traceparent that begin a trace, 0 to 1',
    initial: '0.01',
    parse: share,
  }),
  traceSpans: setting('TRACE_SPANS', 'COUNT', {
    meaning: 'spans that the process makes in a second at most; of more traces a share goes on',
    initial: String(SPANS_PER_SECOND_MAX),
    parse: integer(1, 1_000_000),
  }),
  apiKey: setting('API_KEY', 'SECRET', {
    meaning: 'secret to show to a running instance that asks for one',
    initial: '',
    parse: text,
  }),
  url: setting('MILLRACE_URL', 'URL', {
    meaning: 'the instance to ask; unless given, the one that holds DATA_DIR',
    initial: '',
    parse: (value: string) => {
      if (value === '' || (URL.canParse(value) && /^https?:/.test(value))) {
        return value.replace(/\/+$/, '')
      }
      throw new Error('an http or https URL')
    },
  }),
  logLevel: setting('LOG_LEVEL', 'LEVEL', {
    meaning: 'least level of the messages on standard error',
    initial: 'info',
    parse: (value: string) => {
      if (/^(trace|debug|info|warn|error|fatal|silent)$/.test(value)) return value
      throw new Error('one of trace, debug, info, warn, error, fatal, silent')
    },
  }),
} as const

export type SettingName = keyof typeof settingRows
export type Settings = {
  readonly [N in SettingName]: ReturnType<(typeof settingRows)[N]['parse']>
}

/** `VIEW_RETENTION` is `--view-retention`; `MILLRACE_URL` is `--url`. */
export function flagOf(name: SettingName): string {
  return name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)
}

export type Environment = Readonly<Record<string, string | undefined>>

/** Reads the named settings. Throws SETTINGS_INVALID with every problem, secrets left out. */
export function readSettings<N extends SettingName>(
  names: readonly N[],
  flags: Readonly<Record<string, unknown>>,
  environment: Environment,
): Pick<Settings, N> {
  const values: Partial<Record<SettingName, unknown>> = {}
  const problems: string[] = []
  for (const name of names) {
    const { env, initial, parse } = settingRows[name]
    const flag = flags[flagOf(name)] as string | undefined
    // An empty variable is how a shell unsets one.
    const given = flag ?? (environment[env] || undefined)
    try {
      values[name] = parse(given ?? initial)
    } catch (error) {
      const where = flag === undefined ? env : `--${flagOf(name)}`
      const shown = /key|jwks|password/i.test(name) ? '' : `, got ${JSON.stringify(given)}`
      problems.push(`  ${where}: expected ${(error as Error).message}${shown}`)
    }
  }
  if (problems.length > 0) throw cliError('SETTINGS_INVALID', { problems: problems.join('\n') })
  return values as Pick<Settings, N>
}

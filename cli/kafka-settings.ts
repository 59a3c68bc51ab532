/** How to reach Kafka, from the settings. */
import { readFileSync } from 'node:fs'
import type { ClusterOptions } from '../log/kafka/index.ts'
import { cliError } from './errors.ts'
import type { Settings } from './settings.ts'

export interface KafkaSettings {
  readonly connection: Pick<ClusterOptions, 'bootstrap' | 'tls' | 'sasl'>
  /** Where the other instances ask this one. */
  readonly endpoint?: { readonly host: string; readonly port: number }
  /** Copies of each task's state on other instances. */
  readonly standbyReplicas: number
  /** Rack or zone of this instance. */
  readonly rackId?: string
}

/** What it takes to reach brokers, beside their addresses. */
export const kafkaAccessNames = [
  'kafkaTls',
  'kafkaCa',
  'kafkaSasl',
  'kafkaUsername',
  'kafkaPassword',
] as const

export const kafkaSettingNames = [
  'millraceBrokers',
  ...kafkaAccessNames,
  'standbyReplicas',
  'kafkaRack',
] as const
type KafkaSettingValues = Pick<Settings, (typeof kafkaSettingNames)[number]>
type AccessValues = Pick<Settings, (typeof kafkaAccessNames)[number]>

/** Undefined without brokers: the embedded log. Throws SETTINGS_INVALID on half a credential. */
export function readKafkaSettings(
  values: KafkaSettingValues,
  endpoint?: KafkaSettings['endpoint'],
): KafkaSettings | undefined {
  const { millraceBrokers, standbyReplicas, kafkaRack } = values
  if (millraceBrokers === undefined) return undefined
  return {
    connection: readConnection(values, millraceBrokers),
    standbyReplicas,
    ...(kafkaRack === '' ? {} : { rackId: kafkaRack }),
    ...(endpoint === undefined ? {} : { endpoint }),
  }
}

/** Throws SETTINGS_INVALID on half a credential. */
export function readConnection(
  values: AccessValues,
  bootstrap: readonly string[],
): KafkaSettings['connection'] {
  const { kafkaTls, kafkaCa, kafkaSasl } = values
  const tls = kafkaTls ? { tls: kafkaCa === '' ? {} : { ca: readCertificate(kafkaCa) } } : {}
  const sasl = kafkaSasl === undefined ? {} : { sasl: credentials(values) }
  return { bootstrap, ...tls, ...sasl }
}

function readCertificate(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const problems = `KAFKA_CA: ${(error as Error).message}`
    throw cliError('SETTINGS_INVALID', { problems }, { cause: error })
  }
}

function credentials({ kafkaSasl, kafkaUsername, kafkaPassword }: AccessValues) {
  const mechanism = kafkaSasl!
  if (mechanism === 'OAUTHBEARER') {
    if (kafkaPassword !== '') return { mechanism, token: kafkaPassword }
    throw cliError('SETTINGS_INVALID', { problems: 'KAFKA_PASSWORD: the token of OAUTHBEARER' })
  }
  if (kafkaUsername !== '' && kafkaPassword !== '') {
    return { mechanism, username: kafkaUsername, password: kafkaPassword }
  }
  const problems = `KAFKA_USERNAME and KAFKA_PASSWORD: both are needed for ${mechanism}`
  throw cliError('SETTINGS_INVALID', { problems })
}

/** Opens a log without the service on it: a data folder at rest, or Kafka. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { pino } from 'pino'
import { openKafkaLog } from '../log/kafka/index.ts'
import type { EventLog } from '../log/port.ts'
import { openBacking } from './backing.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { findInstance } from './instance-file.ts'
import { kafkaAccessNames, readConnection } from './kafka-settings.ts'
import type { Settings } from './settings.ts'

export interface OpenLog {
  /** How it is called in messages. */
  readonly name: string
  readonly log: EventLog
  close(): Promise<void>
}

/** How commands that open Kafka themselves are told of it. */
export const kafkaAccessSettings = ['millraceBrokers', ...kafkaAccessNames] as const
export type KafkaAccess = Pick<Settings, (typeof kafkaAccessSettings)[number]>

/** Opens the log of brokers; those of the settings unless others are named. */
export async function openBrokers(
  settings: KafkaAccess,
  brokers: readonly string[],
): Promise<OpenLog> {
  const connection = readConnection(settings, brokers)
  const log = await openKafkaLog({ ...connection, environment: effects, clientId: 'millrace' })
  return { name: `kafka://${brokers.join(',')}`, log, close: () => log.close() }
}

/**
 * Opens a data folder that no instance has open. Rejects with DATA_IN_USE, and with DATA_MISSING
 * where there is none, unless it may be made.
 */
export async function openFolder(dataDir: string, { create = false } = {}): Promise<OpenLog> {
  const instance = await findInstance(dataDir)
  if (instance !== undefined) {
    throw cliError('DATA_IN_USE', { dataDir, pid: instance.pid, url: instance.url })
  }
  const found = await stat(join(dataDir, 'db')).catch(() => undefined)
  if (found === undefined && !create) throw cliError('DATA_MISSING', { dataDir })
  const { log, close } = await openBacking({
    dataDir,
    applications: [],
    logger: pino({ level: 'silent' }),
  })
  return { name: dataDir, log, close }
}

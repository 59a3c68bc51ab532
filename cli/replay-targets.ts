/** Where a replay can send to: a data folder, Kafka, or an instance over HTTP. */
import type { EventLog } from '../log/port.ts'
import { type RecordedTopic, type ReplayTarget, requirePartitions } from '../recording/port.ts'
import { cliError } from './errors.ts'
import { HttpTarget } from './http-target.ts'
import { findInstance } from './instance-file.ts'
import { type KafkaAccess, type OpenLog, openBrokers, openFolder } from './log-access.ts'
import type { Settings } from './settings.ts'

export type TargetSettings = KafkaAccess & Pick<Settings, 'dataDir' | 'apiKey'>

export interface OpenTarget {
  readonly target: ReplayTarget
  /** Undefined over HTTP. */
  readonly log: EventLog | undefined
  close(): Promise<void>
}

const LOG_SENDS_MAX = 4096
const LOG_BYTES_MAX = 32 << 20

/**
 * Opens `kafka://HOST:PORT[,HOST:PORT…]`, `http://…` or a folder. Without `to`: the brokers of
 * the settings, the instance that has DATA_DIR open, or DATA_DIR.
 */
export async function openTarget(settings: TargetSettings, to?: string): Promise<OpenTarget> {
  if (to !== undefined) return openNamed(settings, to)
  const { millraceBrokers, dataDir } = settings
  if (millraceBrokers !== undefined) return toLog(await openBrokers(settings, millraceBrokers))
  const instance = await findInstance(dataDir)
  return instance === undefined ? toFolder(dataDir) : toInstance(instance.url, settings.apiKey)
}

async function openNamed(settings: TargetSettings, to: string): Promise<OpenTarget> {
  if (to.startsWith('kafka://')) return toLog(await openBrokers(settings, brokersOf(to)))
  if (/^https?:\/\//.test(to)) {
    if (URL.canParse(to)) return toInstance(to, settings.apiKey)
    throw misnamed(to, 'http://HOST:PORT')
  }
  // A folder made by a slip of the pen would take everything, and say that all is well.
  if (to === '' || /^[a-z][a-z\d+.-]*:\/\//i.test(to)) {
    throw misnamed(to, 'kafka://HOST:PORT, http://HOST:PORT or a folder')
  }
  if (to.replace(/\/$/, '').split(',').every(isEndpoint)) {
    throw misnamed(to, `kafka://${to}, http://${to}, or ./${to} for a folder`)
  }
  return toFolder(to)
}

function isEndpoint(text: string): boolean {
  return /^(\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i.test(text)
}

function brokersOf(to: string): string[] {
  const brokers = to.slice('kafka://'.length).replace(/\/$/, '').split(',')
  if (brokers.every(isEndpoint)) return brokers
  throw misnamed(to, 'kafka://HOST:PORT')
}

function misnamed(to: string, expected: string): Error {
  const reason = `--to: expected ${expected}, got ${JSON.stringify(to)}.`
  return cliError('USAGE', { reason: `${reason}\nSee \`millrace replay --help\`.` })
}

async function toFolder(dataDir: string): Promise<OpenTarget> {
  return toLog(await openFolder(dataDir, { create: true }))
}

function toLog({ name, log, close }: OpenLog): OpenTarget {
  return { target: logTarget(name, log), log, close }
}

function toInstance(to: string, apiKey: string): OpenTarget {
  const url = to.replace(/\/+$/, '')
  return { target: new HttpTarget(url, apiKey), log: undefined, close: async () => {} }
}

/** Each send is one transaction. */
export function logTarget(name: string, log: EventLog): ReplayTarget {
  const limits = new Map<string, number>()
  return {
    name,
    sendsMax: LOG_SENDS_MAX,
    bytesMax: LOG_BYTES_MAX,
    async prepare(topics) {
      for (const topic of topics) limits.set(topic.name, await prepareTopic(log, topic))
    },
    batchBytesMax: topic => limits.get(topic),
    async send(records) {
      const transaction = log.begin()
      for (const { topic, partition, bytes } of records) {
        transaction.append({ topic, partition }, bytes)
      }
      await transaction.commit()
      return {}
    },
  }
}

/**
 * A topic that is missing is made as it was, but keeps its records whatever their time. Resolves
 * with the largest batch that it takes.
 */
async function prepareTopic(log: EventLog, topic: RecordedTopic): Promise<number> {
  const { name, partitions, config } = topic
  const found = await log.describeTopic(name)
  if (found === undefined) {
    const { cleanup, batchBytesMax } = config
    await log.createTopic(name, partitions, { cleanup, batchBytesMax, retentionMs: -1 })
    return batchBytesMax
  }
  requirePartitions(topic, found.partitions)
  return found.config.batchBytesMax
}

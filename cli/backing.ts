/**
 * What a service stands on: a database for its state, and a log. Embedded, both are one and hold
 * everything; on Kafka the data folder holds a copy of the state, and tasks are spread by a group.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import { joinStreamsGroup, openKafkaLog } from '../log/kafka/index.ts'
import type { Membership } from '../log/membership.ts'
import type { EventLog } from '../log/port.ts'
import { openRocksDB, type RocksDBDatabase } from '../state/rocksdb.ts'
import type { EngineSettings } from '../streams/environment.ts'
import { groupTopology } from '../streams/group-topology.ts'
import type { Plan } from '../streams/plan.ts'
import { bootId, effects } from './effects.ts'
import type { KafkaSettings } from './kafka-settings.ts'

export interface Backing {
  readonly database: RocksDBDatabase
  readonly log: EventLog
  /** Joins the group of the application; absent where one instance is all there is. */
  readonly join?: (plan: Plan) => Promise<Membership>
  /** Retention and compaction, where nobody else does them. */
  readonly maintain?: (nowMs: number) => Promise<unknown>
  readonly settings: Partial<EngineSettings>
  close(): Promise<void>
}

/** A transaction costs a broker a few markers: more than this many a second bring nothing. */
const KAFKA_EPOCH_MS_MIN = 20

export async function openBacking(
  dataDir: string,
  kafka: KafkaSettings | undefined,
  logger: Logger,
): Promise<Backing> {
  const database = await openRocksDB(join(dataDir, 'db'), { ownerPid: process.pid })
  try {
    return kafka === undefined
      ? await embedded(database)
      : await onKafka({ dataDir, database, kafka, logger })
  } catch (error) {
    await database.close()
    throw error
  }
}

async function embedded(database: RocksDBDatabase): Promise<Backing> {
  const log = await openEmbeddedLog(database, effects, { bootId: bootId() })
  return {
    database,
    log,
    maintain: nowMs => log.maintain(nowMs),
    settings: {},
    async close() {
      await log.close()
      await database.close()
    },
  }
}

interface KafkaParts {
  readonly dataDir: string
  readonly database: RocksDBDatabase
  readonly kafka: KafkaSettings
  readonly logger: Logger
}

async function onKafka({ dataDir, database, kafka, logger }: KafkaParts): Promise<Backing> {
  const memberId = await ownMemberId(dataDir)
  const { connection, application, endpoint } = kafka
  const log = await openKafkaLog({
    ...connection,
    environment: effects,
    clientId: `millrace-${application}`,
    // Opening it fences a twin, and ends what a crash left open, before the group is joined.
    transactionalId: `${application}-${memberId}`,
    database,
  })
  logger.info({ memberId, brokers: connection.bootstrap, cluster: log.incarnation }, 'on Kafka')
  return {
    database,
    log,
    join: plan =>
      joinStreamsGroup({
        cluster: log.cluster,
        group: application,
        memberId,
        processId: memberId,
        topology: groupTopology(plan),
        ...(endpoint === undefined ? {} : { endpoint }),
      }),
    settings: { epochMsMin: KAFKA_EPOCH_MS_MIN },
    async close() {
      await log.close()
      await database.close()
    },
  }
}

/**
 * The id that the group knows this data folder by: kept, so that a restart takes its tasks back
 * at once, whatever ended the process before.
 */
async function ownMemberId(dataDir: string): Promise<string> {
  const path = join(dataDir, 'member-id')
  try {
    const id = (await readFile(path, 'utf8')).trim()
    if (/^[\w-]{8,64}$/.test(id)) return id
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const id = randomUUID()
  await mkdir(dataDir, { recursive: true })
  await writeFile(path, `${id}\n`)
  return id
}

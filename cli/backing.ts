/**
 * What a service stands on: a database for its state, and a log. Embedded, both are one and hold
 * everything; on Kafka the data folder holds a copy of the state, and tasks are spread by a group.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import { joinStreamsGroup, openKafkaLog, prepareGroup } from '../log/kafka/index.ts'
import type { Membership } from '../log/membership.ts'
import type { EventLog } from '../log/port.ts'
import { openRocksDB, type RocksDBDatabase } from '../state/rocksdb.ts'
import type { EngineSettings } from '../streams/environment.ts'
import { MillraceError } from '../streams/errors.ts'
import { groupTopology } from '../streams/group-topology.ts'
import type { Plan } from '../streams/plan.ts'
import { bootId, effects } from './effects.ts'
import type { KafkaSettings } from './kafka-settings.ts'
import { finishSalvage } from './salvage.ts'

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
  const path = join(dataDir, 'db')
  await finishSalvage(dataDir)
  const open = () => openRocksDB(path, { owner: { pid: process.pid, bootId: bootId() } })
  const database = await (kafka === undefined ? open() : openCopy(path, open, logger))
  try {
    return kafka === undefined
      ? await embedded(database)
      : await onKafka({ dataDir, database, kafka, logger })
  } catch (error) {
    await database.close()
    throw error
  }
}

/** Beside a database that was found damaged while it was in use. */
const damagedMark = (path: string) => `${path}.damaged`

/** Has the next start set the database aside. */
export async function markDamaged(dataDir: string, reason: string): Promise<void> {
  await writeFile(damagedMark(join(dataDir, 'db')), `${reason}\n`)
}

/** On Kafka the database is a copy: a damaged one is set aside, and the changelogs give it anew. */
async function openCopy(
  path: string,
  open: () => Promise<RocksDBDatabase>,
  logger: Logger,
): Promise<RocksDBDatabase> {
  const mark = damagedMark(path)
  let reason = await readFile(mark, 'utf8').catch(() => undefined)
  if (reason === undefined) {
    try {
      return await open()
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'DATABASE_CORRUPT')) throw error
      reason = error.message
    }
  }
  const aside = `${path}-damaged-${new Date(effects.clock()).toISOString().replace(/[:.]/g, '-')}`
  await rename(path, aside)
  await rm(mark, { force: true })
  logger.warn({ aside, reason: reason.trim() }, 'a damaged database: rebuilding from changelogs')
  return open()
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
  const { connection, application, endpoint, rackId, standbyReplicas } = kafka
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
    async join(plan) {
      const options = {
        cluster: log.cluster,
        group: application,
        memberId,
        processId: memberId,
        topology: groupTopology(plan),
        ...(endpoint === undefined ? {} : { endpoint }),
        ...(rackId === undefined ? {} : { rackId }),
        settings: { standbyReplicas },
      }
      const { outcome, changes } = await prepareGroup(options)
      if (outcome === 'migrated') logger.info({ changes }, 'the group takes a changed topology')
      return joinStreamsGroup(options)
    },
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

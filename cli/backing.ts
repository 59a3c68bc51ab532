/**
 * What a service stands on: a database for its state, and a log. Embedded, both are one and hold
 * everything; on Kafka the data folder holds a copy of the state, and each application has a group
 * that spreads its tasks, and a log of its own: a transaction is one application's.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import { joinStreamsGroup, type KafkaLog, openKafkaLog, prepareGroup } from '../log/kafka/index.ts'
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

/** What one application stands on. */
export interface ApplicationBacking {
  readonly log: EventLog
  /** Joins the group of the application; absent where one instance is all there is. */
  readonly join?: (plan: Plan) => Promise<Membership>
}

export interface Backing {
  readonly database: RocksDBDatabase
  /** For all that is no application's: topics, appends, offsets. */
  readonly log: EventLog
  /** Of one that the backing was opened for. */
  application(name: string): ApplicationBacking
  /** True where the database is a copy of what is in the log. */
  readonly isCopy: boolean
  /** Retention and compaction, where nobody else does them. */
  readonly maintain?: (nowMs: number) => Promise<unknown>
  readonly settings: Partial<EngineSettings>
  close(): Promise<void>
}

/** A transaction costs a broker a few markers: more than this many a second bring nothing. */
const KAFKA_EPOCH_MS_MIN = 20

export interface BackingOptions {
  readonly dataDir: string
  /** Absent: the embedded log. */
  readonly kafka?: KafkaSettings
  /** On Kafka at least one. */
  readonly applications: readonly string[]
  readonly logger: Logger
}

export async function openBacking(options: BackingOptions): Promise<Backing> {
  const { dataDir, kafka, applications, logger } = options
  const path = join(dataDir, 'db')
  await finishSalvage(dataDir)
  const open = () => openRocksDB(path, { owner: { pid: process.pid, bootId: bootId() } })
  const database = await (kafka === undefined ? open() : openCopy(path, open, logger))
  try {
    return kafka === undefined
      ? await embedded(database)
      : await onKafka({ dataDir, database, kafka, applications, logger })
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
    application: () => ({ log }),
    isCopy: false,
    maintain: nowMs => log.maintain(nowMs),
    settings: {},
    async close() {
      await log.close()
      await database.close()
    },
  }
}

type KafkaParts = Required<BackingOptions> & { readonly database: RocksDBDatabase }

async function onKafka(parts: KafkaParts): Promise<Backing> {
  const { dataDir, database, kafka, applications, logger } = parts
  const memberId = await ownMemberId(dataDir)
  const logs = new Map<string, KafkaLog>()
  const close = async () => {
    await Promise.all([...logs.values()].map(log => log.close()))
  }
  try {
    for (const application of applications) {
      const options = {
        ...kafka.connection,
        environment: effects,
        clientId: `millrace-${application}`,
        // Opening it fences a twin, and ends what a crash left open, before the group is joined.
        transactionalId: `${application}-${memberId}`,
        database,
      }
      logs.set(application, await openKafkaLog(options))
    }
  } catch (error) {
    await close()
    throw error
  }
  const [log] = logs.values()
  const { bootstrap } = kafka.connection
  logger.info({ memberId, brokers: bootstrap, cluster: log.incarnation }, 'on Kafka')
  return {
    database,
    log,
    application: name => ({
      log: logs.get(name)!,
      join: plan => joinGroup({ ...parts, application: name, memberId }, logs.get(name)!, plan),
    }),
    isCopy: true,
    settings: { epochMsMin: KAFKA_EPOCH_MS_MIN },
    async close() {
      await close()
      await database.close()
    },
  }
}

async function joinGroup(
  { kafka, logger, application, memberId }: KafkaParts & { application: string; memberId: string },
  { cluster }: KafkaLog,
  plan: Plan,
): Promise<Membership> {
  const { endpoint, rackId, standbyReplicas } = kafka
  const options = {
    cluster,
    group: application,
    memberId,
    processId: memberId,
    topology: groupTopology(plan),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(rackId === undefined ? {} : { rackId }),
    settings: { standbyReplicas },
  }
  const { outcome, changes } = await prepareGroup(options)
  if (outcome === 'migrated') {
    logger.info({ application, changes }, 'the group takes a changed topology')
  }
  return joinStreamsGroup(options)
}

/**
 * The id that the groups of all applications know this data folder by: kept, so that a restart
 * takes its tasks back at once, whatever ended the process before.
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

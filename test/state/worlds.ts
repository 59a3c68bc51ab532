/** What stores live in under test: a database, a log or none, commits, crashes and restarts. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Database } from '../../log/database.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { BatchReader, EventLog, LogEnvironment, TopicPartition } from '../../log/port.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { SealedEpoch } from '../../state/port.ts'
import { openRocksDB } from '../../state/rocksdb.ts'

export const CHANGELOG: TopicPartition = { topic: 'app-store-changelog', partition: 0 }

const environment: LogEnvironment = {
  clock: () => 1_000_000,
  schedule: (task, delayMs) => {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes: size => Buffer.alloc(size, 7),
}

export interface World {
  readonly database: Database
  /** With `readBatches`, without it, or none. */
  readonly log?: EventLog & Partial<BatchReader>
  /** Commits a sealed epoch; a failing commit writes nothing. */
  commit(sealed: SealedEpoch): Promise<void>
  /** The same world after a restart of the process; stores are opened anew on it. */
  restart(): Promise<World>
  /** Asserts that nothing leaked, and removes everything. */
  dispose(): Promise<void>
}

export type LogKind = 'no log' | 'embedded log' | 'log without block reads'
export type DatabaseKind = 'memory' | 'RocksDB'

export interface WorldOptions {
  readonly log: LogKind
  readonly database: DatabaseKind
  readonly compacted?: boolean
}

export async function openWorld(options: WorldOptions): Promise<World> {
  const path =
    options.database === 'RocksDB' ? await mkdtemp(join(tmpdir(), 'millrace-state-')) : ''
  const database = path ? await openRocksDB(path) : new MemoryDatabase()
  return build({ ...options, path }, database)
}

async function build(
  options: WorldOptions & { readonly path: string },
  database: Database,
): Promise<World> {
  const { path } = options
  const whole =
    options.log === 'no log'
      ? undefined
      : await openEmbeddedLog(database, environment, { bootId: 'boot', activeBytes: 1 })
  if (whole && !(await whole.describeTopic(CHANGELOG.topic))) {
    const cleanup = options.compacted ? 'compact' : 'delete'
    await whole.createTopic(CHANGELOG.topic, 1, { cleanup, retentionMs: -1 })
  }
  const log = options.log === 'log without block reads' ? withoutBlockReads(whole!) : whole
  return {
    database,
    log,
    commit: sealed => commit(database, log, sealed),
    restart: async () => {
      await whole?.close()
      if (database instanceof MemoryDatabase) return build(options, database.reopen())
      await database.close()
      return build(options, await openRocksDB(path))
    },
    dispose: async () => {
      await whole?.close()
      const { openHandles } = database
      await database.close()
      if (path) await rm(path, { recursive: true, force: true })
      if (openHandles > 0) throw new Error(`${openHandles} handles of the database leaked`)
    },
  }
}

function withoutBlockReads(log: EventLog): EventLog {
  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(log)) as (keyof EventLog)[]
  const facade: Record<string, unknown> = { incarnation: log.incarnation }
  for (const name of methods) {
    const method = (log as unknown as Record<string, unknown>)[name]
    if (typeof method !== 'function' || (name as string) === 'readBatches') continue
    facade[name] = method.bind(log)
  }
  return facade as unknown as EventLog
}

async function commit(
  database: Database,
  log: EventLog | undefined,
  sealed: SealedEpoch,
): Promise<void> {
  if (log === undefined) {
    const batch = database.batch()
    sealed.write([], batch)
    return batch.commit()
  }
  const transaction = log.begin()
  for (const { target, batch } of sealed.appends) transaction.append(target, batch)
  await transaction.commit({ state: (receipts, batch) => sealed.write(receipts, batch) })
}

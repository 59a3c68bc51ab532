/** The embedded log under test, over either database. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Database } from '../../../log/database.ts'
import { type EmbeddedLogOptions, openEmbeddedLog } from '../../../log/embedded/index.ts'
import type { LogEnvironment } from '../../../log/port.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { openRocksDB } from '../../../state/rocksdb.ts'
import type { LogUnderTest } from '../../conformance/log.ts'

export const environment: LogEnvironment = {
  clock: Date.now,
  schedule: (task, delayMs) => {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
}

interface Storage {
  readonly database: Database
  reopen(): Promise<Storage>
  dispose(): Promise<void>
}

/** Compaction leaves only the last batch alone, so that small logs show what it does. */
const options: EmbeddedLogOptions = { bootId: 'boot', activeBytes: 1 }

async function underTest(storage: Storage, extra: EmbeddedLogOptions): Promise<LogUnderTest> {
  const { database } = storage
  const log = await openEmbeddedLog(database, environment, { ...options, ...extra })
  let closed = false
  const close = async () => {
    if (closed) return
    closed = true
    await log.close()
    expect(database.openHandles).toBe(0)
    await database.close()
  }
  return {
    log,
    isExact: true,
    maintain: async nowMs => {
      await log.maintain(nowMs)
    },
    reopen: async () => {
      await close()
      return underTest(await storage.reopen(), extra)
    },
    dispose: async () => {
      await close()
      await storage.dispose()
    },
  }
}

function memoryStorage(database: MemoryDatabase): Storage {
  return {
    database,
    reopen: async () => memoryStorage(database.reopen()),
    dispose: async () => {},
  }
}

async function rocksStorage(path: string): Promise<Storage> {
  return {
    database: await openRocksDB(path),
    reopen: () => rocksStorage(path),
    dispose: () => rm(path, { recursive: true, force: true }),
  }
}

export const openOnMemory = (extra: EmbeddedLogOptions = {}) =>
  underTest(memoryStorage(new MemoryDatabase()), extra)

export const openOnRocks = async (extra: EmbeddedLogOptions = {}) =>
  underTest(await rocksStorage(await mkdtemp(join(tmpdir(), 'millrace-log-'))), extra)

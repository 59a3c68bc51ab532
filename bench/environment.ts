/** A scratch database and log for benches, and the effects they are given. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Database } from '../log/database.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../log/embedded/index.ts'
import manifest from '../package.json' with { type: 'json' }
import { openRocksDB } from '../state/rocksdb.ts'
import type { EngineEnvironment } from '../streams/environment.ts'

export const environment: EngineEnvironment = {
  clock: Date.now,
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise(resolve => setImmediate(resolve)),
}

export interface Bed {
  readonly database: Database
  readonly log: EmbeddedLog
}

/** Runs `work` on a fresh RocksDB that is deleted afterwards. */
export async function withBed(work: (bed: Bed) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-bench-'))
  try {
    const database = await openRocksDB(directory)
    const log = await openEmbeddedLog(database, environment, { bootId: 'bench' })
    await work({ database, log })
    await log.close()
    await database.close()
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/**
 * Settings of allocator and collector as `npm start` has them, for a process of Node: they are read
 * before it runs anything.
 */
export function startSettings(): Record<string, string> {
  const { start } = manifest.scripts
  const variables = Array.from(start.matchAll(/(MALLOC_\w+)=(\d+)/g), ([, ...pair]) => pair)
  const flags = start.match(/--\S+/g) ?? []
  const NODE_OPTIONS = [process.env.NODE_OPTIONS, ...flags].join(' ').trim()
  return { ...Object.fromEntries(variables), NODE_OPTIONS }
}

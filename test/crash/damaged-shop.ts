/**
 * A data folder of the shop on RocksDB with one bit flipped in one of its files. Either a start
 * goes on as if nothing were, and everything equals the oracle; or it stops with an error of the
 * catalogue, and then a salvage makes it start. A producer goes on from what the log holds, so
 * what a salvage cuts comes again, and results must equal the oracle in the end.
 */
import { randomBytes } from 'node:crypto'
import { cp, mkdtemp, open, readdir, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { salvage } from '../../cli/salvage.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { openRocksDB, type RocksDBDatabase } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import { assert, MillraceError } from '../../streams/errors.ts'
import { viewService } from '../../streams/view-service.ts'
import { root, runProcess } from '../support/processes.ts'
import type { Random } from '../support/random.ts'
import {
  lines,
  PARTITIONS,
  type ShopRecord,
  shopOracle,
  shopRecords,
  shopTopology,
} from '../support/shop.ts'

const ORDERS = 300
const CHUNK = 60
const BOOT = 'this run'
const owner = { pid: process.pid, bootId: BOOT }
/** What `runProcess` answers for a process that a signal ended. */
const AFTER_SIGNAL = 128
/** Small, so that a shop of this size has tables, blobs and a write-ahead log. */
const small = { writeBufferBytes: 96 << 10, blobBytesMin: 2 << 10 }

const environment = {
  clock: Date.now,
  schedule(task: () => void, delayMs: number) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
}

interface OpenShop {
  readonly database: RocksDBDatabase
  readonly log: EmbeddedLog
  readonly engine: Engine
  close(): Promise<void>
}

async function openShop(dataDir: string): Promise<OpenShop> {
  const closing: (() => Promise<unknown>)[] = []
  const close = async () => {
    // What is damaged may not close well either; the next part is closed all the same.
    for (const step of closing.splice(0).reverse()) await step().catch(() => {})
  }
  try {
    const database = await openRocksDB(join(dataDir, 'db'), { ...small, owner })
    closing.push(() => database.close())
    const log = await openEmbeddedLog(database, environment, { bootId: BOOT, tailBytesMax: 0 })
    closing.push(() => log.close())
    const engine = await Engine.open({
      topology: shopTopology(),
      log,
      database,
      environment,
      settings: {
        createPartitions: PARTITIONS,
        idleAfterMs: Number.POSITIVE_INFINITY,
        epochRecordsMax: 100,
        storeCacheBytes: 0,
      },
    })
    closing.push(() => engine.stop())
    return { database, log, engine, close }
  } catch (error) {
    await close()
    throw error
  }
}

const idOf = ({ topic, partition }: ShopRecord) => `${topic}/${partition}`

/** Appends what the log does not have yet, at most so many records, and processes it. */
async function feed({ log, engine }: OpenShop, records: readonly ShopRecord[]): Promise<void> {
  const targets = ['orders', 'payments'].flatMap(topic =>
    Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition })),
  )
  const have = new Map<string, number>()
  const ranges = await log.offsets(targets)
  targets.forEach(({ topic, partition }, i) => {
    have.set(`${topic}/${partition}`, ranges[i]!.endOffset)
  })
  const missing = records.filter(record => {
    const known = have.get(idOf(record))!
    have.set(idOf(record), known - 1)
    return known <= 0
  })
  for (let i = 0; i < missing.length; i += CHUNK) {
    const transaction = log.begin()
    for (const record of missing.slice(i, i + CHUNK)) {
      const builder = new RecordBatchBuilder()
      const slice = (text: string) => {
        const bytes = Buffer.from(text)
        return { bytes, start: 0, end: bytes.length }
      }
      builder.append(record.timeMs, slice(record.key), slice(JSON.stringify(record.value)))
      transaction.append(record, builder.finish())
    }
    await transaction.commit()
    await engine.drain()
  }
  await engine.drain()
}

/** Processes most of the records; `end` is called while all is open. */
export async function fill(dataDir: string, seed: number, end: () => void): Promise<void> {
  const shop = await openShop(dataDir)
  const records = shopRecords(seed, ORDERS)
  await feed(shop, records.slice(0, Math.floor(records.length * 0.8)))
  end()
  await shop.close()
}

/** A folder with most of the records processed, as a close or as a kill leaves it. */
export async function makeFolder(seed: number, end: 'closed' | 'killed'): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'millrace-damage-'))
  const script = join(root, 'test/crash/damaged-shop-process.ts')
  const args = [script, dataDir, String(seed), end]
  const { code, output } = await runProcess(process.execPath, args, { timeoutMs: 60_000 })
  const wanted = end === 'closed' ? 0 : AFTER_SIGNAL
  assert(code === wanted, `the folder was made: ${output}`)
  return dataDir
}

/** The same folder again, to be damaged. */
export async function copyFolder(dataDir: string): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'millrace-damage-'))
  await cp(dataDir, copy, { recursive: true })
  return copy
}

export interface Flip {
  readonly file: string
  readonly position: number
  readonly bit: number
}

/** Each byte is as likely as another, or in every third case each file. */
export async function randomFlip(dataDir: string, random: Random): Promise<Flip> {
  const folder = join(dataDir, 'db')
  const names = (await readdir(folder)).filter(name => name !== 'LOCK').sort()
  const sizes = await Promise.all(names.map(async name => (await stat(join(folder, name))).size))
  const bit = 1 << random.below(8)
  const filled = names.filter((_, i) => sizes[i]! > 0)
  if (random.below(3) === 0) {
    const file = random.pick(filled)
    return { file, position: random.below(sizes[names.indexOf(file)]!), bit }
  }
  let at = random.below(sizes.reduce((sum, size) => sum + size, 0))
  const index = sizes.findIndex(size => (at -= size) < 0)
  return { file: names[index]!, position: at + sizes[index]!, bit }
}

export async function applyFlip(dataDir: string, { file, position, bit }: Flip): Promise<void> {
  const handle = await open(join(dataDir, 'db', file), 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, position)
  byte[0]! ^= bit
  await handle.write(byte, 0, 1, position)
  await handle.close()
}

async function outputs(shop: OpenShop) {
  const { log, engine } = shop
  const views = viewService({
    engine,
    schedule: environment.schedule,
    incarnation: log.incarnation,
  })
  const viewLines = async (view: string) => {
    const rows = []
    let cursor: string | undefined
    do {
      const page = await views.rows(view, { key: {}, limit: 1000, cursor })
      rows.push(...page.rows)
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
    return lines(rows)
  }
  return {
    volume: await viewLines('volume'),
    revenue: await viewLines('revenue'),
    finals: await topicLines(log, 'finals'),
    unpaid: await topicLines(log, 'unpaid'),
  }
}

async function topicLines(log: EmbeddedLog, topic: string): Promise<string[]> {
  const found: string[] = []
  const { partitions } = (await log.describeTopic(topic))!
  for (let partition = 0; partition < partitions; partition++) {
    const [range] = await log.offsets([{ topic, partition }])
    for (let offset = range!.startOffset; offset < range!.endOffset; ) {
      const [response] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
      for (const c of decodeBatches(response!.bytes, { fromOffset: offset }).runs) {
        for (let i = 0; i < c.length; i++) {
          const key = c.bytes.utf8Slice(c.keyStart[i]!, c.keyEnd[i]!)
          found.push(`${key}=${c.bytes.utf8Slice(c.valueStart[i]!, c.valueEnd[i]!)}`)
        }
      }
      offset = response!.nextOffset
    }
  }
  return found.filter(line => !line.startsWith('end')).sort()
}

export type Outcome = 'as if nothing were' | 'salvaged' | 'impossible'

export interface DamageResult {
  readonly outcome: Outcome
  /** What the start stopped with. */
  readonly error?: string
  /** Empty when everything is as it must be. */
  readonly failures: readonly string[]
}

/** Starts, goes on to the end of the input and compares. */
export async function startAndCompare(dataDir: string, seed: number): Promise<string[]> {
  const records = shopRecords(seed, ORDERS)
  const { late: _, ...wanted } = shopOracle(records)
  const shop = await openShop(dataDir)
  try {
    await feed(shop, records)
    const results: Record<string, unknown> = await outputs(shop)
    return Object.entries(wanted)
      .filter(([name, lines]) => !isDeepStrictEqual(results[name], lines))
      .map(([name]) => `${name} differs from the oracle`)
  } finally {
    await shop.close()
  }
}

export async function damageRun(dataDir: string, seed: number): Promise<DamageResult> {
  let error: string
  try {
    return { outcome: 'as if nothing were', failures: await startAndCompare(dataDir, seed) }
  } catch (thrown) {
    if (!(thrown instanceof MillraceError)) {
      return { outcome: 'impossible', failures: [`no error of the catalogue: ${thrown}`] }
    }
    error = `${thrown.code}: ${thrown.message}`
  }
  try {
    const topology = shopTopology()
    const confirm = async () => true
    await salvage({ dataDir, topologies: [topology], onProgress: () => {}, confirm })
  } catch (thrown) {
    const isPlain = thrown instanceof MillraceError && thrown.code === 'SALVAGE_IMPOSSIBLE'
    const failures = isPlain ? [] : [`the salvage failed: ${(thrown as Error).stack}`]
    return { outcome: 'impossible', error: `${error}; ${(thrown as Error).message}`, failures }
  }
  try {
    return { outcome: 'salvaged', error, failures: await startAndCompare(dataDir, seed) }
  } catch (thrown) {
    return { outcome: 'salvaged', error, failures: [`does not start: ${(thrown as Error).stack}`] }
  }
}

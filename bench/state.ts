/**
 * `state`: an aggregate by random keys whose state grows: inputs/s when every input reads and
 * writes a row of a state of 1 M, 10 M and 50 M rows, on the embedded log with its changelog, as a
 * backlog; and the memory of the process, of which the budget for cached rows is a part.
 */
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import type { EventLog } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { openRocksDB } from '../state/rocksdb.ts'
import { Engine } from '../streams/engine.ts'
import { Topology, text, textKey } from '../streams/index.ts'
import { environment } from './environment.ts'
import { type Figure, measured } from './report.ts'

const SIZES = (process.env.BENCH_ROWS ?? '1000000,10000000,50000000').split(',').map(Number)
const MEASURED = 1_000_000
const SLICE = 200_000
const PARTITIONS = 4
const BUDGET_BYTES = 256 * 2 ** 20
/** A row, its changelog record and what RocksDB needs to merge them. */
const DISK_BYTES_PER_ROW = 450

const say = (text: string) => process.stderr.write(`state: ${text}\n`)

export async function stateBench(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-state-'))
  try {
    const sizes = sizesThatFit(folder)
    const database = await openRocksDB(folder)
    const log = await openEmbeddedLog(database, environment, { bootId: 'bench' })
    await log.createTopic('updates', PARTITIONS)
    const engine = await Engine.open({
      topology: lastAndCount(),
      log,
      database,
      environment,
      settings: { idleAfterMs: Number.POSITIVE_INFINITY, storeCacheBytes: BUDGET_BYTES },
    })
    const figures = await new Growing(engine, log).measure(sizes)
    await engine.stop()
    await log.close()
    await database.close()
    return figures
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function sizesThatFit(folder: string): number[] {
  const { bavail, bsize } = statfsSync(folder)
  const rowsMax = Math.floor((bavail * bsize) / DISK_BYTES_PER_ROW)
  const sizes = SIZES.map(size => Math.min(size, rowsMax))
  if (rowsMax < SIZES.at(-1)!) {
    say(`the disk has room for ${rowsMax} of ${SIZES.at(-1)} rows: that is the largest size`)
  }
  return [...new Set(sizes)]
}

function lastAndCount(): Topology {
  const topology = new Topology('growing')
  const key = textKey()
  topology
    .stream('updates', { key, value: text() })
    .groupByKey({ name: 'by-key', key })
    .aggregate<{ count: number; last: string }>({
      name: 'rows',
      initial: () => ({ count: 0, last: '' }),
      add: ({ count }, last) => ({ count: count + 1, last }),
    })
  return topology
}

class Growing {
  readonly #engine: Engine
  readonly #log: EventLog
  readonly #builders = Array.from({ length: PARTITIONS }, () => new RecordBatchBuilder())
  #rows = 0
  #random = 42
  #time = Date.now()
  #rssBytes = 0

  constructor(engine: Engine, log: EventLog) {
    this.#engine = engine
    this.#log = log
  }

  async measure(sizes: readonly number[]): Promise<Figure[]> {
    const figures: Figure[] = []
    const rates: number[] = []
    const sampling = setInterval(() => {
      this.#rssBytes = Math.max(this.#rssBytes, process.memoryUsage.rss())
    }, 20)
    for (const size of sizes) {
      say(`growing to ${size} rows`)
      while (this.#rows < size) await this.#slice(() => this.#rows++)
      const rows = this.#rows
      let ms = 0
      for (let done = 0; done < MEASURED; done += SLICE) {
        ms += await this.#slice(() => this.#next() % rows)
      }
      rates.push((MEASURED / ms) * 1000)
      const name = `${Math.round(size / 1e5) / 10}M`
      figures.push({ name: `inputsPerSecond${name}`, value: rates.at(-1)!, unit: 'inputs/s' })
      figures.push({ name: `rssMiB${name}`, value: this.#rssBytes / 2 ** 20, unit: 'MiB so far' })
      say(`${size} rows: ${Math.round(rates.at(-1)!)} inputs/s`)
    }
    clearInterval(sampling)
    const ratio = rates.at(-1)! / rates[0]!
    return [...figures, { name: 'ratioLargest', value: ratio, unit: 'of the smallest size’s rate' }]
  }

  #next(): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0
    // The low bits of this generator repeat soon.
    return ((this.#random >>> 8) ^ (this.#random << 8)) >>> 0
  }

  /** Appends a slice of updates of the rows that `row` gives and processes it; returns ms. */
  async #slice(row: () => number): Promise<number> {
    const transaction = this.#log.begin()
    const append = (partition: number) => {
      const batch = this.#builders[partition]!.finish()
      transaction.append({ topic: 'updates', partition }, batch)
    }
    for (let i = 0; i < SLICE; i++) {
      const number = row()
      const partition = number % PARTITIONS
      const builder = this.#builders[partition]!
      // Scrambled, so that rows of one time are apart in the store.
      const key = Buffer.from(Math.imul(number, 0x9e3779b1).toString(16) + number.toString(36))
      const value = Buffer.from(`${number}-${i}`.padEnd(60, '.'))
      builder.append(this.#time++, whole(key), whole(value))
      if (builder.count === 2_000) append(partition)
    }
    this.#builders.forEach((builder, partition) => {
      if (builder.count > 0) append(partition)
    })
    await transaction.commit()
    const { ms } = await measured(() => this.#engine.drain())
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const target = { topic: 'updates', partition }
      const [range] = await this.#log.offsets([target])
      await this.#log.deleteRecords(target, range!.endOffset)
    }
    return ms
  }
}

const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })

/**
 * One size of `state`, as a process. Arguments: folder, rows, bytes that the stores may cache.
 * Grows its state, prints `grown`, and at each line of stdin updates a million random rows and
 * prints `<ms> <largest resident size, bytes>`.
 */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import { Topology, text, textKey } from '../../streams/index.ts'
import { environment } from '../environment.ts'
import { measured } from '../report.ts'

const MEASURED = 1_000_000
const SLICE = 200_000
const PARTITIONS = 4
const TELL_ROWS = 5_000_000

const [folder, size, cacheBytes] = process.argv.slice(2) as [string, string, string]

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

  constructor(engine: Engine, log: EventLog) {
    this.#engine = engine
    this.#log = log
  }

  async grow(size: number): Promise<void> {
    while (this.#rows < size) {
      await this.#slice(() => this.#rows++)
      if (this.#rows % TELL_ROWS === 0) process.stderr.write(`state: ${this.#rows} of ${size}\n`)
    }
  }

  /** ms for a million updates of random rows. */
  async update(): Promise<number> {
    const rows = this.#rows
    let ms = 0
    for (let done = 0; done < MEASURED; done += SLICE) {
      ms += await this.#slice(() => this.#next() % rows)
    }
    return ms
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

const database = await openRocksDB(folder)
const log = await openEmbeddedLog(database, environment, { bootId: 'bench' })
await log.createTopic('updates', PARTITIONS)
const engine = await Engine.open({
  topology: lastAndCount(),
  log,
  database,
  environment,
  settings: { idleAfterMs: Number.POSITIVE_INFINITY, storeCacheBytes: Number(cacheBytes) },
})
const growing = new Growing(engine, log)
await growing.grow(Number(size))
process.stdout.write('grown\n')
const lines = createInterface({ input: process.stdin })
let rssBytes = 0
setInterval(() => {
  rssBytes = Math.max(rssBytes, process.memoryUsage.rss())
}, 20).unref()
lines.on('line', async () => {
  process.stdout.write(`${await growing.update()} ${rssBytes}\n`)
})
await once(lines, 'close')
await engine.stop()
await log.close()
await database.close()

/**
 * The process that crash tests kill: runs the shop over RocksDB and kills itself at the n-th
 * time it reaches a crash point. Arguments: directory, seed, orders, point (or `none`), nth,
 * `forget`. With the last the rows of some stores are deleted first, so that they are restored
 * from their changelogs. Input that is not in the log yet is appended first, in chunks, as a
 * producer would go on. When all is processed it prints one line of JSON with what came out.
 */
import { randomBytes } from 'node:crypto'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { databaseRange } from '../../state/committed-rows.ts'
import { metadataKey, rowsPrefix } from '../../state/keys.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { viewService } from '../../streams/view-service.ts'
import { lines, PARTITIONS, shopRecords, shopTopology } from '../support/shop.ts'

const [directory, seedText, ordersText, point, nthText, forget] = process.argv.slice(2)
const CHUNK = 300

const database = await openRocksDB(directory!)
const environment = {
  clock: Date.now,
  schedule(task: () => void, delayMs: number) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
  reached(name: string) {
    if (name === point && --left === 0) process.kill(process.pid, 'SIGKILL')
  },
}
let left = Number(nthText)
if (forget === 'forget') await forgetStores(['volume', 'revenue', 'paid-pending', 'finals'])
const log = await openEmbeddedLog(database, environment, { bootId: 'one' })
const topology = shopTopology()
const engine = await Engine.open({
  topology,
  log,
  database,
  environment,
  settings: {
    createPartitions: PARTITIONS,
    idleAfterMs: Number.POSITIVE_INFINITY,
    epochRecordsMax: 200,
    storeCacheBytes: 64 * 1024,
  },
})

async function forgetStores(names: readonly string[]): Promise<void> {
  const batch = database.batch()
  for (const name of names) {
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const { gte, lt } = databaseRange(rowsPrefix(storeInDatabase('shop', name), partition), {})
      batch.deleteRange(gte, lt)
      batch.delete(metadataKey(storeInDatabase('shop', name), partition, 'applied'))
    }
  }
  await batch.commit()
}

/** Appends the records that the log does not have yet: those after what each partition holds. */
async function feed(): Promise<void> {
  const records = shopRecords(Number(seedText), Number(ordersText))
  const targets = ['orders', 'payments'].flatMap(topic =>
    Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition })),
  )
  const have = new Map<string, number>()
  const ranges = await log.offsets(targets)
  for (const [i, { topic, partition }] of targets.entries()) {
    have.set(`${topic}/${partition}`, ranges[i]!.endOffset)
  }
  const missing = records.filter(({ topic, partition }) => {
    const id = `${topic}/${partition}`
    const known = have.get(id)!
    have.set(id, known - 1)
    return known <= 0
  })
  for (let i = 0; i < missing.length; i += CHUNK) {
    const transaction = log.begin()
    for (const record of missing.slice(i, i + CHUNK)) {
      const builder = new RecordBatchBuilder()
      const key = Buffer.from(record.key)
      const value = Buffer.from(JSON.stringify(record.value))
      const slice = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
      builder.append(record.timeMs, slice(key), slice(value))
      transaction.append(record, builder.finish())
    }
    await transaction.commit()
    await engine.drain()
  }
  await engine.drain()
}

async function topicLines(topic: string): Promise<string[]> {
  const found: string[] = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    for (const [key, value] of await records(topic, partition)) {
      found.push(Buffer.from(`${key}=${value}`, 'latin1').toString())
    }
  }
  return found.filter(line => !line.startsWith('end')).sort()
}

/** Records as binary strings, a unit a byte. */
async function records(topic: string, partition: number): Promise<[string, string | null][]> {
  const found: [string, string | null][] = []
  for (let offset = 0; ; ) {
    const [response] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
    const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
    if (nextOffset === offset) return found
    offset = nextOffset
    for (const c of runs) {
      for (let i = 0; i < c.length; i++) {
        const valueStart = c.valueStart[i]!
        const key = c.bytes.latin1Slice(c.keyStart[i]!, c.keyEnd[i]!)
        found.push([key, valueStart < 0 ? null : c.bytes.latin1Slice(valueStart, c.valueEnd[i]!)])
      }
    }
  }
}

/** Stores of rows whose changelog, folded, is not what the database holds. */
async function unequalStores(): Promise<string[]> {
  const unequal: string[] = []
  for (const subTopology of engine.plan.subTopologies) {
    for (const store of storesOf(engine.plan, subTopology)) {
      if (store.kind !== 'rows') continue
      for (let partition = 0; partition < subTopology.partitions; partition++) {
        const folded = new Map<string, string>()
        for (const [key, value] of await records(changelogTopic('shop', store.name), partition)) {
          if (value === null) folded.delete(key)
          else folded.set(key, value)
        }
        const prefix = rowsPrefix(storeInDatabase('shop', store.name), partition)
        for await (const chunk of database.scan(databaseRange(prefix, {}))) {
          for (const { key, value } of chunk) {
            const row = key.latin1Slice(prefix.length)
            if (folded.get(row) === value.latin1Slice()) folded.delete(row)
            else folded.set(row, 'differs')
          }
        }
        if (folded.size > 0) unequal.push(`${store.name}/${partition}`)
      }
    }
  }
  return unequal
}

await feed()
const { incarnation } = log
const views = viewService({ engine, schedule: environment.schedule, incarnation })
async function viewLines(view: string): Promise<string[]> {
  const rows = []
  let cursor: string | undefined
  do {
    const page = await views.rows(view, { key: {}, limit: 1000, cursor })
    rows.push(...page.rows)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return lines(rows)
}
const results = {
  volume: await viewLines('volume'),
  revenue: await viewLines('revenue'),
  finals: await topicLines('finals'),
  unpaid: await topicLines('unpaid'),
  unequal: await unequalStores(),
  dead: (await records('shop-dead-letters', 0)).length,
}
await engine.stop()
await log.close()
await database.close()
process.stdout.write(`${JSON.stringify(results)}\n`)

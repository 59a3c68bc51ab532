/**
 * Joins orders with their payments on the durable embedded log and RocksDB, stops, and goes on
 * where it stopped. Run it twice: npx node examples/2-paid-orders.ts [DIR]
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { openEmbeddedLog } from '../log/embedded/index.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { openRocksDB } from '../state/rocksdb.ts'
import { Engine, encodePosition, json, Topology, textKey, viewService } from '../streams/index.ts'

const directory = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'paid-orders-')))

interface Order {
  customer: string
}
interface Payment {
  amount: number
}

const topology = new Topology('paid-orders')
const orders = topology.stream('orders', { key: textKey(), value: json<Order>() })
const payments = topology.stream('payments', { key: textKey(), value: json<Payment>() })
orders
  .join(payments, ({ customer }, { amount }) => ({ customer, amount }), {
    name: 'paid',
    beforeMs: 60_000,
    afterMs: 3_600_000,
    graceMs: 60_000,
  })
  .groupBy(({ customer }) => customer, { name: 'by-customer', key: textKey('customer') })
  .aggregate<number>({ name: 'spend', initial: () => 0, add: (sum, { amount }) => sum + amount })
  .view({
    name: 'spend',
    description: 'What each customer has paid',
    value: { spend: Type.Integer() },
    row: spend => ({ spend }),
  })

// The engine takes its clock, timers and randomness from its caller.
const environment = {
  clock: Date.now,
  schedule(task: () => void, delayMs: number) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
}
const database = await openRocksDB(directory)
const log = await openEmbeddedLog(database, environment)
const engine = await Engine.open({ topology, log, database, environment })
const running = engine.run()

const now = Date.now()
const batch = (key: string, value: Order | Payment) => {
  const builder = new RecordBatchBuilder()
  const bytes = (text: string) => ({
    bytes: Buffer.from(text),
    start: 0,
    end: Buffer.byteLength(text),
  })
  builder.append(now, bytes(key), bytes(JSON.stringify(value)))
  return builder.finish()
}
const transaction = log.begin()
const order = `order-${now}`
transaction.append({ topic: 'orders', partition: 0 }, batch(order, { customer: 'ann' }))
transaction.append({ topic: 'payments', partition: 0 }, batch(order, { amount: 42 }))
const receipts = await transaction.commit()

const { incarnation } = log
const views = viewService({ engine, schedule: environment.schedule, incarnation })
// Read your writes: wait until the view covers what was just committed.
const offsets = Object.fromEntries(receipts.map(({ topic, nextOffset }) => [topic, [nextOffset]]))
await views.waitFor(encodePosition({ incarnation, offsets }), 10_000)
const { rows } = await views.rows('spend', { key: {}, limit: 100 })
console.log(JSON.stringify({ directory, rows }))

await engine.stop()
await running
await log.close()
await database.close()

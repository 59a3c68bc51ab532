/**
 * Input of the reference job: orders, 95 % of them paid after an exponential delay of mean 10 s,
 * event time 1 ms apart, Avro behind a 5-byte frame, partition = number mod 4, one fixed seed.
 * Shuffled, keys have three orders each within 30 s, in any order, and payments after a mean of 60
 * s. The schemas (qty, priceCents, amountCents) are the benchmark's own, not the business's.
 */
import { AvroCursor } from '../contracts/avro-cursor.ts'
import { compileReader } from '../contracts/avro-reader.ts'
import type { AvroRecord } from '../contracts/avro-schema.ts'
import { AvroSink, compileWriter } from '../contracts/avro-writer.ts'
import type { EventLog } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import type { Header } from '../log/record-headers.ts'
import type { ValueSerde } from '../streams/serde.ts'

export const PARTITIONS = 4
const FRAME_BYTES = 5
const BATCH_RECORDS = 1_000

export const orderSchema: AvroRecord = {
  type: 'record',
  name: 'OrderCreated',
  fields: [
    { name: 'orderId', type: 'string' },
    { name: 'customerId', type: 'string' },
    { name: 'region', type: 'string' },
    { name: 'currency', type: 'string' },
    {
      name: 'items',
      type: {
        type: 'array',
        items: {
          type: 'record',
          name: 'Item',
          fields: [
            { name: 'sku', type: 'string' },
            { name: 'qty', type: 'int' },
            { name: 'priceCents', type: 'long' },
          ],
        },
      },
    },
    { name: 'createdAt', type: 'long' },
  ],
}

export const paymentSchema: AvroRecord = {
  type: 'record',
  name: 'PaymentAuthorized',
  fields: [
    { name: 'paymentId', type: 'string' },
    { name: 'orderId', type: 'string' },
    { name: 'amountCents', type: 'long' },
    { name: 'method', type: 'string' },
    { name: 'authorizedAt', type: 'long' },
  ],
}

/** A serde that reads the fields named and writes whole values. */
export function avroSerde<T>(schema: AvroRecord, id: number, fields: string[]): ValueSerde<T> {
  const interned = new Set(['region', 'currency', 'method'])
  const read = compileReader(schema, { fields, interned })
  const write = compileWriter(schema)
  const cursor = new AvroCursor()
  const sink = new AvroSink()
  return {
    encode(value) {
      sink.reset()
      sink.byte(0)
      sink.uint32(id)
      write(sink, value)
      return sink.copy()
    },
    decode(bytes, start, end) {
      cursor.open(bytes, start + FRAME_BYTES, end)
      return read(cursor) as T
    },
  }
}

export interface InputOptions {
  readonly orders: number
  readonly shuffled?: boolean
  /** Before the names of the topics. */
  readonly prefix?: string
  /** Headers of the records of an order; none unless given. */
  readonly headers?: (number: number) => readonly Header[] | undefined
}

interface Produced {
  readonly topic: 'orders' | 'payments'
  readonly number: number
  readonly key: string
  readonly timeMs: number
  readonly value: unknown
}

type Random = () => number

function seeded(): Random {
  let state = 42
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 4294967296
  }
}

/** Orders of one stretch of event time, in whose keys each occurs so often. */
const SHUFFLED_ORDERS = 30_000
const SHUFFLED_TIMES = 3

/** The number of the key of each order of a stretch. */
function shuffledNumbers(stretch: number, random: Random): Int32Array {
  const keys = SHUFFLED_ORDERS / SHUFFLED_TIMES
  const numbers = Int32Array.from(
    { length: SHUFFLED_ORDERS },
    (_, i) => stretch * keys + (i % keys),
  )
  for (let i = numbers.length - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1))
    const number = numbers[i]!
    numbers[i] = numbers[other]!
    numbers[other] = number
  }
  return numbers
}

/** Each order's number; orders of one number have one key. */
function* orderNumbers({ orders, shuffled }: InputOptions, random: Random): Generator<number> {
  for (let i = 0; i < orders; i += SHUFFLED_ORDERS) {
    const left = Math.min(SHUFFLED_ORDERS, orders - i)
    if (shuffled) yield* shuffledNumbers(i / SHUFFLED_ORDERS, random).subarray(0, left)
    else for (let number = i; number < i + left; number++) yield number
  }
}

function keyOf(number: number, shuffled = false): string {
  // Multiplied by an odd number, so that keys of one time are apart.
  const shown = shuffled ? Math.imul(number, 0x9e3779b1) >>> 0 : number
  return `order-${String(shown).padStart(shuffled ? 10 : 9, '0')}`
}

function* generate(options: InputOptions): Generator<Produced> {
  const random = seeded()
  const lagMs = options.shuffled ? 60_000 : 10_000
  const startMs = 1_750_000_000_000
  const due = new Map<number, { number: number; key: string; amount: number }[]>()
  const payments = function* (timeMs: number): Generator<Produced> {
    for (const { number, key, amount } of due.get(timeMs) ?? []) {
      const payment = { paymentId: `pay-${number}`, orderId: key, amountCents: amount }
      const value = { ...payment, method: 'card', authorizedAt: timeMs }
      yield { topic: 'payments', number, key, timeMs, value }
    }
    due.delete(timeMs)
  }
  let timeMs = startMs - 1
  for (const number of orderNumbers(options, random)) {
    timeMs++
    const key = keyOf(number, options.shuffled)
    const items = []
    let amount = 0
    for (let left = 1 + Math.floor(random() * 4); left > 0; left--) {
      const qty = 1 + Math.floor(random() * 3)
      const priceCents = 100 + Math.floor(random() * 9900)
      items.push({ sku: `sku-${Math.floor(random() * 1000)}`, qty, priceCents })
      amount += qty * priceCents
    }
    const customerId = `cust-${Math.floor(random() * 100000)}`
    const region = `region-${Math.floor(random() * 50)}`
    const value = { orderId: key, customerId, region, currency: 'EUR', items, createdAt: timeMs }
    yield { topic: 'orders', number, key, timeMs, value }
    if (random() < 0.95) {
      const paidMs = timeMs + Math.floor(-Math.log(1 - random()) * lagMs)
      const waiting = due.get(paidMs)
      const payment = { number, key, amount }
      if (waiting === undefined) due.set(paidMs, [payment])
      else waiting.push(payment)
    }
    yield* payments(timeMs)
  }
  for (const timeMs of [...due.keys()].sort((a, b) => a - b)) yield* payments(timeMs)
}

/** Appends the input to the log; returns how many records it has. */
export async function produceReference(log: EventLog, options: InputOptions): Promise<number> {
  const prefix = options.prefix ?? ''
  const serdes = {
    orders: avroSerde(orderSchema, 1, []),
    payments: avroSerde(paymentSchema, 2, []),
  }
  const builders = new Map<string, RecordBatchBuilder>()
  let records = 0
  const flush = async (id: string, builder: RecordBatchBuilder) => {
    const [topic, partition] = id.split('/')
    const transaction = log.begin()
    const target = { topic: `${prefix}${topic}`, partition: Number(partition) }
    transaction.append(target, builder.finish())
    await transaction.commit()
  }
  for (const { topic, number, key, timeMs, value } of generate(options)) {
    const id = `${topic}/${number % PARTITIONS}`
    const builder = builders.get(id) ?? new RecordBatchBuilder()
    builders.set(id, builder)
    const bytes = serdes[topic].encode(value)
    const keyBytes = Buffer.from(key)
    const slice = (buffer: Buffer) => ({ bytes: buffer, start: 0, end: buffer.length })
    builder.append(timeMs, slice(keyBytes), slice(bytes), options.headers?.(number))
    records++
    if (builder.count >= BATCH_RECORDS) await flush(id, builder)
  }
  for (const [id, builder] of builders) if (builder.count > 0) await flush(id, builder)
  return records
}

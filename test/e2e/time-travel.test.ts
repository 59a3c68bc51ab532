/**
 * What was an order at a time, and what had led there: asked of the running service over HTTP,
 * after out-of-order events, copies and kills, and compared with a replay of the raw events.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { eventTimeOf, eventTopics } from '../../contracts/topics.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { OrderFact } from '../../processors/orders/order-state.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { orderEvent } from '../support/order-events.ts'
import { factsInLog, once } from '../support/order-facts.ts'
import { replayed } from '../support/order-replay.ts'
import { Random } from '../support/random.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

const ORDERS = 120
const PAIRS = 1_000
const START_MS = Date.UTC(2026, 4, 4)
const SPAN_MS = 3_600_000
const DELAY_MS = 300_000

const random = new Random(11)
let folder: Awaited<ReturnType<typeof scratchFolder>>
let service: ServiceProcess
let position: string

async function start(): Promise<void> {
  const environment = { SERVICES: 'off', IDLE_AFTER: 'never', LOG_LEVEL: 'warn' }
  service = await ServiceProcess.start(folder.path, ['--no-demo'], environment)
}

/** Event lines in the order in which they arrive, minutes out of order, one in ten twice. */
function lines(): string[] {
  const arriving: { line: string; arrivalMs: number }[] = []
  for (let i = 0; i < ORDERS * 8; i++) {
    const orderId = `order-${random.below(ORDERS)}`
    const timestamp = START_MS + 1_000 * random.below(SPAN_MS / 1_000)
    const { type, ...value } = orderEvent(random, orderId, timestamp)
    const actor = random.pick(['ann', 'system'])
    const headers = { ce_id: `e${i}`, actor, correlationid: `c${i % 50}`, causationid: `e${i - 1}` }
    const topic = eventTopics[type]
    const line = JSON.stringify({ topic, type, key: orderId, timestamp, headers, value })
    for (let copies = random.below(10) === 0 ? 2 : 1; copies > 0; copies--) {
      arriving.push({ line, arrivalMs: timestamp + random.below(DELAY_MS) })
    }
  }
  return arriving.sort((a, b) => a.arrivalMs - b.arrivalMs).map(({ line }) => line)
}

async function feed(): Promise<void> {
  const all = lines()
  for (let at = 0, chunk = 1; at < all.length; at += 90, chunk++) {
    const part = all.slice(at, at + 90)
    if (chunk % 4 === 0) {
      // Whether the log has them or not, they are told again.
      const told = service.post(part).catch(() => {})
      await new Promise(resolve => setTimeout(resolve, random.below(30)))
      await service.kill()
      await told
      await start()
    }
    position = await service.post(part)
  }
}

/** The events of the log itself, each once. */
async function rawFacts(): Promise<OrderFact[]> {
  await service.stop()
  const database = await openRocksDB(join(folder.path, 'db'))
  const log = await openEmbeddedLog(database, effects)
  const facts = await factsInLog(log)
  await log.close()
  await database.close()
  expect(once(facts).length).toBeLessThan(facts.length)
  return once(facts)
}

interface Told {
  readonly orderId: string
  readonly asOf: number
  readonly order: { readonly status: number; readonly body: Record<string, unknown> }
  readonly events: { readonly status: number; readonly body: Record<string, unknown> }
}

async function get(path: string) {
  const headers = { 'millrace-position': position }
  const response = await fetch(service.url + path, { headers })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

async function askPairs(): Promise<Told[]> {
  const told: Told[] = []
  while (told.length < PAIRS) {
    const pairs = Array.from({ length: 50 }, async (): Promise<Told> => {
      const orderId = `order-${random.below(ORDERS)}`
      const asOf = START_MS + random.below(SPAN_MS + 60_000)
      const path = `/v1/orders/${orderId}`
      const [order, events] = await Promise.all([
        get(`${path}?asOf=${asOf}`),
        get(`${path}/events?asOf=${new Date(asOf).toISOString()}`),
      ])
      return { orderId, asOf, order, events }
    })
    told.push(...(await Promise.all(pairs)))
  }
  return told
}

type Row = Record<string, unknown>

/** All orders as of a time, page by page. */
async function askRange(asOf: number): Promise<Row[]> {
  const rows: Row[] = []
  for (let cursor = ''; ; ) {
    const path = `/v1/views/order-status/rows?limit=17&asOf=${asOf}${cursor}`
    const { status, body } = await get(path)
    expect(status).toBe(200)
    rows.push(...(body.rows as Row[]))
    if (body.next === null) return rows
    cursor = `&cursor=${body.next}`
  }
}

let pairs: Told[]
let ranges: { asOf: number; rows: Row[] }[]
let facts: OrderFact[]

beforeAll(async () => {
  folder = await scratchFolder()
  await start()
  await feed()
  pairs = await askPairs()
  ranges = []
  for (let i = 0; i < 8; i++) {
    const asOf = START_MS - 1 + random.below(SPAN_MS + 2)
    ranges.push({ asOf, rows: await askRange(asOf) })
  }
  facts = await rawFacts()
})

afterAll(async () => {
  await service?.kill()
  await folder?.remove()
})

/** What was known of an order at the time, and what it came to. */
const replayTo = (orderId: string, asOf: number) => replayed(orderId, knownAt(asOf))
const knownAt = (asOf: number) => facts.filter(({ event }) => eventTimeOf(event) <= asOf)

test('1,000 random (order, time) pairs over HTTP: the answer is a replay up to then', () => {
  const statuses = new Set<unknown>()
  let changed = 0
  for (const { orderId, asOf, order, events } of pairs) {
    const then = replayTo(orderId, asOf)
    const pair = `${orderId} as of ${asOf}`
    if (then.events.length === 0) {
      expect([order.status, order.body.code], pair).toEqual([404, 'ORDER_UNKNOWN'])
      expect([events.status, events.body.code], pair).toEqual([404, 'ORDER_UNKNOWN'])
      continue
    }
    expect(order.body, pair).toEqual(then.order)
    const { version, status, events: told } = events.body
    expect([version, status], pair).toEqual([then.order.version, then.order.status])
    const withoutChains = (told as Row[]).map(({ chain: _, ...fact }) => fact)
    expect(withoutChains, pair).toEqual(then.events)
    statuses.add(status)
    if (replayTo(orderId, Number.POSITIVE_INFINITY).order.version !== version) changed++
  }
  expect(statuses.size).toBeGreaterThan(6)
  expect(changed).toBeGreaterThan(PAIRS / 2)
})

test('by range as well: all orders that were, as they were, page by page', () => {
  const sizes = new Set<number>()
  for (const { asOf, rows } of ranges) {
    const ids = [...new Set(knownAt(asOf).map(({ event }) => event.orderId))].sort()
    const wanted = ids.map(orderId => {
      const { order, events } = replayTo(orderId, asOf)
      return { ...order, events }
    })
    expect(rows, `as of ${asOf}`).toEqual(wanted)
    sizes.add(rows.length)
  }
  expect(sizes.size).toBeGreaterThan(2)
})

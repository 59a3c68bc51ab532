import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { partitionOf } from '../../log/murmur2.ts'
import { cdnowLines, cdnowPath, cdnowPurchases, purchaseLines } from '../support/cdnow.ts'
import { type CdnowTruth, cdnowTruth, topCustomers } from '../support/cdnow-truth.ts'
import { metricSum } from '../support/metrics.ts'
import {
  type DeadLetter,
  millrace,
  ServiceProcess,
  scratchFolder,
} from '../support/service-process.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const graceMs = 10 * minuteMs
const requestBytes = 12 * 1024 * 1024
/** The demands are on the results; a machine that does other things too may take its time. */
const waitMsMax = 200_000

/** What is final depends on nothing but the data when no partition ever counts as idle. */
const environment = { VIEW_RETENTION: 'forever', IDLE_AFTER: 'never', LOG_LEVEL: 'warn' }
const closing: (() => Promise<unknown>)[] = []

afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function scratch(): Promise<string> {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  return path
}

async function start(dataDir: string): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, ['--no-demo'], environment)
  closing.push(() => service.kill())
  return service
}

interface Row {
  readonly [field: string]: unknown
}
type Views = Readonly<Record<string, readonly Row[]>>

async function viewsOf(service: ServiceProcess, position: string): Promise<Views> {
  await service.reach(position, waitMsMax)
  const { views } = await service.get<{ views: { name: string }[] }>('/v1/views')
  const rows: Record<string, Row[]> = {}
  for (const { name } of views) {
    // A row is 1 KiB, with all its events.
    const enough = name === 'order-status' ? 5000 : undefined
    rows[name] = await service.rows(name, position, enough)
  }
  return rows
}

/** Imports a file into a folder that no instance holds, then starts the service on it. */
async function imported(lines: readonly string[]) {
  const dataDir = await scratch()
  const file = join(await scratch(), 'cdnow.ndjson')
  await writeFile(file, `${lines.join('\n')}\n`)
  const { code, output } = await millrace(['import', file, '--data-dir', dataDir, '--json'])
  const { position, ...counts } = JSON.parse(output.trimEnd().split('\n').at(-1)!)
  expect({ code, ...counts }).toMatchObject({ code: 0, accepted: lines.length, rejectedCount: 0 })
  const service = await start(dataDir)
  return { service, position: position as string, views: await viewsOf(service, position) }
}

/** Posts the lines to a running instance, request by request. */
async function posted(lines: readonly string[]) {
  const service = await start(await scratch())
  let position = ''
  for (const body of bodiesOf(lines)) {
    const headers = { 'content-type': 'application/x-ndjson' }
    const response = await fetch(`${service.url}/v1/events`, { method: 'POST', headers, body })
    const answer = (await response.json()) as { position: string; rejected: unknown }
    expect(answer).toMatchObject({ accepted: body.trimEnd().split('\n').length, rejected: [] })
    position = answer.position
  }
  return { service, position, views: await viewsOf(service, position) }
}

function bodiesOf(lines: readonly string[]): string[] {
  const bodies: string[] = []
  let body: string[] = []
  let size = 0
  for (const line of lines) {
    body.push(line)
    size += line.length + 1
    if (size < requestBytes) continue
    bodies.push(body.join('\n'))
    body = []
    size = 0
  }
  if (body.length > 0) bodies.push(body.join('\n'))
  return bodies
}

const number = (row: Row, field: string) => row[field] as number
const sum = (rows: readonly Row[], field: string) =>
  rows.reduce((total, row) => total + number(row, field), 0)

describe('the CDNOW purchases, in time order', () => {
  let truth: CdnowTruth
  let views: Views
  let others: Views
  let service: ServiceProcess
  let position: string

  beforeAll(async () => {
    truth = cdnowTruth(cdnowPath)
    const lines = cdnowLines()
    const [first, second] = await Promise.all([imported(lines), posted(lines)])
    others = second.views
    ;({ service, position, views } = first)
    await second.service.stop()
  }, 500_000)

  test('an import and posted requests give the same rows in every view', () => {
    expect(Object.keys(views).length).toBeGreaterThanOrEqual(9)
    expect(Object.keys(others)).toEqual(Object.keys(views))
    for (const [name, rows] of Object.entries(views)) {
      expect(rows.length, name).toBe(others[name]!.length)
      expect(rows, name).toEqual(others[name])
    }
  })

  test('revenue is right, by month and by minute', () => {
    const months = new Map<string, number>()
    const minutes = new Map<number, unknown>()
    for (const row of views.revenue!) {
      const start = number(row, 'windowStart')
      const month = new Date(start).toISOString().slice(0, 7)
      months.set(month, (months.get(month) ?? 0) + number(row, 'revenueMinor'))
      expect(minutes.has(start)).toBe(false)
      minutes.set(start, { paidOrders: row.paidOrders, revenueMinor: row.revenueMinor })
    }
    expect(months.size).toBe(18)
    expect(months).toEqual(truth.revenueByMonth)
    expect(minutes).toEqual(truth.revenueByMinute)
  })

  test('the trend counts every payment in twelve windows', () => {
    expect(sum(views['revenue-trend']!, 'paidOrders')).toBe(12 * truth.payments)
    expect(sum(views['revenue-trend']!, 'revenueMinor')).toBe(12 * 250_031_563)
  })

  test('volume is right, by minute', () => {
    const minutes = views['order-volume']!.map(row => [
      row.windowStart,
      { orders: row.orders, items: row.items, grossMinor: row.grossMinor },
    ])
    expect(new Map(minutes as [number, unknown][])).toEqual(truth.volumeByMinute)
    expect(minutes.length).toBe(truth.volumeByMinute.size)
  })

  test('each customer has spent what the file says, and the best are the best', () => {
    const customers = views['customer-profile']!.map(row => ({
      customerId: row.customerId as string,
      orders: row.orders,
      spendMinor: (row.spendMinor as { USD: number }).USD,
      firstOrderAt: row.firstOrderAt,
      lastOrderAt: row.lastOrderAt,
    }))
    expect(customers.length).toBe(23_570)
    expect(customers).toEqual(truth.customers)
    const best = customers
      .toSorted((a, b) => b.spendMinor - a.spendMinor || (a.customerId < b.customerId ? -1 : 1))
      .slice(0, 100)
    expect(best).toEqual(topCustomers(truth, 100))
  })

  test('sessions are right, and sum up to what each customer spent', () => {
    const sessions = views['customer-sessions']!.map(row => ({
      customerId: row.customerId as string,
      firstAt: number(row, 'windowStart'),
      lastAt: number(row, 'windowEnd'),
      orders: row.orders,
      spendMinor: number(row, 'spendMinor'),
    }))
    sessions.sort((a, b) =>
      a.customerId === b.customerId ? a.firstAt - b.firstAt : a.customerId < b.customerId ? -1 : 1,
    )
    expect(sessions.length).toBe(truth.sessions.length)
    expect(sessions).toEqual(truth.sessions)
    const spent = new Map<string, number>()
    for (const { customerId, spendMinor } of sessions) {
      spent.set(customerId, (spent.get(customerId) ?? 0) + spendMinor)
    }
    expect(spent).toEqual(new Map(truth.customers.map(one => [one.customerId, one.spendMinor])))
  })

  test('active customers are exact up to 256 an hour', () => {
    const rows = views['active-customers']!
    expect(rows.length).toBe(truth.customersByHour.size)
    for (const row of rows) {
      const expected = truth.customersByHour.get(number(row, 'windowStart'))!
      if (expected <= 256) expect(row.customers).toBe(expected)
      else expect(Math.abs(number(row, 'customers') / expected - 1)).toBeLessThan(0.04)
    }
  })

  test('what nobody paid are the free orders', () => {
    expect(views['unpaid-orders']!.length).toBe(truth.purchases - truth.payments)
    expect(views['unpaid-orders']!.every(row => row.totalMinor === 0)).toBe(true)
  })

  test('nothing was late, repeated or put aside', async () => {
    expect(await service.deadLetters(position)).toEqual([])
    const metrics = await service.metrics()
    expect(metricSum(metrics, 'dropped_records_total')).toBe(0)
    expect(metricSum(metrics, 'process_total', { step: 'orders-once' })).toBe(truth.purchases)
    expect(metricSum(metrics, 'process_total', { step: 'payments-once' })).toBe(truth.payments)
  })
})

interface Line {
  readonly topic: string
  readonly key: string
  readonly timestamp: number
}

/** Of the records of a topic, those that a rule calls late: `topic/partition/offset`. */
function lateOf(
  lines: readonly Line[],
  topic: string,
  isLate: (timeMs: number, streamTimeMs: number) => boolean,
): string[] {
  const streamTimes = [0, 0, 0, 0]
  const offsets = [0, 0, 0, 0]
  const late: string[] = []
  for (const { key, timestamp } of lines.filter(line => line.topic === topic)) {
    const bytes = Buffer.from(key)
    const partition = partitionOf(bytes, 0, bytes.length, 4)
    streamTimes[partition] = Math.max(streamTimes[partition]!, timestamp)
    const place = `${topic}/${partition}/${offsets[partition]++}`
    if (isLate(timestamp, streamTimes[partition]!)) late.push(place)
  }
  return late.sort()
}

/** Late for tumbling windows of this size. */
const lateInWindow = (sizeMs: number) => (timeMs: number, streamTimeMs: number) =>
  timeMs - (timeMs % sizeMs) + sizeMs + graceMs <= streamTimeMs

test('in the order of the file most records are late: each is a dead letter, none is lost', async () => {
  const purchases = cdnowPurchases().slice(0, 1000)
  const lines = purchases.flatMap((purchase, i) => purchaseLines(purchase, i + 1))
  const { service, position, views } = await imported(lines)
  const letters = await service.deadLetters(position)
  const metrics = await service.metrics()
  expect(new Set(letters.map(letter => letter.reason))).toEqual(new Set(['late']))
  const byStep = Map.groupBy(letters, letter => letter.step)
  const places = (step: string) => (byStep.get(step) ?? []).map(placeOf).sort()

  const parsed = lines.map(line => JSON.parse(line) as Line)
  const expected = {
    'order-volume': lateOf(parsed, 'orders', lateInWindow(minuteMs)),
    'active-customers': lateOf(parsed, 'orders', lateInWindow(hourMs)),
    'top-products': lateOf(parsed, 'orders', lateInWindow(hourMs)),
    'customer-sessions': lateOf(parsed, 'orders', (time, stream) => time + graceMs < stream),
    'payment-outcomes': lateOf(parsed, 'payments', lateInWindow(5 * minuteMs)),
    'customer-profile': [],
  }
  for (const [step, late] of Object.entries(expected)) expect(places(step), step).toEqual(late)
  expect(expected['order-volume'].length).toBeGreaterThan(900)

  // Records in = applied + late, exactly.
  const into = (step: string) => metricSum(metrics, 'process_total', { step })
  const late = (step: string) => metricSum(metrics, 'dropped_records_total', { step })
  for (const [step, own] of byStep) expect(own.length, step).toBe(late(step))
  const applied = {
    'order-volume': sum(views['order-volume']!, 'orders'),
    'customer-sessions': sum(views['customer-sessions']!, 'orders'),
    'customer-profile': sum(views['customer-profile']!, 'orders'),
    'payment-outcomes': sum(views['payment-outcomes']!, 'authorized'),
    revenue: sum(views.revenue!, 'paidOrders'),
  }
  for (const [step, count] of Object.entries(applied)) {
    expect(count + late(step), step).toBe(into(step))
  }
  expect(applied['customer-profile']).toBe(1000)
  expect(sum(views['revenue-trend']!, 'paidOrders') + late('revenue-trend')).toBe(
    12 * into('revenue-trend'),
  )
})

function placeOf({ topic, partition, offset }: DeadLetter): string {
  return `${topic}/${partition}/${offset}`
}

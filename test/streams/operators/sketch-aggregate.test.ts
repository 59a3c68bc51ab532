import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import {
  DDSketch,
  ddSketchCodec,
  HyperLogLog,
  hyperLogLogCodec,
  json,
  sessions,
  Topology,
  text,
  textKey,
  tumbling,
} from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { latest, proofSuite } from '../../oracle/harness.ts'
import { disordered, type Stamped } from '../../oracle/inputs.ts'

interface Visit {
  page: string
  customer: string
  ms: number
}

const WINDOW_MS = 500
const GRACE_MS = 60

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const addCustomer = (sketch: HyperLogLog, visit: Visit) => {
  sketch.addBytes(Buffer.from(visit.customer))
  return sketch
}

/** Distinct customers and latencies by page, in windows, sessions and for ever. */
function pages(): Topology {
  const topology = new Topology('pages')
  const grouped = topology
    .stream('visits', { key: textKey(), value: json<Visit>() })
    .groupBy(visit => visit.page, { name: 'by-page', key: textKey('page') })
  const customers = grouped.windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS })).aggregate({
    name: 'customers',
    initial: () => new HyperLogLog(),
    add: addCustomer,
    codec: hyperLogLogCodec,
    retentionMs: 1e12,
  })
  customers.view({
    name: 'customers',
    description: 'Distinct customers',
    value: { customers: Type.Integer() },
    row: sketch => ({ customers: sketch.count() }),
  })
  customers
    .toStream()
    .map((sketch, { key, windowStart }) => [`${key}@${windowStart}`, `${sketch.count()}`])
    .to('counts', { key: textKey(), value: text() })
  grouped
    .aggregate({
      name: 'latency',
      initial: () => new DDSketch(),
      add: (sketch, visit) => {
        sketch.add(visit.ms)
        return sketch
      },
      codec: ddSketchCodec,
    })
    .view({
      name: 'latency',
      description: 'Latency',
      value: { count: Type.Integer(), p50: Type.Number(), max: Type.Number() },
      row: sketch => ({ count: sketch.count, p50: sketch.quantile(0.5), max: sketch.max }),
    })
  grouped
    .windowedBy(sessions(15, { graceMs: GRACE_MS }))
    .aggregate({
      name: 'stays',
      initial: () => new HyperLogLog(),
      add: addCustomer,
      merge: (left, right) => {
        left.merge(right)
        return left
      },
      codec: hyperLogLogCodec,
      retentionMs: 1e12,
    })
    .view({
      name: 'stays',
      description: 'Customers of a stay',
      value: { customers: Type.Integer() },
      row: sketch => ({ customers: sketch.count() }),
    })
  return topology
}

const visit = (timeMs: number, customer: string, page = 'home') => ({
  key: customer,
  value: { page, customer, ms: timeMs },
  timeMs,
})

test('each result of a sketch that changes in place is what it was then', async () => {
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000 })
  open.push(driver)
  const seen: unknown[] = []
  const follow = driver.views.subscribe('customers', ({ changes }) => {
    seen.push(...changes.map(({ row }) => row.customers))
  })
  for await (const _ of follow.snapshot);
  await driver.pipe('visits', visit(1, 'ann'))
  await driver.pipe('visits', visit(2, 'bob'), visit(3, 'ann'))
  await driver.pipe('visits', visit(4, 'eve'))
  const counts = await driver.output('counts', { key: textKey(), value: text() })
  expect(counts.map(({ value }) => value)).toEqual(['1', '2', '3'])
  expect(seen).toEqual([1, 2, 3])
  follow.close()
})

test('batches of one round give each its own result', async () => {
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000, partitions: 2 })
  open.push(driver)
  await driver.append('visits', [
    { ...visit(1, 'ann'), partition: 0 },
    { ...visit(1, 'bob'), partition: 1 },
  ])
  await driver.process()
  const counts = await driver.output('counts', { key: textKey(), value: text() })
  expect(counts.map(({ value }) => value)).toEqual(['1', '2'])
})

test('an epoch that runs while the one before commits does not show in its changes', async () => {
  const database = new MemoryDatabase({
    beforeCommit: () => new Promise(resolve => setTimeout(resolve, 2)),
  })
  const settings = { epochRecordsMax: 1, alignMs: 0 }
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000, database, settings })
  open.push(driver)
  const seen: unknown[] = []
  const follow = driver.views.subscribe('customers', ({ changes }) => {
    seen.push(...changes.map(({ row }) => row.customers))
  })
  for await (const _ of follow.snapshot);
  await driver.append('visits', [
    visit(1, 'ann'),
    visit(2, 'bob'),
    visit(3, 'eve'),
    visit(4, 'joe'),
  ])
  await driver.process()
  expect(seen).toEqual([1, 2, 3, 4])
  follow.close()
})

test('the value before a change is not the changed sketch', async () => {
  const topology = new Topology('before')
  const changes: string[] = []
  const sketches = topology
    .stream('visits', { key: textKey(), value: json<Visit>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .aggregate({
      name: 'sketches',
      initial: () => new HyperLogLog(),
      add: addCustomer,
      codec: hyperLogLogCodec,
    })
  topology.add({
    kind: 'operator',
    name: 'spy',
    type: 'spy',
    parents: [sketches.edge],
    stores: [],
    emission: 'records',
    timeDependent: false,
    create: () => ({
      process(input) {
        input.values.forEach((value, i) => {
          const before = input.previous?.[i] as HyperLogLog | undefined
          changes.push(`${before?.count()}>${(value as HyperLogLog).count()}`)
        })
      },
    }),
  })
  const driver = await TopologyTestDriver.open(topology, { startMs: 1_000_000 })
  open.push(driver)
  const named = (customer: string) => ({ ...visit(1, customer), key: 'k' })
  await driver.append('visits', [named('ann'), named('bob')])
  await driver.append('visits', [named('eve')])
  await driver.process()
  await driver.pipe('visits', named('joe'))
  expect(changes.at(-1)).toBe('3>4')
})

interface Results {
  customers: string[]
  counts: string[]
  latency: string[]
  stays: string[]
}

function oracle(records: readonly Stamped[]): Results {
  const windows = new Map<string, { customers: Set<string>; timeMs: number }>()
  const latency = new Map<string, number[]>()
  const stays: { page: string; start: number; end: number; customers: Set<string> }[] = []
  const last = new Map<string, (typeof stays)[number]>()
  for (const { value, timeMs, streamTimeMs } of records) {
    const { page, customer, ms } = value as Visit
    latency.set(page, [...(latency.get(page) ?? []), ms])
    const start = timeMs - (timeMs % WINDOW_MS)
    if (start + WINDOW_MS + GRACE_MS > streamTimeMs) {
      const window = windows.get(`${page}@${start}`) ?? { customers: new Set(), timeMs: 0 }
      windows.set(`${page}@${start}`, { customers: window.customers.add(customer), timeMs })
    }
    if (timeMs + GRACE_MS < streamTimeMs) continue
    let stay = last.get(page)
    if (stay === undefined || stay.end + 15 < timeMs) {
      stay = { page, start: timeMs, end: timeMs, customers: new Set() }
      stays.push(stay)
      last.set(page, stay)
    }
    stay.end = timeMs
    stay.customers.add(customer)
  }
  return {
    customers: [...windows].map(([id, { customers }]) => `${id}=${customers.size}`).sort(),
    counts: [...windows].map(([id, w]) => `${id}=${w.customers.size}@${w.timeMs}`).sort(),
    latency: [...latency]
      .map(([page, list]) => `${page}=${list.length},${Math.max(...list)}`)
      .sort(),
    stays: stays.map(s => `${s.page}[${s.start},${s.end}]=${s.customers.size}`).sort(),
  }
}

proofSuite<Results>('sketches that change in place', {
  topology: pages,
  partitions: 3,
  inputs: random =>
    disordered(random, {
      topics: ['visits'],
      partitions: 3,
      count: 300,
      stepMs: 9,
      delayMs: 70,
      record: (r, { i }) => ({
        key: `k${i}`,
        value: {
          page: r.pick(['home', 'shop']),
          customer: `c${r.below(60)}`,
          ms: 1 + r.below(999),
        },
      }),
      end: { timeMs: 2_800, value: { page: 'end', customer: 'end', ms: 1 } },
    }),
  results: async driver => ({
    customers: (await driver.rows('customers'))
      .map(row => `${row.page}@${row.windowStart}=${row.customers}`)
      .sort(),
    counts: await latest(driver, 'counts'),
    latency: (await driver.rows('latency')).map(r => `${r.page}=${r.count},${r.max}`).sort(),
    stays: (await driver.rows('stays'))
      .map(r => `${r.page}[${r.windowStart},${r.windowEnd}]=${r.customers}`)
      .sort(),
  }),
  oracle,
})

/** Sketches that change in place, in windows, in sessions and for ever. */
import { Type } from 'typebox'
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
import { disordered, type Stamped } from '../inputs.ts'
import { latest, type NamedProof, prove } from '../proof.ts'

export interface Visit {
  page: string
  customer: string
  ms: number
}

export const WINDOW_MS = 500
export const GRACE_MS = 60

export const addCustomer = (sketch: HyperLogLog, visit: Visit) => {
  sketch.addBytes(Buffer.from(visit.customer))
  return sketch
}

/** Distinct customers and latencies by page, in windows, sessions and for ever. */
export function pages(): Topology {
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

export const sketchProofs: readonly NamedProof[] = [
  {
    name: 'sketches that change in place',
    proof: prove({
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
    }),
  },
]

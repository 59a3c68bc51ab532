/** Sales by region in hopping windows. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { fieldsKey, hopping, json, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove } from '../proof.ts'

export interface Sale {
  region: string
  amount: number
}

export function salesByRegion(
  options: { emit?: 'update' | 'close'; hop?: number; retentionMs?: number } = {},
) {
  const topology = new Topology('sales')
  topology
    .stream('sales', { key: textKey(), value: json<Sale>() })
    .groupBy(sale => ({ region: sale.region }), { name: 'by-region', key: fieldsKey('region') })
    .windowedBy(hopping(60_000, { advanceMs: options.hop ?? 60_000, graceMs: 10_000 }))
    .aggregate({
      name: 'sales-by-region',
      initial: () => ({ count: 0, amount: 0 }),
      add: (sum, sale) => ({ count: sum.count + 1, amount: sum.amount + sale.amount }),
      emit: options.emit,
      retentionMs: options.retentionMs ?? 600_000,
    })
    .view({
      name: 'sales',
      description: 'Sales',
      value: { count: Type.Integer(), amount: Type.Integer() },
    })
    .toStream()
    .mapValues((sum, key) => `${key.key.region}@${key.windowStart}=${sum.count}`)
    .selectKey(line => line)
    .to('lines', { key: textKey(), value: text() })
  return topology
}

const HOP_MS = 20_000
const SIZE_MS = 60_000
const GRACE_MS = 10_000

/** Every window that a record is on time for. */
function oracle(records: readonly Stamped[], watermarkMs: number, emit: 'update' | 'close') {
  const windows = new Map<string, { start: number; count: number; amount: number; time: number }>()
  const dead: string[] = []
  for (const record of records) {
    const { region, amount } = record.value as Sale
    const { timeMs } = record
    for (let start = 0; start <= timeMs; start += HOP_MS) {
      if (timeMs >= start + SIZE_MS) continue
      if (start + SIZE_MS + GRACE_MS <= record.streamTimeMs) {
        dead.push(deadLetter('late', record))
        continue
      }
      const id = `${region}@${start}`
      const window = windows.get(id) ?? { start, count: 0, amount: 0, time: 0 }
      const { count } = window
      windows.set(id, { start, count: count + 1, amount: window.amount + amount, time: timeMs })
    }
  }
  const isFinal = (start: number) => start + SIZE_MS + GRACE_MS <= watermarkMs
  const all = [...windows]
  return {
    rows: all
      .map(([id, { start, count, amount }]) => `${id}=${count},${amount},${isFinal(start)}`)
      .sort(),
    lines: all
      .filter(([, { start }]) => emit === 'update' || isFinal(start))
      .map(([id, { count, time }]) => `${id}=${count}@${time}`)
      .sort(),
    dead: dead.sort(),
  }
}

export const windowProofs: readonly NamedProof[] = (['update', 'close'] as const).map(emit => ({
  name: `hopping windows, emit on ${emit}`,
  proof: prove({
    topology: () => salesByRegion({ emit, hop: HOP_MS, retentionMs: 1e12 }),
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['sales'],
        partitions: 3,
        count: 250,
        stepMs: 1500,
        delayMs: 25_000,
        record: (r, { i }) => ({
          key: `k${i}`,
          value: { region: r.pick(['north', 'south', 'île']), amount: r.below(9) },
        }),
        end: { timeMs: 380_000, value: { region: 'end', amount: 0 } },
      }),
    results: async driver => {
      const rows = await driver.rows('sales')
      const output = await driver.output('lines', { key: textKey(), value: text() })
      // A line is its own key, so updates of a window lie in several partitions: by their count.
      const countOf = (line: string) => Number(/=(\d+)/.exec(line)![1])
      const last = new Map<string, string>()
      for (const { value, timeMs } of output) {
        const [id] = value!.split('=') as [string]
        const line = `${value}@${timeMs}`
        if (countOf(last.get(id) ?? '=0') < countOf(line)) last.set(id, line)
      }
      const lines = output.map(({ value, timeMs }) => `${value}@${timeMs}`)
      return {
        rows: rows
          .map(r => `${r.region}@${r.windowStart}=${r.count},${r.amount},${r.final}`)
          .sort(),
        lines: (emit === 'close' ? lines : [...last.values()]).sort(),
        dead: await deadLetters(driver),
      }
    },
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, emit),
    reaches: ({ rows, dead }) => {
      assert(rows.length > 30)
      assert(dead.length > 0)
    },
  }),
}))

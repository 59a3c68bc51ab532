/** The best products of a window, by scores that rise and fall. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Line {
  currency: string
  sku: string
  gross: number
}

export const WINDOW_MS = 1000
export const GRACE_MS = 100
interface Options {
  k?: number
  emit?: 'update' | 'close'
  retentionMs?: number
  /** Sums that are changed in place. */
  mutable?: boolean
}

/** Sums by currency and sku; a sku whose sum is exactly 0 is taken out. */
export function topProducts(options: Options = {}): Topology {
  const { k = 3, emit, retentionMs = 1e12, mutable = false } = options
  const topology = new Topology('top')
  topology
    .stream('lines', { key: textKey(), value: json<Line>() })
    .groupBy(line => line.currency, { name: 'by-currency', key: textKey('currency') })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .topK<{ lines: number; gross: number }>({
      name: 'top',
      k,
      item: line => line.sku,
      initial: () => ({ lines: 0, gross: 0 }),
      add: (sum, line) => {
        const next = mutable ? sum : { ...sum }
        next.lines++
        next.gross += line.gross
        return (next.gross === 0 ? null : next) as typeof next
      },
      score: sum => sum.gross,
      codec: { ...json<{ lines: number; gross: number }>(), mutable },
      emit,
      retentionMs,
    })
    .view({
      name: 'top',
      description: 'Top products',
      value: { sku: Type.String(), lines: Type.Integer(), gross: Type.Integer() },
      row: ({ item, value }) => ({ sku: item, ...value }),
    })
    .toStream()
    .map((entry, { key, windowStart }) => [
      `${key.group}@${windowStart}#${key.rank}`,
      (entry === null ? null : `${entry.item},${entry.value.lines},${entry.value.gross}`) as string,
    ])
    .to('changes', { key: textKey(), value: text() })
  return topology
}

export const ranks = async (driver: Outcome) =>
  (await driver.rows('top')).map(
    row => `${row.currency}@${row.windowStart}#${row.rank}=${row.sku},${row.gross}`,
  )
interface Results {
  rows: string[]
  changes: string[]
  dead: string[]
}

function oracle(records: readonly Stamped[], watermarkMs: number, emit: 'update' | 'close') {
  const windows = new Map<string, Map<string, { lines: number; gross: number; timeMs: number }>>()
  const dead: string[] = []
  for (const record of records) {
    const { currency, sku, gross } = record.value as Line
    const start = record.timeMs - (record.timeMs % WINDOW_MS)
    if (start + WINDOW_MS + GRACE_MS <= record.streamTimeMs) {
      dead.push(deadLetter('late', record))
      continue
    }
    const id = `${currency}@${start}`
    const items = windows.get(id) ?? new Map()
    windows.set(id, items)
    const sum = items.get(sku) ?? { lines: 0, gross: 0, timeMs: 0 }
    items.set(sku, { lines: sum.lines + 1, gross: sum.gross + gross, timeMs: record.timeMs })
  }
  const rows: string[] = []
  const changes: string[] = []
  for (const [id, items] of windows) {
    const best = [...items].sort(([a, x], [b, y]) => y.gross - x.gross || (a < b ? -1 : 1))
    const isFinal = Number(id.split('@')[1]) + WINDOW_MS + GRACE_MS <= watermarkMs
    best.slice(0, 3).forEach(([sku, sum], i) => {
      rows.push(`${id}#${i + 1}=${sku},${sum.gross}`)
      if (emit === 'update' || isFinal) {
        changes.push(`${id}#${i + 1}=${sku},${sum.lines},${sum.gross}@${sum.timeMs}`)
      }
    })
  }
  return { rows: rows.sort(), changes: changes.sort(), dead: dead.sort() }
}

export const topKProofs: readonly NamedProof[] = (['update', 'close'] as const).map(emit => ({
  name: `top-k of scores that rise and fall, emit on ${emit}`,
  proof: prove<Results>({
    topology: () => topProducts({ emit }),
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['lines'],
        partitions: 3,
        count: 400,
        stepMs: 10,
        delayMs: 350,
        // One above a multiple of 1000: no sum is 0, which would take the item out.
        record: (r, { i }) => ({
          key: `k${i}`,
          value: {
            currency: r.pick(['EUR', 'CHF']),
            sku: `s${r.below(12)}`,
            gross: 1000 * (r.below(50) - 20) + 1,
          },
        }),
        end: { timeMs: 4_150, value: { currency: 'end', sku: 'end', gross: 1 } },
      }),
    results: async driver => ({
      rows: (await ranks(driver)).sort(),
      changes: await latest(driver, 'changes'),
      dead: await deadLetters(driver),
    }),
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, emit),
    reaches: ({ rows, dead }) => {
      assert(rows.length > 20)
      assert(dead.length > 0)
    },
  }),
}))

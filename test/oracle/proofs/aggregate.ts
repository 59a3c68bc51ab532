/** Sums by group, for ever and with a time to live. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Event {
  group: string
  amount: number
}

interface Sum {
  count: number
  amount: number
}

export function sums(ttlMs?: number): Topology {
  const topology = new Topology('sums')
  topology
    .stream('events', { key: textKey(), value: json<Event>() })
    .groupBy(event => event?.group ?? null, { name: 'by-group', key: textKey('group') })
    .aggregate<Sum>({
      name: 'sum-by-group',
      initial: () => ({ count: 0, amount: 0 }),
      add: (sum, event) => {
        const next = { count: sum.count + 1, amount: sum.amount + event.amount }
        if (next.amount > 1000) throw new RangeError(`the sum ${next.amount} is above 1000`)
        return next.amount < 0 ? null : next
      },
      ttlMs,
    })
    .view({
      name: 'sums',
      description: 'Sums',
      value: { count: Type.Integer(), amount: Type.Integer() },
    })
    .toStream()
    .mapValues(sum => (sum === null ? null : `${sum.count},${sum.amount}`) as string)
    .to('changes', { key: textKey(), value: text() })
  return topology
}

const GROUPS = ['a', 'b', 'c', 'dd', 'é', 'f']

/** Records that a sum above 1000 never occurs for, so that order does not matter. */
function inputs(options: { ownPartition: boolean; endMs: number }) {
  return (random: Parameters<typeof disordered>[0]) =>
    disordered(random, {
      partitions: 3,
      count: 300,
      stepMs: 10,
      delayMs: 120,
      record: (r, { i, partition }) => {
        const own = options.ownPartition ? `${partition}-${r.pick(GROUPS)}` : r.pick(GROUPS)
        const group = r.below(25) === 0 ? null : own
        return { key: `k${i}`, value: { group, amount: 1 + r.below(3) } }
      },
      end: { timeMs: options.endMs, value: { group: 'end', amount: 0 } },
    })
}

interface Results {
  rows: string[]
  changes: string[]
  dead: string[]
}

async function results(driver: Outcome): Promise<Results> {
  const rows = await driver.rows('sums')
  return {
    rows: rows.map(({ group, count, amount }) => `${group}=${count},${amount}`).sort(),
    changes: await latest(driver, 'changes'),
    dead: await deadLetters(driver),
  }
}

/** Sums of records, given in an order; a row dies when `ttlMs` is passed. */
function oracle(records: readonly Stamped[], watermarkMs: number, ttlMs: number): Results {
  const sums = new Map<string, Sum & { timeMs: number }>()
  const dead: string[] = []
  for (const record of records) {
    const { group, amount } = record.value as { group: string | null; amount: number }
    if (group === null) {
      dead.push(deadLetter('null-key', record))
      continue
    }
    const found = sums.get(group)
    const row = found && found.timeMs + ttlMs >= record.streamTimeMs ? found : undefined
    sums.set(group, {
      count: (row?.count ?? 0) + 1,
      amount: (row?.amount ?? 0) + amount,
      timeMs: Math.max(row?.timeMs ?? 0, record.timeMs),
    })
  }
  const living = [...sums].filter(([, row]) => row.timeMs + ttlMs >= watermarkMs)
  const line = ([group, { count, amount }]: (typeof living)[number]) =>
    `${group}=${count},${amount}`
  return {
    rows: living.map(line).sort(),
    changes: living.map(row => `${line(row)}@${row[1].timeMs}`).sort(),
    dead: dead.sort(),
  }
}

const TTL_MS = 250

export const aggregateProofs: readonly NamedProof[] = [
  {
    name: 'aggregate',
    proof: prove({
      topology: () => sums(),
      partitions: 3,
      inputs: inputs({ ownPartition: false, endMs: 10_000 }),
      results,
      oracle: (records, watermarkMs) => oracle(records, watermarkMs, Number.POSITIVE_INFINITY),
      reaches: ({ rows, dead }) => {
        assert.equal(rows.length, GROUPS.length + 1)
        assert(dead.length > 3)
      },
    }),
  },
  // A group's records come from one source partition: their order is that of the partition.
  {
    name: 'aggregate with a time to live',
    proof: prove({
      topology: () => sums(TTL_MS),
      partitions: 3,
      inputs: inputs({ ownPartition: true, endMs: 3_050 }),
      results,
      oracle: (records, watermarkMs) => {
        const byOffset = [...records].sort(
          (a, b) => a.partition - b.partition || a.offset - b.offset,
        )
        return oracle(byOffset, watermarkMs, TTL_MS)
      },
      reaches: ({ rows }) => {
        assert(rows.length > 3)
        assert(rows.length < 19)
      },
    }),
  },
]

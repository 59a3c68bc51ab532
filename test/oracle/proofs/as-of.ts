/** A stream joined with a table as of each record's own time (law 16). */
import assert from 'node:assert/strict'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove } from '../proof.ts'

interface Part {
  readonly id: string
  /** Null deletes a row of the table. */
  readonly n: number | null
}

interface Results {
  readonly out: string[]
  readonly dead: string[]
}

const PARTITIONS = 3
const GRACE_MS = 40
const PARTS = { key: textKey(), value: json<Part>() }
const NUMBERS = { key: textKey(), value: json<number>() }
const LINES = { key: textKey(), value: text() }
const line = (n: number, row: number | null) => `${n}+${row ?? '-'}`

type Kind = 'inner' | 'left'

function joined(kind: Kind): Topology {
  const topology = new Topology('prices')
  const numbers = (topic: string) =>
    topology
      .stream(topic, PARTS)
      .selectKey(({ id }) => id)
      .repartition({ name: `${topic}-by-id`, key: textKey() })
      .mapValues(({ n }) => n as number)
  const orders = numbers('orders')
  const prices = numbers('prices').toTable({ name: 'prices', ...NUMBERS })
  const options = { name: 'priced', graceMs: GRACE_MS, written: NUMBERS }
  const results = {
    inner: () => orders.joinAsOf(prices, line, options),
    left: () => orders.leftJoinAsOf(prices, line, options),
  }
  results[kind]().to('out', LINES)
  return topology
}

/** For each record all prices are looked at. */
function oracle(records: readonly Stamped[], watermarkMs: number, kind: Kind): Results {
  const part = (record: Stamped) => record.value as Part
  const prices = records.filter(({ topic }) => topic === 'prices')
  const orders = records.filter(({ topic }) => topic === 'orders')
  const holdsFrom = (price: Stamped) => Math.max(price.timeMs, price.streamTimeMs - GRACE_MS)
  const late = orders.filter(({ timeMs, streamTimeMs }) => timeMs + GRACE_MS < streamTimeMs)
  const out: string[] = []
  for (const order of orders) {
    if (late.includes(order) || order.timeMs + GRACE_MS >= watermarkMs) continue
    const { id, n } = part(order)
    const row = prices.findLast(price => part(price).id === id && holdsFrom(price) <= order.timeMs)
    const price = row === undefined ? null : part(row).n
    if (price !== null || kind === 'left') out.push(`${id}=${line(n!, price)}@${order.timeMs}`)
  }
  return { out: out.sort(), dead: late.map(one => deadLetter('late', one)).sort() }
}

export const asOfProofs: readonly NamedProof[] = (['inner', 'left'] as const).map(kind => ({
  name: `${kind} join of a stream with a table as of its time`,
  proof: prove<Results>({
    topology: () => joined(kind),
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['orders', 'prices'],
        partitions: PARTITIONS,
        count: 460,
        stepMs: 6,
        delayMs: 80,
        record: (r, { i }) => {
          return { key: `k${i}`, value: { id: `i${r.below(7)}`, n: r.below(9) === 0 ? null : i } }
        },
        end: { timeMs: 3_100, value: { id: 'end', n: 0 } },
      }).filter(({ topic, value }) => topic === 'prices' || (value as Part).n !== null),
    results: async outcome => {
      const records = await outcome.output('out', LINES)
      const out = records.map(({ key, value, timeMs }) => `${key}=${value}@${timeMs}`).sort()
      return { out, dead: await deadLetters(outcome) }
    },
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, kind),
    reaches: ({ out, dead }) => {
      assert(out.length > 120)
      assert(dead.length > 1)
      if (kind === 'left') assert(out.some(one => one.includes('+-')))
    },
  }),
}))

/** Joins of re-keyed streams by the pair rule (law 9); a stream with a table, as far as it goes. */
import assert from 'node:assert/strict'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove, written } from '../proof.ts'

interface Part {
  readonly order: string
  readonly n: number
}

interface Results {
  readonly out: string[]
  readonly dead: string[]
}

const PARTITIONS = 3
const PARTS = { key: textKey(), value: json<Part>() }
const LINES = { key: textKey(), value: text() }
const BEFORE_MS = 30
const AFTER_MS = 60
const GRACE_MS = 40

type Kind = 'inner' | 'left' | 'outer'
const line = (left: Part | null, right: Part | null) => `${left?.n ?? '-'}+${right?.n ?? '-'}`

function joined(kind: Kind): Topology {
  const topology = new Topology('orders')
  const side = (topic: string) =>
    topology
      .stream(topic, PARTS)
      .selectKey(({ order }) => order)
      .repartition({ name: `${topic}-by-order`, key: textKey() })
  const left = side('left')
  const right = side('right')
  const options = {
    name: 'joined',
    beforeMs: BEFORE_MS,
    afterMs: AFTER_MS,
    graceMs: GRACE_MS,
    left: PARTS,
    right: PARTS,
  }
  const join = {
    inner: () => left.join(right, line, options),
    left: () => left.leftJoin(right, line, options),
    outer: () => left.outerJoin(right, line, options),
  }
  join[kind]().to('out', LINES)
  return topology
}

/** All pairs, and who is left over, with loops. */
function pairs(records: readonly Stamped[], watermarkMs: number, kind: Kind): Results {
  const reach = ({ topic }: Stamped) => (topic === 'left' ? AFTER_MS : BEFORE_MS)
  const kept = (record: Stamped) => record.timeMs + reach(record) + GRACE_MS
  const part = (record: Stamped) => record.value as Part
  const late = records.filter(record => kept(record) < record.streamTimeMs)
  const taken = records.filter(record => kept(record) >= record.streamTimeMs)
  const lefts = taken.filter(({ topic }) => topic === 'left')
  const rights = taken.filter(({ topic }) => topic === 'right')
  const matched = new Set<Stamped>()
  const out: string[] = []
  for (const l of lefts) {
    for (const r of rights) {
      if (part(l).order !== part(r).order) continue
      if (r.timeMs < l.timeMs - BEFORE_MS || r.timeMs > l.timeMs + AFTER_MS) continue
      if (Math.min(kept(l), kept(r)) < Math.max(l.streamTimeMs, r.streamTimeMs)) continue
      matched.add(l).add(r)
      out.push(`${part(l).order}=${line(part(l), part(r))}`)
    }
  }
  const alone = (record: Stamped) => !matched.has(record) && kept(record) < watermarkMs
  if (kind !== 'inner') {
    for (const l of lefts.filter(alone)) out.push(`${part(l).order}=${line(part(l), null)}`)
  }
  if (kind === 'outer') {
    for (const r of rights.filter(alone)) out.push(`${part(r).order}=${line(null, part(r))}`)
  }
  return { out: out.sort(), dead: late.map(one => deadLetter('late', one)).sort() }
}

const streamJoins = (['inner', 'left', 'outer'] as const).map(kind => ({
  name: `${kind} join of re-keyed streams`,
  proof: prove<Results>({
    topology: () => joined(kind),
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['left', 'right'],
        partitions: PARTITIONS,
        count: 460,
        stepMs: 6,
        delayMs: 90,
        record: (r, { i }) => ({ key: `k${i}`, value: { order: `o${r.below(9)}`, n: i } }),
        end: { timeMs: 2_910, value: { order: 'end', n: 0 } },
      }),
    results: async outcome => ({
      out: await written(outcome, 'out'),
      dead: await deadLetters(outcome),
    }),
    oracle: (records, watermarkMs) => pairs(records, watermarkMs, kind),
    reaches: ({ out, dead }) => {
      assert(out.length > 60)
      assert(dead.length > 0)
    },
  }),
}))

/** What a record finds depends on how far the table was read; that each finds one does not. */
const streamTableProof: NamedProof = {
  name: 'a stream with a re-keyed table: each record once, with the row or without',
  proof: prove<string[]>({
    topology: () => {
      const topology = new Topology('names')
      const table = topology
        .stream('left', PARTS)
        .selectKey(({ order }) => order)
        .repartition({ name: 'names-by-order', key: textKey() })
        .toTable({ name: 'names', key: textKey(), value: json<Part>() })
      topology
        .stream('right', PARTS)
        .selectKey(({ order }) => order)
        .repartition({ name: 'visits-by-order', key: textKey() })
        .leftJoinTable(table, ({ n }, row) => `${n} ${row === null || row.n >= 0}`)
        .to('out', LINES)
      return topology
    },
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['left', 'right'],
        partitions: PARTITIONS,
        count: 200,
        stepMs: 6,
        delayMs: 60,
        record: (r, { i }) => ({ key: `k${i}`, value: { order: `o${r.below(9)}`, n: i } }),
        end: { timeMs: 2_000, value: { order: 'end', n: 0 } },
      }),
    results: outcome => written(outcome, 'out'),
    oracle: records =>
      records
        .filter(({ topic }) => topic === 'right')
        .map(({ value }) => `${(value as Part).order}=${(value as Part).n} true`)
        .sort(),
    reaches: out => assert(out.length > 60),
  }),
}

/** Steps without state: what goes in comes out, once, by the way it has to take. */
const statelessProof: NamedProof = {
  name: 'split, flatMap and merge over an exchange',
  proof: prove<Results>({
    topology: () => {
      const topology = new Topology('parts')
      const parts = topology
        .stream('left', PARTS)
        .filter(({ n }) => n % 7 !== 0)
        .selectKey(({ order }) => order)
        .repartition({ name: 'by-order', key: textKey() })
      const [even, odd] = parts.split(({ n }) => n % 2 === 0) as [typeof parts, typeof parts]
      const twice = even.flatMap(({ n }, key): [string, string][] => [
        [key, `${n}`],
        [`${key}!`, `${n}`],
      ])
      twice
        .merge(odd.map(({ n }, key): [string, string] => [key, `odd ${n}`]))
        .repartition({ name: 'together', key: textKey() })
        .to('out', LINES)
      return topology
    },
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['left'],
        partitions: PARTITIONS,
        count: 250,
        stepMs: 6,
        delayMs: 60,
        record: (r, { i }) => ({ key: `k${i}`, value: { order: `o${r.below(9)}`, n: i } }),
        end: { timeMs: 2_000, value: { order: 'end', n: 7 } },
      }),
    results: async outcome => ({
      out: await written(outcome, 'out'),
      dead: await deadLetters(outcome),
    }),
    oracle: records => {
      const out = records.flatMap(({ value }) => {
        const { order, n } = value as Part
        if (n % 7 === 0) return []
        return n % 2 === 0 ? [`${order}=${n}`, `${order}!=${n}`] : [`${order}=odd ${n}`]
      })
      return { out: out.sort(), dead: [] }
    },
    reaches: ({ out }) => assert(out.length > 200),
  }),
}

/** The same with all rows in each task, found by what the record says. */
const globalProof: NamedProof = {
  name: 'a stream with a global table: each record once, with the row or without',
  proof: prove<string[]>({
    topology: () => {
      const topology = new Topology('global')
      const table = topology.globalTable('left', PARTS)
      topology
        .stream('right', PARTS)
        .leftJoinGlobal(table, ({ n }, row) => `${n} ${row === null || row.n >= 0}`, {
          name: 'named',
          by: ({ order }) => order,
        })
        .to('out', LINES)
      return topology
    },
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['left', 'right'],
        partitions: PARTITIONS,
        count: 200,
        stepMs: 6,
        delayMs: 60,
        record: (r, { i }) => ({ key: `o${r.below(9)}`, value: { order: `o${r.below(9)}`, n: i } }),
        end: { timeMs: 2_000, value: { order: 'end', n: 0 } },
      }),
    results: outcome => written(outcome, 'out'),
    oracle: records =>
      records
        .filter(({ topic }) => topic === 'right')
        .map(({ key, value }) => `${key}=${(value as Part).n} true`)
        .sort(),
    reaches: lines => assert(lines.length > 60),
  }),
}

export const joinProofs: readonly NamedProof[] = [
  ...streamJoins,
  streamTableProof,
  statelessProof,
  globalProof,
]

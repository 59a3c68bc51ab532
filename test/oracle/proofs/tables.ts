/** Tables of re-keyed streams, joins of tables, rows with windows of their own. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, type Table, Topology, text, textKey } from '../../../streams/index.ts'
import type { Random } from '../../support/random.ts'
import { disordered, type Input, type Stamped } from '../inputs.ts'
import { latest, type NamedProof, type Outcome, prove, written } from '../proof.ts'

interface Change {
  readonly side: 'left' | 'right'
  readonly id: string
  /** Null deletes. */
  readonly text: string | null
}

interface Results {
  readonly rows: string[]
  readonly changes: string[]
}

const LINES = { key: textKey(), value: text() }
const PARTITIONS = 3

/** The table of one side's changes, by id: the last write in event time. */
function tableOf(topology: Topology, side: Change['side']): Table<string, string> {
  return topology
    .stream(side, { key: textKey(), value: json<Change>() })
    .selectKey(change => change.id)
    .repartition({ name: `by-id-${side}`, key: textKey() })
    .mapValues(change => change.text as string)
    .toTable({ name: side, key: textKey('id'), value: text() })
}

function show(table: Table<string, string>): void {
  table.view({
    name: 'rows',
    description: 'Rows',
    value: { text: Type.String() },
    row: line => ({ text: line }),
  })
  table.toStream().to('changes', LINES)
}

function inputs(random: Random, sides: readonly Change['side'][]): Input[] {
  const records = disordered(random, {
    topics: sides,
    partitions: PARTITIONS,
    count: 300,
    stepMs: 5,
    delayMs: 200,
    record: (r, { i }) => ({
      key: `k${i}`,
      value: { id: `i${r.below(12)}`, text: r.below(6) === 0 ? null : `t${i}` },
    }),
    end: { timeMs: 9_000, value: { id: 'end', text: 'end' } },
  })
  return records
}

const kindOf = (topic: string) => topic as Change['side']

/** The last write of each id, null where it deleted. */
function lastWrites(records: readonly Stamped[], side: Change['side']): Map<string, Stamped> {
  const last = new Map<string, Stamped>()
  for (const record of records) {
    if (kindOf(record.topic) === side) last.set((record.value as Change).id, record)
  }
  return last
}

async function results(outcome: Outcome): Promise<Results> {
  const rows = await outcome.rows('rows')
  return {
    rows: rows.map(({ id, text }) => `${id}=${text}`).sort(),
    changes: await latest(outcome, 'changes'),
  }
}

const tableProof: NamedProof = {
  name: 'a re-keyed table: the last write in event time',
  proof: prove<Results>({
    topology: () => {
      const topology = new Topology('table')
      show(tableOf(topology, 'left'))
      return topology
    },
    partitions: PARTITIONS,
    inputs: random => inputs(random, ['left']),
    results,
    oracle: records => {
      const rows = [...lastWrites(records, 'left')]
        .map(([id, { value, timeMs }]) => ({ id, text: (value as Change).text, timeMs }))
        .filter(({ text }) => text !== null)
      return {
        rows: rows.map(({ id, text }) => `${id}=${text}`).sort(),
        changes: rows.map(({ id, text, timeMs }) => `${id}=${text}@${timeMs}`).sort(),
      }
    },
    reaches: ({ rows }) => assert(rows.length > 6),
  }),
}

type JoinKind = 'inner' | 'left' | 'outer'
const joiner = (left: string | null, right: string | null) => `${left}+${right}`

function joinedTables(kind: JoinKind): Topology {
  const topology = new Topology('tables')
  const left = tableOf(topology, 'left')
  const right = tableOf(topology, 'right')
  const options = { name: 'joined' }
  const join = {
    inner: () => left.join(right, joiner, options),
    left: () => left.leftJoin(right, joiner, options),
    outer: () => left.outerJoin(right, joiner, options),
  }
  show(join[kind]())
  return topology
}

const joinProofs: NamedProof[] = (['inner', 'left', 'outer'] as const).map(kind => ({
  name: `${kind} join of re-keyed tables`,
  proof: prove<string[]>({
    topology: () => joinedTables(kind),
    partitions: PARTITIONS,
    inputs: random => inputs(random, ['left', 'right']),
    results: async outcome => (await results(outcome)).rows,
    oracle: records => {
      const sides = (['left', 'right'] as const).map(side => lastWrites(records, side))
      const ids = new Set(sides.flatMap(side => [...side.keys()]))
      const textOf = (i: number, id: string) => {
        const record = sides[i]!.get(id)
        return record === undefined ? null : (record.value as Change).text
      }
      return [...ids]
        .filter(id => {
          const [left, right] = [textOf(0, id) !== null, textOf(1, id) !== null]
          return kind === 'inner' ? left && right : kind === 'left' ? left : left || right
        })
        .map(id => `${id}=${joiner(textOf(0, id), textOf(1, id))}`)
        .sort()
    },
    reaches: rows => assert(rows.length > 5),
  }),
}))

interface Finding {
  readonly name: string
  readonly from: number
  readonly length: number
}

/** Each record is the row of its own window; a row is one record only, so none is replaced. */
const windowRowsProof: NamedProof = {
  name: 'rows with windows of their own',
  proof: prove<{ rows: string[]; out: string[] }>({
    topology: () => {
      const topology = new Topology('findings')
      const table = topology
        .stream('found', { key: textKey(), value: json<Finding>() })
        .selectKey(finding => finding.name)
        .repartition({ name: 'by-name', key: textKey() })
        .toWindows({
          name: 'findings',
          key: textKey('name'),
          window: ({ from, length }) => ({ windowStart: from, windowEnd: from + length }),
          retentionMs: 1e12,
        })
      table.view({
        name: 'findings',
        description: 'Findings',
        value: { length: Type.Integer() },
        row: ({ length }) => ({ length }),
      })
      table
        .toStream()
        .map(({ length }, { key, windowStart }): [string, string] => {
          return [`${key}@${windowStart}`, `${length}`]
        })
        .to('out', LINES)
      return topology
    },
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['found'],
        partitions: PARTITIONS,
        count: 200,
        stepMs: 9,
        delayMs: 90,
        record: (r, { i }) => ({
          key: `k${i}`,
          value: { name: `n${r.below(5)}`, from: i * 10, length: 1 + r.below(9) },
        }),
        end: { timeMs: 3_000, value: { name: 'end', from: 5_000, length: 1 } },
      }),
    results: async outcome => ({
      rows: (await outcome.rows('findings'))
        .map(r => `${r.name}[${r.windowStart},${r.windowEnd})=${r.length},${r.final}`)
        .sort(),
      out: await written(outcome, 'out'),
    }),
    oracle: records => {
      const found = records.map(({ value }) => value as Finding)
      const rows = found.map(f => `${f.name}[${f.from},${f.from + f.length})=${f.length},true`)
      return {
        rows: [...new Set(rows)].sort(),
        out: found.map(({ name, from, length }) => `${name}@${from}=${length}`).sort(),
      }
    },
    reaches: ({ rows }) => assert(rows.length > 150),
  }),
}

export const tableProofs: readonly NamedProof[] = [tableProof, ...joinProofs, windowRowsProof]

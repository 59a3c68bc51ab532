/** Tables joined by a foreign key: what is there in the end, whatever was there before. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, type Table, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { latest, type NamedProof, prove } from '../proof.ts'

interface Row {
  readonly id: string
  /** Null refers to nothing. */
  readonly ref: string | null
  readonly n: number
}

interface Change extends Row {
  readonly isDeleted: boolean
}

interface Results {
  readonly rows: string[]
  readonly changes: string[]
}

type Kind = 'inner' | 'left'

const PARTITIONS = 3
const ROWS = { key: textKey('id'), value: json<Row>() }
const LINES = { key: textKey(), value: text() }
const line = (left: Row, right: Row | null) => `${left.n}+${right?.n ?? '-'}`

function tableOf(topology: Topology, name: string): Table<string, Row> {
  return topology
    .stream(name, { key: textKey(), value: json<Change>() })
    .selectKey(({ id }) => id)
    .repartition({ name: `${name}-by-id`, key: textKey(), partitions: name === 'left' ? 2 : 4 })
    .mapValues(({ isDeleted, ...row }) => (isDeleted ? null : row) as Row)
    .toTable({ name, ...ROWS })
}

function joined(kind: Kind): Topology {
  const topology = new Topology('references')
  const left = tableOf(topology, 'left')
  const right = tableOf(topology, 'right')
  const options = { name: 'joined', foreignKey: ({ ref }: Row) => ref }
  const results = {
    inner: () => left.joinForeign(right, line, options),
    left: () => left.leftJoinForeign(right, line, options),
  }
  results[kind]()
    .view({
      name: 'rows',
      description: 'Rows',
      value: { text: Type.String() },
      row: one => ({ text: one }),
    })
    .toStream()
    .to('changes', LINES)
  return topology
}

function lastRows(records: readonly Stamped[], topic: string): Map<string, Stamped> {
  const last = new Map<string, Stamped>()
  for (const record of records) {
    const { id, isDeleted } = record.value as Change
    if (record.topic !== topic) continue
    if (isDeleted) last.delete(id)
    else last.set(id, record)
  }
  return last
}

function oracle(records: readonly Stamped[], kind: Kind): Results {
  const rights = lastRows(records, 'right')
  const found: { id: string; text: string; timeMs: number }[] = []
  for (const [id, record] of lastRows(records, 'left')) {
    const left = record.value as Change
    const right = left.ref === null ? undefined : rights.get(left.ref)
    if (right === undefined && kind === 'inner') continue
    const timeMs = Math.max(record.timeMs, right?.timeMs ?? 0)
    found.push({ id, text: line(left, (right?.value as Row | undefined) ?? null), timeMs })
  }
  return {
    rows: found.map(({ id, text }) => `${id}=${text}`).sort(),
    changes: found.map(({ id, text, timeMs }) => `${id}=${text}@${timeMs}`).sort(),
  }
}

export const foreignKeyProofs: readonly NamedProof[] = (['inner', 'left'] as const).map(kind => ({
  name: `${kind} join of tables by a foreign key`,
  proof: prove<Results>({
    topology: () => joined(kind),
    partitions: PARTITIONS,
    inputs: random =>
      disordered(random, {
        topics: ['left', 'right'],
        partitions: PARTITIONS,
        count: 400,
        stepMs: 5,
        delayMs: 200,
        record: (r, { i }) => ({
          key: `k${i}`,
          value: {
            id: `i${r.below(16)}`,
            ref: r.below(8) === 0 ? null : `i${r.below(16)}`,
            n: i,
            isDeleted: r.below(6) === 0,
          },
        }),
        end: { timeMs: 9_000, value: { id: 'end', ref: 'end', n: 0, isDeleted: false } },
      }),
    results: async outcome => ({
      rows: (await outcome.rows('rows')).map(({ id, text }) => `${id}=${text}`).sort(),
      changes: await latest(outcome, 'changes'),
    }),
    oracle: records => oracle(records, kind),
    reaches: ({ rows }) => assert(rows.length > 3),
  }),
}))

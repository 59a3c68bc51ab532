/** Values that keep what they were: an aggregate in the order of event time, and a table. */
import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import type { Random } from '../../support/random.ts'
import { disordered, type Input, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Entry {
  readonly account: string
  /** Null deletes in the table. */
  readonly note: string | null
}

const PARTITIONS = 3
const END_MS = 4_000
const value = { text: Type.String() }
const LINES = { key: textKey(), value: text() }
const row = (line: string) => ({ text: line })

/** What an account's notes say one after the other: any other order gives another text. */
export function journal(historyMs = Number.POSITIVE_INFINITY, bytesMax?: number): Topology {
  const topology = new Topology('journal')
  const journal = topology
    .stream('events', { key: textKey(), value: json<Entry>() })
    .groupBy(entry => entry.account, { name: 'by-account', key: textKey('account') })
    .aggregate<string>({
      name: 'journal',
      initial: () => '',
      add: (before, { note }, account) => {
        if (note === 'full') throw new RangeError(`${account} is full`)
        return note === null ? null : `${before}${note}`
      },
      versioned: { historyMs, ...(bytesMax && { bytesMax }) },
    })
    .view({ name: 'view', description: 'Journal', value, row })
  journal.toStream().to('changes', LINES)
  return topology
}

/** The last note of each account. */
export function notes(historyMs: number): Topology {
  const topology = new Topology('notes')
  const table = topology
    .stream('events', { key: textKey(), value: json<Entry>() })
    .selectKey(entry => entry.account)
    .repartition({ name: 'by-account', key: textKey('account') })
    .mapValues(entry => entry.note as string)
    .toTable({ name: 'notes', key: textKey('account'), value: text(), versioned: { historyMs } })
    .view({ name: 'view', description: 'Notes', value, row })
  table.toStream().to('changes', LINES)
  return topology
}

function inputs(random: Random): Input[] {
  return disordered(random, {
    partitions: PARTITIONS,
    count: 250,
    stepMs: 10,
    delayMs: 150,
    record: (r, { i }) => ({
      key: `k${i}`,
      value: { account: `a${r.below(6)}`, note: r.below(9) === 0 ? null : `${i}.` },
    }),
    end: { timeMs: END_MS, value: { account: 'end', note: 'end' } },
  })
}

interface Results {
  readonly now: string[]
  /** The rows as of some times. */
  readonly past: string[][]
  readonly changes: string[]
  readonly dead: string[]
}

const lines = (rows: readonly Record<string, unknown>[]) =>
  rows.map(({ account, text }) => `${account}=${text}`).sort()

async function results(outcome: Outcome, times: readonly number[]): Promise<Results> {
  const past: string[][] = []
  for (const asOf of times) past.push(lines(await outcome.rows('view', asOf)))
  return {
    now: lines(await outcome.rows('view')),
    past,
    changes: await latest(outcome, 'changes'),
    dead: await deadLetters(outcome),
  }
}

type Add = (before: string | undefined, entry: Entry) => string | null

/** Replays the records up to a time, from the first. */
function replay(records: readonly Stamped[], asOf: number, add: Add) {
  const values = new Map<string, { text: string; timeMs: number }>()
  for (const { value, timeMs } of records) {
    if (timeMs > asOf) continue
    const entry = value as Entry
    const text = add(values.get(entry.account)?.text, entry)
    if (text === null) values.delete(entry.account)
    else values.set(entry.account, { text, timeMs })
  }
  return values
}

function oracle(
  records: readonly Stamped[],
  { times, historyMs, add }: { times: readonly number[]; historyMs: number; add: Add },
): Results {
  const isLate = (record: Stamped) => record.timeMs + historyMs < record.streamTimeMs
  const taken = records.filter(record => !isLate(record))
  const asOf = (timeMs: number) =>
    [...replay(taken, timeMs, add)].map(([account, { text }]) => `${account}=${text}`).sort()
  const last = replay(taken, Number.POSITIVE_INFINITY, add)
  return {
    now: asOf(Number.POSITIVE_INFINITY),
    past: times.map(asOf),
    changes: [...last].map(([account, { text, timeMs }]) => `${account}=${text}@${timeMs}`).sort(),
    dead: records
      .filter(isLate)
      .map(record => deadLetter('late', record))
      .sort(),
  }
}

interface Versioned {
  readonly name: string
  readonly topology: () => Topology
  readonly historyMs: number
  readonly times: readonly number[]
  readonly add: Add
}

function versionedProof({ name, topology, ...options }: Versioned): NamedProof {
  return {
    name,
    proof: prove<Results>({
      topology,
      partitions: PARTITIONS,
      inputs,
      results: outcome => results(outcome, options.times),
      oracle: records => oracle(records, options),
      reaches: ({ now, past, dead }) => {
        assert(now.length > 4)
        assert(past.some(rows => rows.join() !== now.join()))
        assert.equal(dead.length > 0, options.historyMs < 1_000)
      },
    }),
  }
}

const said: Add = (before = '', { note }) => (note === null ? null : `${before}${note}`)
const replaced: Add = (_before, { note }) => note

export const versionedProofs: readonly NamedProof[] = [
  versionedProof({
    name: 'a versioned aggregate: all records in order, as of any time',
    topology: () => journal(),
    historyMs: Number.POSITIVE_INFINITY,
    times: [0, 7, 300, 1_111, 2_222, END_MS - 1, END_MS],
    add: said,
  }),
  versionedProof({
    name: 'a versioned aggregate with a history: what is before it is added up',
    topology: () => journal(2_500),
    historyMs: 2_500,
    times: [END_MS - 2_500, 1_800, 2_300],
    add: said,
  }),
  versionedProof({
    name: 'a versioned table with a history, as of any time of it',
    topology: () => notes(200),
    historyMs: 200,
    times: [END_MS - 200, END_MS - 1, END_MS],
    add: replaced,
  }),
]

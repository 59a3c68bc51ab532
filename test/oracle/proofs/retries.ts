/** Steps that fail for a while or for good, above and below a re-key, and in a sink. */
import assert from 'node:assert/strict'
import { json, RetriableError, Topology, text, textKey } from '../../../streams/index.ts'
import type { Random } from '../../support/random.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove, written } from '../proof.ts'

const LINES = { key: textKey(), value: text() }

interface Event {
  readonly id: number
  readonly group: string
  /** Where it fails, and whether that passes. */
  readonly fails?: `${'map' | 'join' | 'sink'} ${'twice' | 'always' | 'once for good'}`
}

/** Stands for what lies outside: it outlives a process that is killed. */
const failures = new Map<string, number>()

function attempt(place: string, run: number, { id, fails }: Event): void {
  if (fails === undefined || !fails.startsWith(place)) return
  if (fails.endsWith('for good')) throw new TypeError('this never works')
  const known = `${run}/${place}/${id}`
  const before = failures.get(known) ?? 0
  failures.set(known, before + 1)
  if (before < 2 || fails.endsWith('always')) throw new RetriableError('not now')
}

let runs = 0

function flaky(): Topology {
  const run = ++runs
  const topology = new Topology('flaky')
  const lines = { ...LINES, value: text() }
  topology
    .stream('in', { key: textKey(), value: json<Event>() })
    .mapValues(event => {
      attempt('map', run, event)
      return event
    })
    .groupBy(({ group }) => group, { name: 'by-group', key: textKey() })
    .stream.process({
      name: 'sequence',
      key: textKey(),
      stores: { last: { key: textKey(), codec: json<number>() } },
      create: context => ({
        process({ key, value }) {
          const last = context.store('last')
          last.put(key, (last.get(key) ?? 0) + 1)
          attempt('join', run, value)
          context.forward(key, value)
        },
      }),
      results: { key: textKey(), value: json<Event>() },
    })
    .retry({ attempts: 4, firstMs: 0, maxMs: 0 })
    .to('out', {
      key: textKey(),
      value: {
        ...lines.value,
        encode(value: Event) {
          attempt('sink', run, value)
          return Buffer.from(String(value.id))
        },
      } as never,
    })
  return topology
}

const kinds = ['twice', 'always', 'once for good'] as const
const places = ['map', 'join', 'sink'] as const

function record(random: Random, { i }: { i: number }) {
  const fails = random.below(4) > 0 ? undefined : `${random.pick(places)} ${random.pick(kinds)}`
  // Its partition alone makes a group: its order is that of the partition.
  return { key: `k${i}`, value: { id: i, group: '', ...(fails && { fails }) } }
}

function oracle(records: readonly Stamped[]) {
  const out: string[] = []
  const dead: string[] = []
  for (const record of records) {
    const { id, group, fails } = record.value as Event
    if (fails === undefined || fails.endsWith('twice')) out.push(`${group}=${id}`)
    else dead.push(deadLetter('poison', record))
  }
  return { out: out.sort(), dead: dead.sort() }
}

export const retryProof: NamedProof = {
  name: 'retries',
  proof: prove({
    topology: flaky,
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['in'],
        partitions: 3,
        count: 60,
        stepMs: 10,
        delayMs: 40,
        record: (random, place) => {
          const made = record(random, place)
          return { ...made, value: { ...made.value, group: `g${place.partition}` } }
        },
        end: { timeMs: 100_000, value: { id: 1e6, group: 'end' } },
      }),
    results: async outcome => ({
      out: await written(outcome, 'out'),
      dead: await deadLetters(outcome),
    }),
    oracle,
    reaches: ({ out, dead }) => {
      assert(out.length > 30 && dead.length > 3, 'some pass and some do not')
    },
    settings: { retry: { attempts: 4, firstMs: 0, maxMs: 0 } },
  }),
}

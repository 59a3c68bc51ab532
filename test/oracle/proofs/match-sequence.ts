/** Sequences of a card: declined, declined, authorized. */
import assert from 'node:assert/strict'
import {
  json,
  type SequenceMatch,
  type SequenceOptions,
  Topology,
  text,
  textKey,
} from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove } from '../proof.ts'

interface Attempt {
  card: string
  outcome: string
  id: number
}

type Step = 'first' | 'second' | 'last'
export type Options = Partial<SequenceOptions<string, Attempt, Step>>
export const out = { key: textKey(), value: text() }
export const attempts = { key: textKey(), value: json<Attempt>() }

export const is = (outcome: string) => (attempt: Attempt) => {
  if (attempt.id < 0) throw new Error('a negative id')
  return attempt.outcome === outcome
}

/** Declined, declined, authorized of one card. */
export const STEPS = [
  { name: 'first', where: is('d') },
  { name: 'second', where: is('d') },
  { name: 'last', where: is('a') },
] as const

export function matched(options: Options = {}) {
  const topology = new Topology('cards')
  const matches = topology
    .stream('attempts', attempts)
    .groupBy(({ card }) => card, { name: 'by-card', key: textKey('card') })
    .stream.matchSequence<Step>({
      name: 'guessing',
      steps: STEPS,
      withinMs: 100,
      graceMs: 20,
      written: attempts,
      ...options,
    })
  matches.mapValues(line).to('matches', out)
  return { topology, matches }
}

const line = ({ events, times }: SequenceMatch<Attempt, Step>) =>
  Object.entries<Attempt>(events)
    .map(([step, { id }]) => `${id}@${times[step as Step]}`)
    .join('+')

const WITHIN_MS = 120
const GRACE_MS = 60

interface Results {
  matches: string[]
  dead: string[]
}

/** From each start on, without stores or stretches: all records of a card, in order. */
function oracle(
  records: readonly Stamped[],
  watermarkMs: number,
  contiguity: 'relaxed' | 'strict',
): Results {
  const late = (record: Stamped) => record.timeMs + GRACE_MS < record.streamTimeMs
  const value = (record: Stamped) => record.value as Attempt
  const matches: string[] = []
  const kept = records.filter(r => !late(r) && r.timeMs + GRACE_MS < watermarkMs)
  const outcomes = ['d', 'd', 'a']
  for (const card of new Set(kept.map(record => value(record).card))) {
    const own = kept.filter(record => value(record).card === card)
    for (let from = 0; from < own.length; ) {
      let best: number[] | undefined
      for (let first = from; first < own.length; first++) {
        if (value(own[first]!).outcome !== 'd') continue
        const found = [first]
        for (let next = first + 1; next < own.length && found.length < 3; next++) {
          if (own[next]!.timeMs > own[first]!.timeMs + WITHIN_MS) break
          if (value(own[next]!).outcome === outcomes[found.length]) found.push(next)
          else if (contiguity === 'strict') break
        }
        if (found.length === 3 && (best === undefined || found[2]! < best[2]!)) best = found
      }
      if (best === undefined) break
      const ids = best.map(i => `${value(own[i]!).id}@${own[i]!.timeMs}`).join('+')
      matches.push(`${card}=${ids}@${own[best[2]!]!.timeMs}`)
      from = best[2]! + 1
    }
  }
  const dead = records.filter(late).map(record => deadLetter('late', record))
  return { matches: matches.sort(), dead: dead.sort() }
}

export const sequenceProofs: readonly NamedProof[] = (['relaxed', 'strict'] as const).map(
  contiguity => ({
    name: `sequences, ${contiguity}`,
    proof: prove({
      topology: () => matched({ withinMs: WITHIN_MS, graceMs: GRACE_MS, contiguity }).topology,
      partitions: 3,
      inputs: random =>
        disordered(random, {
          topics: ['attempts'],
          partitions: 3,
          count: 400,
          stepMs: 9,
          delayMs: 70,
          record: (r, { i }) => ({
            key: `k${i}`,
            value: { card: r.pick(['a', 'b', 'c']), outcome: r.pick(['d', 'd', 'a', 'x']), id: i },
          }),
          end: { timeMs: 3_605, value: { card: 'end', outcome: 'x', id: 0 } },
        }),
      results: async driver => ({
        matches: (await driver.output('matches', out))
          .map(({ key, value, timeMs }) => `${key}=${value}@${timeMs}`)
          .sort(),
        dead: await deadLetters(driver),
      }),
      oracle: (records, watermarkMs) => oracle(records, watermarkMs, contiguity),
      reaches: ({ matches, dead }) => {
        assert(matches.length > 15)
        assert(dead.length > 1)
      },
    }),
  }),
)

/**
 * The law for chains: each step below each other, with an exchange before and between, gives what
 * one pass over the records gives, under every interleaving, cut and kill.
 *
 * | pair | compared |
 * | --- | --- |
 * | any → deduplicate | which ids pass and how often; not which of the copies of several tasks |
 * | aggregate → process | what a timer after the last update tells: updates differ in number |
 * | aggregate → aggregate | the last of each key, of a maximum: the same |
 * | any → aggregate | the last of each key |
 * | aggregate → any that decides by event time | refused |
 * | all others | every result with its time, and how many were late |
 */
import assert from 'node:assert/strict'
import { type Stream, Topology, text, textKey } from '../../../streams/index.ts'
import type { Random } from '../../support/random.ts'
import { ITEMS, type Item, type Row, STEPS, type StageName, type Step } from '../chain-steps.ts'
import { disordered, type Input, type Stamped } from '../inputs.ts'
import { deadLetters, latest, type NamedProof, type Outcome, prove } from '../proof.ts'

export interface Chain {
  readonly first: Step
  readonly second: Step
}

interface Results {
  readonly out: string[]
  readonly late: number
  readonly duplicate: number
}

const PARTITIONS = 3
const END_MS = 3_300
const GROUPS = ['a', 'b', 'c', 'd', 'é']

/** Ids of results: copies are within 100 ms, and the same id comes again after 1200. */
const bucket = (key: string, { t }: Item) => `${key}/${Math.floor(t / 100) % 12}`

/** A new key for the results of the first step: of their values, unless these are updates. */
function secondKey({ first }: Chain, { g, n }: Item): string {
  return first.updates ? `s${g.charCodeAt(0) % 2}` : `s${n % 3}`
}

const otherKey = (name: StageName, chain: Chain, item: Item) =>
  name === 'first' ? item.g : secondKey(chain, item)

function line({ second }: Chain, item: Item): string {
  return second.shows === 'ids' ? `${item.id}` : `${item.n},${item.t}`
}

export function topologyOf(chain: Chain): Topology {
  const { first, second } = chain
  const topology = new Topology('chain')
  const input = topology.stream('in', ITEMS)
  let others: Stream<string, Item> | undefined
  const other = (name: StageName) => () => {
    others ??= topology.stream('other', ITEMS)
    return others
      .map((item): [string, Item] => {
        const g = otherKey(name, chain, item)
        return [g, { ...item, g }]
      })
      .repartition({ name: `other-${name}`, key: textKey() })
  }
  const one = first.build({
    name: 'first',
    input: input.selectKey(item => item.g).repartition({ name: 'to-first', key: textKey() }),
    other: other('first'),
    updates: false,
  })
  const between = one
    .map((item): [string, Item] => {
      const g = secondKey(chain, item)
      return [g, { ...item, g, id: bucket(g, item) }]
    })
    .repartition({ name: 'to-second', key: textKey() })
  second
    .build({
      name: 'second',
      input: between,
      other: other('second'),
      updates: first.updates === true,
    })
    .map((item, key): [string, string] => [key, line(chain, item)])
    .to('out', LINES)
  return topology
}

const LINES = { key: textKey(), value: text() }

function inputs({ first, second }: Chain, random: Random): Input[] {
  const joins = first.joins || second.joins
  const records = disordered(random, {
    topics: joins ? ['in', 'other'] : ['in'],
    partitions: PARTITIONS,
    count: joins ? 420 : 280,
    stepMs: joins ? 6 : 9,
    delayMs: 70,
    record: (r, { i, partition }) => {
      // Ids of one source partition each, so that copies have an order.
      const number = Math.floor(i / 20) * 10 + r.below(25)
      const g = GROUPS[(number + partition) % GROUPS.length]!
      return { key: `k${i}`, value: { g, n: 1 + r.below(9), id: `${partition}-${number}` } }
    },
    end: { timeMs: END_MS, value: { g: 'end', n: 1 } },
  })
  return records.map(one => ({ ...one, value: { ...(one.value as Item), t: one.timeMs } }))
}

/** One pass over the records of each step in turn. */
function oracle(chain: Chain, records: readonly Stamped[], watermarkMs: number): Results {
  const { first, second } = chain
  const inOrder = [...records].sort((a, b) => a.partition - b.partition || a.offset - b.offset)
  const rowsOf = (topic: string, key: (item: Item) => string): Row[] =>
    inOrder
      .filter(one => one.topic === topic)
      .map(({ value, timeMs, streamTimeMs }) => {
        const g = key(value as Item)
        return { key: g, item: { ...(value as Item), g }, timeMs, streamTimeMs }
      })
  const other = (name: StageName, step: Step) =>
    step.joins ? rowsOf('other', item => otherKey(name, chain, item)) : []
  const one = first.oracle({
    name: 'first',
    rows: rowsOf('in', item => item.g),
    other: other('first', first),
    watermarkMs,
    updates: false,
  })
  const two = second.oracle({
    name: 'second',
    rows: one.rows.map(row => {
      const key = secondKey(chain, row.item)
      return { ...row, key, item: { ...row.item, g: key, id: bucket(key, row.item) } }
    }),
    other: other('second', second),
    watermarkMs: watermarkMs - first.holdMs,
    updates: first.updates === true,
  })
  const at = (timeMs: number) => (second.shows === 'ids' ? '' : `@${timeMs}`)
  return {
    out: two.rows.map(row => `${row.key}=${line(chain, row.item)}${at(row.timeMs)}`).sort(),
    late: one.late + two.late,
    duplicate: one.duplicate + two.duplicate,
  }
}

async function results({ second }: Chain, outcome: Outcome): Promise<Results> {
  const dead = (await deadLetters(outcome)).map(letter => letter.split(' ')[0])
  const counted = (reason: string) => dead.filter(one => one === reason).length
  const all = async () =>
    (await outcome.output('out', LINES))
      .map(({ key, value, timeMs }) =>
        second.shows === 'ids' ? `${key}=${value}` : `${key}=${value}@${timeMs}`,
      )
      .sort()
  const out = second.shows === 'latest' ? await latest(outcome, 'out') : await all()
  const late = counted('late')
  const duplicate = counted('duplicate')
  assert.equal(dead.length, late + duplicate, 'nothing else was dropped')
  return { out, late, duplicate }
}

const chains: readonly Chain[] = STEPS.flatMap(first => STEPS.map(second => ({ first, second })))

const isRefused = ({ first, second }: Chain) =>
  first.updates === true && second.timeDependent === true

export const refusedChains = chains.filter(isRefused)

export const nameOf = ({ first, second }: Chain) => `${first.name} → ${second.name}`

export const chainProofs: readonly NamedProof[] = chains
  .filter(chain => !isRefused(chain))
  .map((chain, i) => ({
    name: nameOf(chain),
    runs: { oracles: 2, cuts: 8, kills: 8, seed: 1000 * (i + 1) },
    proof: prove<Results>({
      topology: () => topologyOf(chain),
      partitions: PARTITIONS,
      inputs: random => inputs(chain, random),
      reaches: ({ out, duplicate }) => {
        const { first, second } = chain
        const oneAKey = first.updates || second.shows === 'latest'
        assert(out.length > (oneAKey ? 1 : 50))
        if (first.shows === 'ids' || second.shows === 'ids') assert(duplicate > 9)
      },
      results: outcome => results(chain, outcome),
      oracle: (records, watermarkMs) => oracle(chain, records, watermarkMs),
    }),
  }))

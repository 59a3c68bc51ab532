/** A tumbling window made by hand: rows and event timers. */
import assert from 'node:assert/strict'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { disordered, type Stamped } from '../inputs.ts'
import { deadLetter, deadLetters, type NamedProof, prove, written } from '../proof.ts'

const LINES = { key: textKey(), value: text() }
const WINDOW_MS = 200
const GRACE_MS = 90

/** A tumbling window made by hand: a row a (window, key), a timer at its end and grace. */
function handmade(): Topology {
  const topology = new Topology('handmade')
  const stream = topology
    .stream('in', { key: textKey(), value: json<{ group: string }>() })
    .groupBy(({ group }) => group, { name: 'by-group', key: textKey() }).stream
  const startOf = (timeMs: number) => timeMs - (timeMs % WINDOW_MS)
  const row = (key: string, start: number) => `${key}@${start}`
  stream
    .process({
      name: 'window',
      key: textKey(),
      stores: { counts: { key: textKey(), codec: json<number>() } },
      results: LINES,
      prefetch: ({ key, timeMs }, want) => want('counts', row(key, startOf(timeMs))),
      prefetchTimer: ({ key, atMs }, want) =>
        want('counts', row(key, startOf(atMs - GRACE_MS - 1))),
      holdsMs: WINDOW_MS + GRACE_MS,
      create: context => ({
        process({ key, timeMs, streamTimeMs }) {
          const start = startOf(timeMs)
          const atMs = start + WINDOW_MS + GRACE_MS
          if (atMs <= streamTimeMs) {
            context.drop('late')
            return
          }
          const counts = context.store('counts')
          counts.put(row(key, start), (counts.get(row(key, start)) ?? 0) + 1)
          context.schedule({ clock: 'event', atMs, key, name: 'close' })
        },
        onTimer({ key, atMs }) {
          const start = startOf(atMs - GRACE_MS - 1)
          const counts = context.store('counts')
          context.forward(row(key, start), `${counts.get(row(key, start))}`, start)
          counts.delete(row(key, start))
        },
      }),
    })
    .to('out', LINES)
  return topology
}

function oracle(records: readonly Stamped[], watermarkMs: number) {
  const counts = new Map<string, number>()
  const dead: string[] = []
  for (const record of records) {
    const { group } = record.value as { group: string }
    const start = record.timeMs - (record.timeMs % WINDOW_MS)
    if (start + WINDOW_MS + GRACE_MS <= record.streamTimeMs) dead.push(deadLetter('late', record))
    else if (start + WINDOW_MS + GRACE_MS <= watermarkMs) {
      counts.set(`${group}@${start}`, (counts.get(`${group}@${start}`) ?? 0) + 1)
    }
  }
  return { out: [...counts].map(([id, count]) => `${id}=${count}`).sort(), dead: dead.sort() }
}

export const processProofs: readonly NamedProof[] = [
  {
    name: 'a processor with rows and timers',
    proof: prove({
      topology: handmade,
      partitions: 3,
      inputs: random =>
        disordered(random, {
          topics: ['in'],
          partitions: 3,
          count: 300,
          stepMs: 9,
          delayMs: 260,
          record: (r, { i }) => ({
            key: `k${i}`,
            value: { group: r.pick(['a', 'b', 'ccc', 'é']) },
          }),
          end: { timeMs: 2_900, value: { group: 'end' } },
        }),
      results: async driver => ({
        out: await written(driver, 'out'),
        dead: await deadLetters(driver),
      }),
      oracle,
      reaches: ({ out, dead }) => {
        assert(out.length > 40)
        assert(dead.length > 0)
      },
    }),
  },
]

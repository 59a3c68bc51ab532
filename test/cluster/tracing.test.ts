/** One trace over several instances: through a repartition topic, and while instances die. */
import { expect, test } from 'vitest'
import { json, Topology, textKey } from '../../streams/index.ts'
import type { Input } from '../oracle/inputs.ts'
import { SimulatedCluster } from '../support/simulation/cluster.ts'
import { keptSpans, orphans, type SeenSpan, storyOf } from '../support/spans.ts'

const PARTITIONS = 4
const ROOT = 'b7ad6b7169203331'
const START_MS = 1_750_000_000_000

interface Reading {
  readonly meter: string
}

function meters(): Topology {
  const topology = new Topology('meters')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(({ meter }) => meter, { name: 'by-meter', key: textKey('meter') })
    .count({ name: 'counts' })
    .toStream()
    .to('totals', serdes)
  return topology
}

const traceId = (n: number) => `${n}`.padStart(32, '0')

/** Each of a trace of its own. */
function readings(count: number, first = 1): Input[] {
  return Array.from({ length: count }, (_, i) => ({
    topic: 'readings',
    partition: i % PARTITIONS,
    key: `r${first + i}`,
    timeMs: START_MS + i,
    value: { meter: `m${first + i}` },
    headers: { ce_id: `r${first + i}`, traceparent: `00-${traceId(first + i)}-${ROOT}-01` },
  }))
}

/** Each instance numbers its spans from a million on. */
const tracerOf = (spanId: string) => Math.floor(Number.parseInt(spanId, 16) / 1_000_000)
const KILLED = 1

const serdes = { key: textKey(), value: json<number>() }

function clusterOf(seed: number, settings = {}) {
  const ended: SeenSpan[] = []
  let tracers = 0
  const cluster: SimulatedCluster = new SimulatedCluster({
    seed,
    topology: meters,
    partitions: PARTITIONS,
    settings,
    tracing: () => {
      const clock = () => START_MS + cluster.time.nowMs
      return keptSpans({ clock, first: ++tracers * 1_000_000, ended }).tracing
    },
  })
  cluster.broker.createTopic('totals', PARTITIONS)
  return { cluster, ended }
}

test('a story goes on where its record is taken by another instance', async () => {
  const { cluster, ended } = clusterOf(1)
  cluster.calm()
  cluster.start('a')
  const b = cluster.start('b')
  cluster.append(readings(1, 100))
  await cluster.drain()
  cluster.append(readings(40))
  await cluster.drain()
  const stories = (first: number) =>
    new Set(readings(40).map((_, i) => storyOf(ended, traceId(first + i))))
  const here = ['process readings', '  counts', '    send totals'].join('\n')
  const topic = 'process meters-by-meter-repartition'
  const there = ['process readings', `  ${topic}`, '    counts', '      send totals'].join('\n')
  expect(stories(1)).toEqual(new Set([there]))
  await cluster.stop(b)
  await cluster.drain()
  cluster.append(readings(40, 101))
  await cluster.drain()
  expect(stories(101)).toEqual(new Set([here]))
  expect(orphans(ended, ROOT)).toEqual([])
  await cluster.close()
})

test('after a kill each story goes on; only what the killed one had just committed has a gap', async () => {
  const diedAt = new Set<string>()
  let whole = 0
  for (let run = 0; run < 48; run++) {
    const { cluster, ended } = clusterOf(run, { epochRecordsMax: 5 })
    cluster.calm()
    const a = cluster.start('a')
    cluster.start('b')
    cluster.append(readings(1, 100))
    await cluster.drain()
    a.left = run % 16
    cluster.append(readings(40))
    await cluster.time.run(2000)
    cluster.bury(a)
    cluster.start('a')
    await cluster.drain()
    const written = await cluster.output('totals', serdes)
    const traces = written.map(({ headers }) => headers.traceparent?.split('-')[1])
    const told = traces.filter(trace => trace !== traceId(100))
    expect(new Set(told).size, `run ${run}`).toBe(40)
    const gaps = orphans(ended, ROOT).map(({ parent }) => tracerOf(parent!))
    expect(new Set([KILLED, ...gaps]), `killed at ${a.diedAt}`).toEqual(new Set([KILLED]))
    if (gaps.length === 0) whole++
    diedAt.add(a.diedAt ?? 'between')
    await cluster.close()
  }
  expect([...diedAt]).toEqual(expect.arrayContaining(['polled', 'run', 'log-committed']))
  expect(whole).toBeGreaterThan(20)
})

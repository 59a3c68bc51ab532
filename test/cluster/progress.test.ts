/** What remote edges are told when only progress changed (law 6): how often, and the last word. */
import { expect, test } from 'vitest'
import { decodeBatches } from '../../log/record-columns.ts'
import { readProgress } from '../../streams/exchange-records.ts'
import { Topology, text, textKey } from '../../streams/index.ts'
import { SimulatedCluster } from '../support/simulation/cluster.ts'

function counts(): Topology {
  const topology = new Topology('counts')
  topology
    .stream('words', { key: textKey(), value: text() })
    .groupBy(word => word, { name: 'by-word', key: textKey('word'), value: text() })
    .count({ name: 'counts' })
  return topology
}

interface Told {
  readonly upstream: number
  readonly target: number
  readonly timeMs: number
  readonly offset: number | undefined
}

/** Every progress record of the repartition topic, in order. */
function toldBy({ broker }: SimulatedCluster, partitions: number): Told[] {
  const told: Told[] = []
  for (let target = 0; target < partitions; target++) {
    const topic = { topic: 'counts-by-word-repartition', partition: target }
    const offset = broker.offsets(topic).startOffset
    const { bytes } = broker.read({ ...topic, offset, bytesMax: Number.MAX_SAFE_INTEGER })
    for (const columns of decodeBatches(bytes).runs) {
      for (let i = 0; i < columns.length; i++) {
        const start = columns.valueStart[i]!
        if (columns.bytes[start] !== 2) continue
        const { timeMs, positions } = readProgress(columns.bytes, start, columns.valueEnd[i]!)
        const upstream = columns.bytes.readUInt32BE(start + 2)
        told.push({ upstream, target, timeMs, offset: positions?.get(upstream) })
      }
    }
  }
  return told
}

interface Trickle {
  readonly partitions: number
  readonly seconds: number
  readonly watermarkIntervalMs: number
}

const EVERY_MS = 20

/** Two instances at rest, then a record of one word to each source partition every 20 ms. */
async function trickle({ partitions, seconds, watermarkIntervalMs }: Trickle) {
  const cluster = new SimulatedCluster({
    seed: 1,
    topology: counts,
    partitions,
    settings: { watermarkIntervalMs, epochMsMin: 10 },
  })
  cluster.calm()
  cluster.start('a')
  cluster.start('b')
  await cluster.drain()
  const before = toldBy(cluster, partitions).length
  for (let i = 0; i < (seconds * 1000) / EVERY_MS; i++) {
    cluster.append(
      Array.from({ length: partitions }, (_, partition) => {
        return { topic: 'words', partition, key: null, value: 'same', timeMs: i }
      }),
    )
    await cluster.time.run(EVERY_MS)
  }
  await cluster.drain()
  const told = toldBy(cluster, partitions)
  return { cluster, told, during: told.length - before }
}

test('progress alone is told at most every interval, and an idle application has told its last', async () => {
  const partitions = 6
  const seconds = 4
  const { cluster, told } = await trickle({ partitions, seconds, watermarkIntervalMs: 100 })
  const records = (seconds * 1000) / EVERY_MS
  const remote = new Set(told.map(({ upstream, target }) => `${upstream}>${target}`))
  expect(remote.size).toBeGreaterThan(10)
  for (const edge of remote) {
    const own = told.filter(({ upstream, target }) => `${upstream}>${target}` === edge)
    // Some more as the instances took their tasks; without the interval 200.
    const withRecords = own.length > records / 2
    if (!withRecords) expect(own.length).toBeLessThan(seconds * 10 + 15)
    expect(own.at(-1), edge).toMatchObject({ timeMs: records - 1, offset: records })
  }
  const few = [...remote].filter(
    edge => told.filter(t => `${t.upstream}>${t.target}` === edge).length < 60,
  )
  expect(few.length).toBeGreaterThan(remote.size / 2)
  await cluster.close()
})

test('at 64 x 64 partitions the interval bounds progress, whatever the epochs', async () => {
  const found: number[] = []
  for (const watermarkIntervalMs of [0, 100]) {
    const { cluster, during } = await trickle({ partitions: 64, seconds: 1, watermarkIntervalMs })
    found.push(during)
    await cluster.close()
  }
  const [always, bounded] = found as [number, number]
  process.stdout.write(
    `progress records a second at 64 x 64: ${always}, with interval ${bounded}\n`,
  )
  // Here one instance has all the upstream tasks and the other all targets.
  const edges = 64 * 64
  expect(bounded).toBeLessThan(edges * 13)
  expect(always).toBeGreaterThan(bounded * 3)
})

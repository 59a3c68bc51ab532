/**
 * Law 18: what a cut says of a source partition is true on the instance that says it. Two
 * exchanges lie between the source and the view; the story looks again and again.
 */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { Topology, text, textKey, viewService } from '../../streams/index.ts'
import { partitionOfKey } from '../../streams/sinks.ts'
import type { Input } from '../oracle/inputs.ts'
import { Random } from '../support/random.ts'
import type { Instance, SimulatedCluster } from '../support/simulation/cluster.ts'
import { play } from './story.ts'

const PARTITIONS = 3
const shelfOf = (id: string) => `s${Number(id.slice(1)) % 7}`
const rackOf = (id: string) => `r${Number(id.slice(1)) % 5}`

/** The ids of each shelf, which pass the racks on their way. */
function shelves(): Topology {
  const topology = new Topology('shelves')
  topology
    .stream('ids', { key: textKey(), value: text() })
    .selectKey(id => rackOf(id))
    .repartition({ name: 'by-rack', key: textKey(), value: text() })
    .groupBy(id => shelfOf(id), { name: 'by-shelf', key: textKey('shelf'), value: text() })
    .reduce({ name: 'shelves', reduce: (ids, id) => `${ids} ${id}` })
    .view({
      name: 'shelves',
      description: 'Ids of a shelf',
      value: { ids: Type.String() },
      row: ids => ({ ids }),
    })
  return topology
}

function ids(seed: number, count: number): Input[] {
  const random = new Random(seed)
  return Array.from({ length: count }, (_, i) => {
    const partition = random.below(PARTITIONS)
    return { topic: 'ids', partition, key: `k${i}`, timeMs: i, value: `i${i}` }
  })
}

interface Look {
  /** Records that a cut covered and its instance had to show. */
  covered: number
  consistent: number
}

/** Every covered record of the partitions here is in the rows here. */
async function look(cluster: SimulatedCluster, inputs: readonly Input[], seen: Look) {
  for (const instance of cluster.live) {
    const { engine } = instance
    if (engine === undefined || engine.state !== 'running') continue
    const { cut } = engine.publisher
    const here = new Set(engine.publisher.partitions('shelves'))
    if (here.size === 0) continue
    if (cut.consistent) {
      seen.consistent++
      expect(engine.assembly.tasks.length).toBe(3 * PARTITIONS)
    }
    const rows = await rowsOf(instance)
    const found = new Set(rows.flatMap(row => String(row.ids).split(' ')))
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const mine = inputs.filter(input => input.partition === partition)
      const end = Math.max(0, cut.offsets.ids?.[partition] ?? 0)
      for (const { value } of mine.slice(0, end)) {
        const id = value as string
        if (!here.has(partitionOfKey(textKey(), shelfOf(id), PARTITIONS))) continue
        seen.covered++
        expect(found.has(id), `${id} of partition ${partition} on ${instance.id}`).toBe(true)
      }
    }
  }
}

async function rowsOf({ engine, process }: Instance) {
  const { schedule } = process.environment
  const views = viewService({ engine: engine!, schedule, incarnation: 'simulated' })
  return (await views.localRows('shelves', { key: {}, limit: 1000 })).rows
}

test('what a cut covers is in its rows, whatever moves between the two', async () => {
  const seen = { covered: 0, consistent: 0 }
  for (let seed = 0; seed < 12; seed++) {
    const inputs = ids(seed, 250)
    const cluster = await play({
      seed,
      topology: shelves,
      partitions: PARTITIONS,
      inputs,
      look: playing => look(playing, inputs, seen),
    })
    // At rest everything is covered, wherever it is.
    for (const { engine } of cluster.instances) {
      const partitions = engine!.publisher.partitions('shelves')
      const offsets = engine!.publisher.cut.offsets.ids ?? []
      const ends = [0, 1, 2].map(p => inputs.filter(({ partition }) => partition === p).length)
      if (partitions.length > 0) expect(offsets, `seed ${seed}`).toEqual(ends)
    }
    await cluster.close()
  }
  expect(seen.covered).toBeGreaterThan(5000)
  expect(seen.consistent).toBeGreaterThan(0)
})

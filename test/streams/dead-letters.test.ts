/** Which records become dead letters, and how they are counted. */
import { expect, test } from 'vitest'
import { Topology, text, textKey, tumbling } from '../../streams/index.ts'
import type { SideReason } from '../../streams/operator.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { Random } from '../support/random.ts'

const LINES = { key: textKey(), value: text() }
const GRACE_MS = 50
const WINDOW_MS = 100

/** A deduplication and windows; side outputs take what leaves by late and null-key. */
function claimed(): Topology {
  const topology = new Topology('claimed')
  const unique = topology
    .stream('in', LINES)
    .deduplicate({ name: 'unique', id: { header: 'ce_id' }, ttlMs: 1e9 })
  const counts = unique
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .count({ name: 'counts', retentionMs: 1e9 })
  counts.side('late').to('late', LINES as never)
  counts.side('null-key').to('keyless', LINES as never)
  counts
    .toStream()
    .map((count, { key, windowStart }) => [`${key}@${windowStart}`, String(count)])
    .to('counts', LINES)
  return topology
}

function inputs(random: Random) {
  return Array.from({ length: 300 }, (_, i) => ({
    key: random.below(8) === 0 ? null : random.pick(['a', 'b']),
    value: random.below(12) === 0 ? null : `v${i}`,
    timeMs: 1000 + i * 5 - (random.below(5) === 0 ? random.below(400) : 0),
    partition: 0,
    headers: { ce_id: `e${random.below(10) === 0 ? random.below(i + 1) : i}` },
  }))
}

/** What went where, of one run. */
async function run(deadLetters: readonly SideReason[], seed: number) {
  const settings = { deadLetters }
  const driver = await TopologyTestDriver.open(claimed(), { partitions: 1, settings })
  const records = inputs(new Random(seed))
  for (let i = 0; i < records.length; i += 37) {
    await driver.pipe('in', ...records.slice(i, i + 37))
  }
  const length = async (topic: string) => (await driver.output(topic, LINES)).length
  const letters = await driver.output('claimed-dead-letters', LINES)
  const byReason: Record<string, number> = {}
  for (const { headers } of letters) {
    const reason = headers.dl_reason!
    byReason[reason] = (byReason[reason] ?? 0) + 1
  }
  const windows = new Map<string | null, number>()
  for (const { key, value } of await driver.output('counts', LINES)) windows.set(key, Number(value))
  const applied = [...windows.values()].reduce((sum, count) => sum + count, 0)
  const counted = Object.fromEntries(
    driver.views
      .metrics()
      .filter(({ name }) => name === 'dead_letters_total')
      .map(({ labels, value }) => [`${labels.step} ${labels.reason}`, value]),
  )
  const sides = { late: await length('late'), keyless: await length('keyless') }
  await driver.close()
  return { read: records.length, applied, byReason, sides, counted }
}

test('what no side output takes is a dead letter; the others are where they were sent', async () => {
  const { read, applied, byReason, sides, counted } = await run([], 1)
  expect(Object.keys(byReason).sort()).toEqual(['duplicate', 'poison'])
  expect(counted).toEqual({
    'unique duplicate': byReason.duplicate,
    'counts poison': byReason.poison,
  })
  expect(Math.min(sides.late, sides.keyless)).toBeGreaterThan(0)
  const { duplicate, poison } = byReason as Record<string, number>
  expect(applied + duplicate! + poison! + sides.late + sides.keyless).toBe(read)
})

test('reasons that are asked for are dead letters as well: in = applied + dead letters', async () => {
  for (const seed of [1, 2, 3]) {
    const { read, applied, byReason, sides } = await run(['late', 'null-key'], seed)
    const { duplicate, poison, late, 'null-key': keyless } = byReason as Record<string, number>
    expect({ late, keyless }).toEqual(sides)
    expect(applied + duplicate! + poison! + late! + keyless!).toBe(read)
  }
})

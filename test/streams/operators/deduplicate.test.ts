import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { deadLetters, written } from '../../oracle/proof.ts'
import { deduplicateProofs, header } from '../../oracle/proofs/deduplicate.ts'

const TTL_MS = 100
const LINES = { key: textKey(), value: text() }
const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

function unique(side = false): Topology {
  const topology = new Topology('unique')
  const passed = topology
    .stream('in', { key: textKey(), value: text() })
    .deduplicate({ name: 'seen', id: { header: 'ce_id' }, ttlMs: TTL_MS })
  passed.to('out', LINES)
  if (side) passed.side('duplicate').to('copies', LINES)
  return topology
}

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const record = (timeMs: number, id: string | undefined, value = `v${timeMs}`) => ({
  key: 'k',
  value,
  timeMs,
  headers: header(id),
})
const out = async (driver: TopologyTestDriver, topic = 'out') =>
  (await driver.output(topic, LINES)).map(({ value }) => value).join(' ')

test('the first record of an id passes as it is, copies leave by duplicate', async () => {
  const driver = await start(unique(true))
  await driver.pipe('in', record(1, 'a'), record(1, 'a', 'copy'), record(2, 'b'))
  await driver.pipe('in', record(1, 'a', 'again'), record(3, 'c'))
  const [first] = await driver.output('out', LINES)
  expect(first).toMatchObject({ value: 'v1', timeMs: 1, headers: { ce_id: 'a' } })
  expect(await written(driver, 'out')).toEqual([])
  expect(await out(driver, 'copies')).toBe('copy again')
})

test('what passes keeps its order', async () => {
  const driver = await start(unique(true))
  await driver.pipe('in', record(1, 'a'), record(1, 'a', 'copy'), record(2, 'b'))
  await driver.pipe('in', record(1, 'a', 'again'), record(3, 'c'))
  expect(await out(driver)).toBe('v1 v2 v3')
  expect(await out(driver, 'copies')).toBe('copy again')
})

test('copies that nobody takes are dead letters, counted by their reason', async () => {
  const driver = await start(unique())
  await driver.pipe('in', record(1, 'a'), record(1, 'a'))
  expect(await deadLetters(driver)).toEqual(['duplicate in/0@1'])
  const dropped = driver.views.metrics().filter(({ name }) => name === 'dropped_records_total')
  expect(dropped).toMatchObject([{ labels: { step: 'seen', reason: 'duplicate' }, value: 1 }])
})

test('a record without the header passes, and so does each with another id', async () => {
  const driver = await start(unique())
  await driver.pipe('in', record(1, undefined), record(1, undefined), record(1, ''), record(1, 'é'))
  expect(await out(driver)).toBe('v1 v1 v1 v1')
})

test('an id is forgotten when its stream time is more than the time to live ago', async () => {
  const driver = await start(unique())
  await driver.pipe('in', record(0, 'a'), record(100, 'x'), record(0, 'a', 'at 100'))
  await driver.pipe('in', record(101, 'y'), record(0, 'a', 'at 101'), record(101, 'a', 'copy'))
  expect(await out(driver)).toBe('v0 v100 v101 at 101')
})

test('a record far behind its stream time is judged like any other', async () => {
  const driver = await start(unique())
  await driver.pipe('in', record(100_000, 'x'), record(5, 'old'), record(5, 'old', 'copy'))
  expect(await out(driver)).toBe('v100000 v5')
})

test('an id function takes the place of the header; one that throws is poison', async () => {
  const topology = new Topology('by-function')
  topology
    .stream('in', { key: textKey(), value: json<{ id?: string | null }>() })
    .deduplicate({ name: 'seen', id: value => value.id, ttlMs: TTL_MS })
    .mapValues(value => `${value.id}`)
    .to('out', LINES)
  const driver = await start(topology)
  const value = (id: string | null) => ({ key: 'k', value: { id }, timeMs: 1 })
  const nothing = { key: 'k', value: null, timeMs: 1 }
  await driver.pipe('in', value('a'), value('a'), value(null), value(null), nothing)
  expect(await out(driver)).toBe('a null null')
  expect(await deadLetters(driver)).toEqual(['duplicate in/0@1', 'poison in/0@4'])
})

test('of copies in several partitions exactly one passes', async () => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
  ]) {
    const topology = new Topology('merged')
    topology
      .stream('in', { key: textKey(), value: text() })
      .repartition({ name: 'together', key: textKey() })
      .deduplicate({ name: 'seen', id: { header: 'ce_id' }, ttlMs: TTL_MS })
      .to('out', LINES)
    const driver = await start(topology, 3)
    for (const partition of order) {
      await driver.pipe('in', { ...record(partition * 40, 'a'), partition })
    }
    expect((await out(driver)).split(' ').length).toBe(1)
  }
})

test('a time to live that is no duration is refused', () => {
  const stream = new Topology('t').stream('in', LINES)
  expect(() => stream.deduplicate({ name: 'a', id: v => v, ttlMs: -1 })).toThrow(/ttlMs/)
})

for (const { name, proof } of deduplicateProofs) proofSuite(name, proof)

import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters } from '../../oracle/proof.ts'
import { aggregateProofs, type Event, sums } from '../../oracle/proofs/aggregate.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

/** Sums by group; a negative sum deletes the row, a sum above 1000 is refused. */
const event = (timeMs: number, group = 'a', amount = 1) => ({
  key: 'x',
  value: { group, amount },
  timeMs,
})
const changes = async (driver: TopologyTestDriver) =>
  (await driver.output('changes', { key: textKey(), value: text() }))
    .map(({ key, value, timeMs }) => `${key}=${value}@${timeMs}`)
    .join(' ')

test('a table has one row a key, and its view shows it by key', async () => {
  const driver = await start(sums(), 3)
  await driver.pipe('events', event(5, 'b', 7), event(6, 'a', 2), event(7, 'b', 1))
  expect(await driver.rows('sums')).toEqual([
    { group: 'a', count: 1, amount: 2 },
    { group: 'b', count: 2, amount: 8 },
  ])
  expect((await driver.views.row('sums', 'b')).row).toEqual({ group: 'b', count: 2, amount: 8 })
  expect((await driver.views.row('sums', 'c')).row).toBeUndefined()
})

test('a change has the latest event time of its row: an earlier record does not move it back', async () => {
  const driver = await start(sums())
  await driver.pipe('events', event(50))
  await driver.pipe('events', event(20))
  expect(await changes(driver)).toBe('a=1,1@50 a=2,2@50')
})

test('null from an aggregator deletes the row, and the next record begins anew', async () => {
  const driver = await start(sums())
  await driver.pipe('events', event(1, 'a', 5))
  await driver.pipe('events', event(2, 'a', -6))
  expect(await driver.rows('sums')).toEqual([])
  await driver.pipe('events', event(3, 'a', 4))
  expect(await changes(driver)).toBe('a=1,5@1 a=null@2 a=1,4@3')
  await checkStores(driver)
})

test('a batch gives one change a key; a row that comes and goes within it gives none', async () => {
  const driver = await start(sums())
  await driver.pipe('events', event(1), event(2), event(3, 'b'), event(4, 'b', -9), event(5))
  expect(await changes(driver)).toBe('a=3,3@5')
})

test('null keys, null values and overflows leave with their reason and change nothing', async () => {
  const driver = await start(sums())
  const empty = { key: 'x', value: null, timeMs: 3 }
  await driver.pipe('events', event(1, 'a', 999), event(2, 'a', 2), empty)
  expect(await driver.rows('sums')).toEqual([{ group: 'a', count: 1, amount: 999 }])
  expect(await deadLetters(driver)).toEqual(['null-key events/0@2', 'overflow events/0@1'])
  const topology = new Topology('plain')
  const stream = topology.stream('events', { key: textKey(), value: json<Event>() })
  stream.groupByKey({ name: 'by-key', key: textKey() }).count({ name: 'counts' })
  const plain = await start(topology)
  await plain.pipe('events', empty, { ...event(4), key: null })
  expect(await deadLetters(plain)).toEqual(['null-key events/0@1', 'poison events/0@0'])
})

test('the first value of a key is its reduction', async () => {
  const topology = new Topology('reduced')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .reduce({ name: 'largest', reduce: (a, b) => (b === 0 ? null : Math.max(a, b)) })
    .view({
      name: 'largest',
      description: 'Largest',
      value: { value: Type.Integer() },
      row: value => ({ value }),
    })
  const driver = await start(topology)
  const number = (value: number, key = 'a') => ({ key, value, timeMs: 1 })
  await driver.pipe('events', number(3), number(9), number(4), number(2, 'b'), number(0, 'b'))
  expect(await driver.rows('largest')).toEqual([{ key: 'a', value: 9 }])
  await driver.pipe('events', number(0, 'c'), number(1, 'b'))
  expect((await driver.rows('largest')).map(row => `${row.key}=${row.value}`)).toEqual([
    'a=9',
    'b=1',
    'c=0',
  ])
})

test('a row leaves once the watermark is beyond its time to live, with a deletion', async () => {
  const driver = await start(sums(100))
  await driver.pipe('events', event(0), event(50))
  await driver.pipe('events', event(150, 'b'))
  expect((await driver.rows('sums')).length).toBe(2)
  await driver.pipe('events', event(151, 'b'))
  expect((await driver.rows('sums')).map(({ group }) => group)).toEqual(['b'])
  expect(await changes(driver)).toBe('a=2,2@50 b=1,1@150 b=2,2@151 a=null@150')
  await checkStores(driver)
})

test('a record whose stream time is beyond the time to live begins anew, deleted or not', async () => {
  const driver = await start(sums(100), 2)
  const behind = { ...event(0, 'other'), partition: 1 }
  await driver.pipe('events', behind, { ...event(0), partition: 0 })
  await driver.pipe('events', { ...event(101), partition: 0 })
  expect(await driver.rows('sums')).toMatchObject([{ group: 'a', count: 1 }, { group: 'other' }])
})

test('a row that begins anew with an earlier event dies by that event', async () => {
  const driver = await start(sums(100), 2)
  const on = (partition: number, timeMs: number, group: string) => ({
    ...event(timeMs, group),
    partition,
  })
  await driver.pipe('events', on(1, 0, 'b'), on(0, 150, 'a'), on(0, 260, 'c'), on(0, 60, 'a'))
  expect((await driver.rows('sums')).map(({ group }) => group)).toEqual(['a', 'b', 'c'])
  await driver.pipe('events', on(1, 170, 'b'))
  expect((await driver.rows('sums')).map(({ group }) => group)).toEqual(['b', 'c'])
})

for (const { name, proof } of aggregateProofs) proofSuite(name, proof)

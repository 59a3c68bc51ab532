import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { deadLetters } from '../../oracle/proof.ts'
import { type Entry, journal, notes, versionedProofs } from '../../oracle/proofs/versioned.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const entry = (timeMs: number, note: string | null, account = 'a') => {
  const value: Entry = { account, note }
  return { key: 'x', value, timeMs }
}
const textAt = async (driver: TopologyTestDriver, asOf?: number, account = 'a') =>
  (await driver.views.row('view', account, asOf === undefined ? {} : { asOf })).row?.text

test('as of a time a row is what the records up to it come to, that time included', async () => {
  const driver = await start(journal())
  await driver.pipe('events', entry(10, 'x'), entry(20, 'y'), entry(30, 'z'))
  expect([await textAt(driver, 9), await textAt(driver, 10)]).toEqual([undefined, 'x'])
  expect([await textAt(driver, 29), await textAt(driver, 30)]).toEqual(['xy', 'xyz'])
  expect([await textAt(driver, 1e12), await textAt(driver)]).toEqual(['xyz', 'xyz'])
})

test('a record that comes late takes its place in the history, and all after it changes', async () => {
  const driver = await start(journal())
  await driver.pipe('events', entry(10, 'x'), entry(30, 'z'))
  expect(await textAt(driver, 20)).toBe('x')
  await driver.pipe('events', entry(20, 'y'))
  expect(await textAt(driver, 20)).toBe('xy')
  expect(await textAt(driver)).toBe('xyz')
  const changes = await driver.output('changes', { key: textKey(), value: text() })
  expect(changes.map(({ value, timeMs }) => `${value}@${timeMs}`)).toEqual(['xz@30', 'xyz@30'])
})

test('records of one time count by partition and offset', async () => {
  const driver = await start(journal(), 2)
  await driver.pipe('events', { ...entry(10, 'late'), partition: 1 })
  await driver.pipe('events', { ...entry(10, 'x'), partition: 0 })
  await driver.pipe('events', { ...entry(10, 'y'), partition: 0 })
  expect(await textAt(driver)).toBe('xylate')
})

test('a deleted row is gone from then on, and was there before', async () => {
  const driver = await start(notes(1000))
  await driver.pipe('events', entry(10, 'x'), entry(20, null), entry(30, 'z'))
  expect([await textAt(driver, 15), await textAt(driver, 25)]).toEqual(['x', undefined])
  expect(await driver.rows('view', 25)).toEqual([])
  expect(await driver.rows('view')).toEqual([{ account: 'a', text: 'z' }])
})

test('what is before the history is gone with a clear error, for one row and for many', async () => {
  const driver = await start(notes(100))
  await driver.pipe('events', entry(10, 'x'), entry(50, 'y'), entry(200, 'z'))
  expect(await textAt(driver, 100)).toBe('y')
  const message =
    'The history of view begins at 100 (epoch ms): what was at 99 is not kept any more. ' +
    'Ask as of a later time.'
  await expect(textAt(driver, 99)).rejects.toThrow(message)
  await expect(driver.rows('view', 99)).rejects.toMatchObject({ code: 'HISTORY_GONE' })
})

test('a record of before the history is late, by its own partition, and changes nothing', async () => {
  const driver = await start(notes(100), 2)
  await driver.pipe('events', { ...entry(200, 'z', 'b'), partition: 0 })
  await driver.pipe('events', { ...entry(60, 'on time'), partition: 1 })
  await driver.pipe('events', { ...entry(99, 'late'), partition: 0 })
  await driver.pipe('events', { ...entry(100, 'just in time', 'c'), partition: 0 })
  expect(await driver.rows('view')).toEqual([
    { account: 'a', text: 'on time' },
    { account: 'b', text: 'z' },
    { account: 'c', text: 'just in time' },
  ])
  expect(await deadLetters(driver)).toEqual(['late events/0@1'])
})

test('a record that cannot be added leaves the row and its history as they were', async () => {
  const driver = await start(journal())
  await driver.pipe('events', entry(10, 'x'), entry(5, 'full'), entry(20, 'y'))
  expect([await textAt(driver, 7), await textAt(driver)]).toEqual([undefined, 'xy'])
  expect(await deadLetters(driver)).toEqual(['overflow events/0@1'])
})

test('a row of too many bytes adds up its older half: its value stays right, its history shorter', async () => {
  const driver = await start(journal(Number.POSITIVE_INFINITY, 1_000))
  const many = Array.from({ length: 30 }, (_, i) => entry(10 * i + 10, `${i};`))
  await driver.pipe('events', ...many, entry(500, 'b', 'b'))
  const all = many.map(({ value }) => value.note).join('')
  expect(await textAt(driver)).toBe(all)
  await expect(textAt(driver, 10)).rejects.toThrow('The history of journal, key "a", begins at')
  await expect(driver.rows('view', 10)).rejects.toMatchObject({ code: 'HISTORY_GONE' })
  expect(await textAt(driver, 10, 'b')).toBeUndefined()
  const before = all.split(';').slice(0, 29).join(';')
  expect(await textAt(driver, 290)).toBe(`${before};`)
  await driver.pipe('events', entry(15, 'too old'))
  expect(await deadLetters(driver)).toEqual(['overflow events/0@31'])
  expect(await textAt(driver)).toBe(all)
})

test('records of one time are taken when others of it have been added up for want of room', async () => {
  const driver = await start(journal(Number.POSITIVE_INFINITY, 1_000))
  const many = Array.from({ length: 60 }, (_, i) => entry(10, `${i};`))
  await driver.pipe('events', ...many.slice(0, 45))
  await driver.pipe('events', ...many.slice(45))
  const all = many.map(({ value }) => value.note).join('')
  expect([await textAt(driver), await textAt(driver, 10)]).toEqual([all, all])
  await expect(textAt(driver, 9)).rejects.toMatchObject({ code: 'HISTORY_GONE' })
  await driver.pipe('events', entry(9, 'too old'))
  expect(await deadLetters(driver)).toEqual(['overflow events/0@60'])
})

test('pages as of a time go on where they were while the view changes', async () => {
  const driver = await start(journal(), 2)
  const names = Array.from({ length: 10 }, (_, i) => `a${i}`)
  await driver.pipe('events', ...names.map(name => entry(10, 'then', name)))
  const first = await driver.views.rows('view', { key: {}, limit: 4, asOf: 10 })
  await driver.pipe('events', ...names.map(name => entry(20, 'now', name)), entry(20, 'new', 'a00'))
  const cursor = first.next!
  const rest = await driver.views.rows('view', { key: {}, limit: 100, asOf: 10, cursor })
  const rows = [...first.rows, ...rest.rows]
  expect(rows).toEqual(names.map(account => ({ account, text: 'then' })))
  await expect(
    driver.views.rows('view', { key: {}, limit: 4, asOf: 11, cursor }),
  ).rejects.toMatchObject({ code: 'CURSOR_INVALID' })
})

test('a view that is not versioned says so when it is asked as of a time', async () => {
  const topology = new Topology('plain')
  topology.table('names', { name: 'names', key: textKey('id'), value: text() }).view({
    name: 'names',
    description: 'N',
    value: { text: Type.String() },
    row: text => ({ text }),
  })
  const driver = await start(topology)
  const wanted = { code: 'QUERY_INVALID', details: { parameter: 'asOf' } }
  await expect(driver.rows('names', 5)).rejects.toMatchObject(wanted)
  await expect(driver.views.row('names', 'a', { asOf: 5 })).rejects.toMatchObject(wanted)
})

test('mistakes in the options are refused', () => {
  const counted = (options: object) =>
    new Topology('t')
      .stream('events', { key: textKey(), value: json() })
      .groupByKey({ name: 'g', key: textKey() })
      .count({ name: 'n', ...options })
  expect(() => counted({ versioned: { historyMs: 0 } })).toThrow('historyMs must be')
  expect(() => counted({ versioned: { historyMs: 1, bytesMax: 0.5 } })).toThrow('bytesMax must be')
  expect(() => counted({ versioned: { historyMs: 1 }, ttlMs: 5 })).toThrow('a time to live')
})

test('a versioned table of a topic is ordered by time, and joins as any other', async () => {
  const topology = new Topology('joined')
  const options = { key: textKey('id'), value: text() }
  const left = topology.table('left', { name: 'left', ...options, versioned: { historyMs: 50 } })
  const right = topology.table('right', { name: 'right', ...options })
  left
    .join(right, (l, r) => `${l}${r}`, { name: 'both' })
    .view({
      name: 'both',
      description: 'B',
      value: { text: Type.String() },
      row: text => ({ text }),
    })
  const driver = await start(topology)
  const at = (timeMs: number, value: string) => ({ key: 'a', value, timeMs })
  await driver.pipe('right', at(10, 'r'))
  await driver.pipe('left', at(30, 'new'), at(20, 'old'))
  expect(await driver.rows('both')).toEqual([{ id: 'a', text: 'newr' }])
})

for (const { name, proof } of versionedProofs) proofSuite(name, proof)

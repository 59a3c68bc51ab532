/** Queries over many rows: pages that end early, clients that leave, and what is let go of. */
import { Type } from 'typebox'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { fieldsKey, json, Topology, textKey } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const rowCount = 3000
let database: MemoryDatabase
let driver: TopologyTestDriver

/** One row a key, `colour` red for every thousandth. */
beforeEach(async () => {
  const topology = new Topology('things')
  topology
    .stream('things', { key: textKey(), value: json<string>() })
    .groupBy((_, thing) => ({ thing, shade: thing === 'thing-02000' ? 'rare' : 'plain' }), {
      name: 'by-key',
      key: fieldsKey('thing', 'shade'),
    })
    .reduce({ name: 'colours', reduce: (_before, colour) => colour })
    .view({
      name: 'colours',
      description: 'Colours',
      value: { colour: Type.String() },
      row: colour => ({ colour }),
    })
  database = new MemoryDatabase()
  driver = await TopologyTestDriver.open(topology, { database, partitions: 3 })
  const things = Array.from({ length: rowCount }, (_, index) => ({
    key: `thing-${String(index).padStart(5, '0')}`,
    value: index % 1000 === 0 ? 'red' : 'grey',
    timeMs: index,
  }))
  await driver.pipe('things', ...things)
})

afterEach(() => driver.close())

/** All pages of a query whose pages end after so many looks, asked for by the second field. */
async function pages(shade: string | undefined, looks: number) {
  const pages: string[][] = []
  let cursor: string | undefined
  do {
    let asked = 0
    const page = await driver.views.rows('colours', {
      key: { ...(shade !== undefined && { shade }) },
      limit: 1000,
      ...(cursor === undefined ? {} : { cursor }),
      enough: () => ++asked >= looks,
    })
    pages.push(page.rows.map(row => String(row.thing)))
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return pages
}

test('a page that ends early is gone on from, without gap or repetition', async () => {
  const whole = (await pages(undefined, Number.POSITIVE_INFINITY)).flat()
  expect(whole).toHaveLength(rowCount)
  for (const looks of [1, 2, 3]) {
    const cut = await pages(undefined, looks)
    expect(cut.length).toBeGreaterThan(rowCount / 256 / looks - 1)
    expect(cut.flat()).toEqual(whole)
  }
})

test('pages of a rare row may be empty; the row is on one of them, once', async () => {
  const cut = await pages('rare', 1)
  expect(cut.length).toBeGreaterThan(5)
  expect(cut.flat()).toEqual(['thing-02000'])
  expect(cut.filter(page => page.length === 0).length).toBe(cut.length - 1)
})

test('what is asked for by the first field is read, and not the whole view', async () => {
  const asked = async (scope: object) => {
    let looks = 0
    const enough = () => {
      looks++
      return false
    }
    const { rows } = await driver.views.rows('colours', { key: {}, limit: 1000, enough, ...scope })
    expect(looks).toBe(0)
    return rows.map(({ thing }) => thing)
  }
  expect(await asked({ key: { thing: 'thing-02000' } })).toEqual(['thing-02000'])
  expect(await asked({ key: { thing: 'thing-0200' } })).toEqual([])
  expect((await asked({ prefix: 'thing-0200' })).length).toBe(10)
  expect(await asked({ key: { thing: 'thing-02001' }, prefix: 'thing-03' })).toEqual([])
})

test('nobody waits: reading stops at once, and lets go of the cut and its iterators', async () => {
  const open = database.openHandles
  const abort = new AbortController()
  let looks = 0
  const query = driver.views.rows('colours', {
    key: { shade: 'none' },
    limit: 10,
    signal: abort.signal,
    enough: () => {
      if (++looks === 2) abort.abort(new Error('left'))
      return false
    },
  })
  await expect(query).rejects.toThrow('left')
  expect(looks).toBe(2)
  expect(database.openHandles).toBe(open)
  for (let index = 0; index < 5; index++) await pages('none', 1)
  expect(database.openHandles).toBe(open)
})

test('one key in two partitions is two rows, and no page leaves one of them out', async () => {
  const topology = new Topology('twice')
  topology
    .stream('things', { key: textKey(), value: json<string>() })
    .groupByKey({ name: 'by-key', key: textKey('thing') })
    .reduce({ name: 'colours', reduce: (_before, colour) => colour })
    .view({
      name: 'colours',
      description: 'Colours',
      value: { colour: Type.String() },
      row: colour => ({ colour }),
    })
  const twice = await TopologyTestDriver.open(topology, { partitions: 3 })
  const things = [0, 1, 2].flatMap(partition =>
    ['a', 'b', 'c'].map(key => ({ key, value: `${key}${partition}`, timeMs: 1, partition })),
  )
  await twice.pipe('things', ...things)
  const whole = things.map(({ value }) => value).sort()
  for (const limit of [1, 2, 4, 9]) {
    const colours: unknown[] = []
    let cursor: string | undefined
    do {
      const query = { key: {}, limit, ...(cursor === undefined ? {} : { cursor }) }
      const page = await twice.views.rows('colours', query)
      colours.push(...page.rows.map(({ colour }) => colour))
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
    expect(colours).toEqual(whole)
  }
  await twice.close()
})

test('a key with too few or too many fields is a row that is not there', async () => {
  const topology = new Topology('pairs')
  topology
    .stream('things', { key: textKey(), value: json<string>() })
    .groupBy((colour, thing) => ({ thing, colour }), {
      name: 'by-pair',
      key: fieldsKey('thing', 'colour'),
    })
    .count({ name: 'pairs' })
    .view({
      name: 'pairs',
      description: 'Pairs',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  const pairs = await TopologyTestDriver.open(topology)
  await pairs.pipe('things', { key: 'a', value: 'red', timeMs: 1 })
  const row = async (key: string) => (await pairs.views.row('pairs', key)).row
  expect(await row('a/red')).toEqual({ thing: 'a', colour: 'red', count: 1 })
  for (const key of ['a', 'a/', '/a', 'a/red/', 'a/red/b', ''])
    expect(await row(key)).toBe(undefined)
  await pairs.close()
})

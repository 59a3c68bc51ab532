import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { json, Topology, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'

interface Finding {
  readonly start: number
  readonly end: number
  readonly what: string
}

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

function findings(): Topology {
  const topology = new Topology('findings')
  const key = textKey('name')
  topology
    .stream('found', { key, value: json<Finding>() })
    .toWindows({
      name: 'findings',
      key,
      window: ({ start, end }) => {
        if (end < start) throw new TypeError('it ends before it starts')
        return { windowStart: start, windowEnd: end }
      },
      retentionMs: 1000,
    })
    .view({
      name: 'findings',
      description: 'Findings',
      value: { what: Type.String() },
      row: ({ what }) => ({ what }),
    })
  return topology
}

async function start(options: Parameters<typeof TopologyTestDriver.open>[1] = {}) {
  const driver = await TopologyTestDriver.open(findings(), { startMs: 1_000_000, ...options })
  open.push(driver)
  return driver
}

const found = (key: string | null, timeMs: number, value: Finding | null) => ({
  key,
  timeMs,
  value,
})
const row = (name: string, windowStart: number, windowEnd: number, what: string) => ({
  name,
  windowStart,
  windowEnd,
  final: true,
  what,
})

test('rows are final at once, have windows of any length and lie in the order of their starts', async () => {
  const driver = await start({ partitions: 3 })
  await driver.pipe(
    'found',
    found('b', 500, { start: 400, end: 500, what: 'late one' }),
    found('a', 510, { start: 0, end: 510, what: 'long one' }),
    found('c', 520, { start: 400, end: 401, what: 'short one' }),
  )
  expect(await driver.rows('findings')).toEqual([
    row('a', 0, 510, 'long one'),
    row('b', 400, 500, 'late one'),
    row('c', 400, 401, 'short one'),
  ])
  const page = await driver.views.rows('findings', { key: {}, from: 1, to: 401, limit: 10 })
  expect(page.rows.map(({ name }) => name)).toEqual(['b', 'c'])
})

test('one key has a row for each window that it names', async () => {
  const driver = await start()
  await driver.pipe(
    'found',
    found('a', 500, { start: 100, end: 200, what: 'first' }),
    found('a', 500, { start: 100, end: 300, what: 'longer' }),
    found('a', 500, { start: 100, end: 200, what: 'again' }),
  )
  expect(await driver.rows('findings')).toEqual([
    row('a', 100, 200, 'again'),
    row('a', 100, 300, 'longer'),
  ])
})

test('rows go when the watermark is the retention beyond their start, not before', async () => {
  const driver = await start()
  await driver.pipe('found', found('a', 0, { start: 100, end: 9000, what: 'old' }))
  await driver.pipe('found', found('b', 1100, { start: 1100, end: 1200, what: 'new' }))
  expect((await driver.rows('findings')).length).toBe(2)
  await driver.pipe('found', found('c', 1101, { start: 1100, end: 1200, what: 'newer' }))
  expect((await driver.rows('findings')).map(({ name }) => name)).toEqual(['b', 'c'])
})

test('a subscriber gets each row once, and a restart finds them all', async () => {
  const driver = await start()
  const seen: unknown[] = []
  const { close } = driver.views.subscribe('findings', ({ changes }) => {
    seen.push(...changes.map(({ op, row: { name } }) => `${op} ${name}`))
  })
  await driver.pipe('found', found('a', 100, { start: 50, end: 100, what: 'x' }))
  await driver.pipe('found', found('b', 900, { start: 60, end: 100, what: 'y' }))
  await driver.pipe('found', found('c', 1055, { start: 1000, end: 1001, what: 'z' }))
  close()
  expect(seen).toEqual(['upsert a', 'upsert b', 'upsert c', 'delete a'])
  await driver.close()
  open.length = 0
  const again = await start({ database: driver.database })
  expect((await again.rows('findings')).map(({ name }) => name)).toEqual(['b', 'c'])
})

test('null keys, null values and windows that cannot be are put aside', async () => {
  const driver = await start()
  await driver.pipe(
    'found',
    found(null, 100, { start: 0, end: 1, what: 'nobody' }),
    found('a', 101, null),
    found('b', 102, { start: 9, end: 1, what: 'backwards' }),
  )
  expect(await driver.rows('findings')).toEqual([])
  const serdes = { key: textKey(), value: json<Finding>() }
  const dead = await driver.output('findings-dead-letters', serdes)
  expect(dead.map(({ headers }) => headers.dl_reason)).toEqual(['null-key', 'poison', 'poison'])
})

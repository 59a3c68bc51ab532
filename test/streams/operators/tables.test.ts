import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { fieldsKey, json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { tableProofs } from '../../oracle/proofs/tables.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 2): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions })
  open.push(driver)
  return driver
}

const value = { text: Type.String() }
const row = (line: string) => ({ text: line })
const record = (key: string, line: string | null, timeMs: number) => ({ key, value: line, timeMs })

function customers() {
  const topology = new Topology('customers')
  const table = topology.table('names', { name: 'names', key: textKey('id'), value: text() })
  return { topology, table }
}

test('a table of a topic keeps the last value by offset, whatever its timestamp', async () => {
  const { topology, table } = customers()
  table.view({ name: 'names', description: 'Names', value, row })
  const driver = await start(topology)
  await driver.pipe('names', record('a', 'new', 20), record('a', 'later', 10), record('b', 'b', 1))
  expect(await driver.rows('names')).toEqual([
    { id: 'a', text: 'later' },
    { id: 'b', text: 'b' },
  ])
})

test('null deletes a row, and the row is not found', async () => {
  const { topology, table } = customers()
  table.view({ name: 'names', description: 'Names', value, row })
  const driver = await start(topology)
  await driver.pipe('names', record('a', 'a', 1), record('a', null, 2))
  expect(await driver.rows('names')).toEqual([])
  expect((await driver.views.row('names', 'a')).row).toBeUndefined()
})

test('a re-keyed table keeps the last write by event time, in any order of arrival', async () => {
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const topology = new Topology('latest')
    topology
      .stream('events', { key: textKey(), value: json<{ id: string; text: string }>() })
      .selectKey(event => event.id)
      .repartition({ name: 'by-id', key: textKey() })
      .mapValues(event => event.text)
      .toTable({ name: 'latest', key: textKey('id'), value: text() })
      .view({ name: 'latest', description: 'Latest', value, row })
    const driver = await start(topology)
    const events = [
      { key: 'x', value: { id: 'a', text: 'first' }, timeMs: 10, partition: 0 },
      { key: 'y', value: { id: 'a', text: 'second' }, timeMs: 20, partition: 1 },
    ]
    for (const i of order) await driver.pipe('events', events[i]!)
    expect(await driver.rows('latest')).toEqual([{ id: 'a', text: 'second' }])
  }
})

test('a stream joins the row its table has, and inner leaves out records without one', async () => {
  const { topology, table } = customers()
  const visits = topology.stream('visits', { key: textKey(), value: text() })
  const join = (visit: string, name: string | null) => `${visit} by ${name}`
  const serdes = { key: textKey(), value: text() }
  visits.joinTable(table, join).to('inner', serdes)
  visits.leftJoinTable(table, join).to('left', serdes)
  const driver = await start(topology)
  await driver.pipe('visits', record('a', 'early', 1))
  await driver.pipe('names', record('a', 'Ann', 500_000))
  await driver.pipe('visits', record('a', 'late', 2), record('b', 'stranger', 3))
  const lines = async (topic: string) =>
    (await driver.output(topic, serdes)).map(output => `${output.value}@${output.timeMs}`).sort()
  expect(await lines('inner')).toEqual(['late by Ann@2'])
  expect(await lines('left')).toEqual(['early by null@1', 'late by Ann@2', 'stranger by null@3'])
})

const kinds = {
  inner: { both: 'l+r', left: undefined, right: undefined },
  left: { both: 'l+r', left: 'l+null', right: undefined },
  outer: { both: 'l+r', left: 'l+null', right: 'null+r' },
}
for (const [kind, expected] of Object.entries(kinds)) {
  test(`${kind} table join: a row where the sides say so, gone when they no longer do`, async () => {
    const topology = new Topology('tables')
    const left = topology.table('left', { name: 'left', key: textKey('id'), value: text() })
    const right = topology.table('right', { name: 'right', key: textKey('id'), value: text() })
    const joiner = (l: string | null, r: string | null) => `${l}+${r}`
    const options = { name: 'joined' }
    const joined =
      kind === 'inner'
        ? left.join(right, joiner, options)
        : kind === 'left'
          ? left.leftJoin(right, joiner, options)
          : left.outerJoin(right, joiner, options)
    joined.view({ name: 'joined', description: 'Joined', value, row })
    const driver = await start(topology)
    const shown = async () => (await driver.rows('joined'))[0]?.text
    await driver.pipe('left', record('k', 'l', 1))
    expect(await shown()).toBe(expected.left)
    await driver.pipe('right', record('k', 'r', 2))
    expect(await shown()).toBe(expected.both)
    await driver.pipe('left', record('k', null, 3))
    expect(await shown()).toBe(expected.right)
    await driver.pipe('right', record('k', null, 4))
    expect(await shown()).toBeUndefined()
  })
}

test('tables whose keys are written differently are refused', () => {
  const topology = new Topology('tables')
  const left = topology.table('left', { name: 'left', key: textKey('id'), value: text() })
  const right = topology.table('right', { name: 'right', key: fieldsKey('id'), value: text() })
  const join = () => left.join(right as never, (l, r) => `${l}${r}`, { name: 'joined' })
  expect(join).toThrow(/joined: left writes its keys as text, right as fields\(id\)/)
})

for (const { name, proof } of tableProofs) proofSuite(name, proof)

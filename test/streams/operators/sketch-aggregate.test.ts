import { afterEach, expect, test } from 'vitest'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import {
  HyperLogLog,
  hyperLogLogCodec,
  json,
  Topology,
  text,
  textKey,
  tumbling,
} from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import {
  addCustomer,
  GRACE_MS,
  pages,
  sketchProofs,
  type Visit,
  WINDOW_MS,
} from '../../oracle/proofs/sketch-aggregate.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const visit = (timeMs: number, customer: string, page = 'home') => ({
  key: customer,
  value: { page, customer, ms: timeMs },
  timeMs,
})

test('each result of a sketch that changes in place is what it was then', async () => {
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000 })
  open.push(driver)
  const seen: unknown[] = []
  const follow = driver.views.subscribe('customers', ({ changes }) => {
    seen.push(...changes.map(({ row }) => row.customers))
  })
  for await (const _ of follow.snapshot);
  await driver.pipe('visits', visit(1, 'ann'))
  await driver.pipe('visits', visit(2, 'bob'), visit(3, 'ann'))
  await driver.pipe('visits', visit(4, 'eve'))
  const counts = await driver.output('counts', { key: textKey(), value: text() })
  expect(counts.map(({ value }) => value)).toEqual(['1', '2', '3'])
  expect(seen).toEqual([1, 2, 3])
  follow.close()
})

test('batches of one round give each its own result', async () => {
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000, partitions: 2 })
  open.push(driver)
  await driver.append('visits', [
    { ...visit(1, 'ann'), partition: 0 },
    { ...visit(1, 'bob'), partition: 1 },
  ])
  await driver.process()
  const counts = await driver.output('counts', { key: textKey(), value: text() })
  expect(counts.map(({ value }) => value)).toEqual(['1', '2'])
})

test('an epoch that runs while the one before commits does not show in its changes', async () => {
  const database = new MemoryDatabase({
    beforeCommit: () => new Promise(resolve => setTimeout(resolve, 2)),
  })
  const settings = { epochRecordsMax: 1, alignMs: 0 }
  const driver = await TopologyTestDriver.open(pages(), { startMs: 1_000_000, database, settings })
  open.push(driver)
  const seen: unknown[] = []
  const follow = driver.views.subscribe('customers', ({ changes }) => {
    seen.push(...changes.map(({ row }) => row.customers))
  })
  for await (const _ of follow.snapshot);
  await driver.append('visits', [
    visit(1, 'ann'),
    visit(2, 'bob'),
    visit(3, 'eve'),
    visit(4, 'joe'),
  ])
  await driver.process()
  expect(seen).toEqual([1, 2, 3, 4])
  follow.close()
})

test('the value before a change is not the changed sketch', async () => {
  const topology = new Topology('before')
  const changes: string[] = []
  const sketches = topology
    .stream('visits', { key: textKey(), value: json<Visit>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .aggregate({
      name: 'sketches',
      initial: () => new HyperLogLog(),
      add: addCustomer,
      codec: hyperLogLogCodec,
    })
  topology.add({
    kind: 'operator',
    name: 'spy',
    type: 'spy',
    parents: [sketches.edge],
    stores: [],
    emission: 'records',
    timeDependent: false,
    create: () => ({
      process(input) {
        input.values.forEach((value, i) => {
          const before = input.previous?.[i] as HyperLogLog | undefined
          changes.push(`${before?.count()}>${(value as HyperLogLog).count()}`)
        })
      },
    }),
  })
  const driver = await TopologyTestDriver.open(topology, { startMs: 1_000_000 })
  open.push(driver)
  const named = (customer: string) => ({ ...visit(1, customer), key: 'k' })
  await driver.append('visits', [named('ann'), named('bob')])
  await driver.append('visits', [named('eve')])
  await driver.process()
  await driver.pipe('visits', named('joe'))
  expect(changes.at(-1)).toBe('3>4')
})

for (const { name, proof } of sketchProofs) proofSuite(name, proof)

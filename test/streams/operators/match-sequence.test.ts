import { afterEach, expect, test } from 'vitest'
import { Topology, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters, written } from '../../oracle/proof.ts'
import {
  attempts,
  is,
  matched,
  type Options,
  out,
  STEPS,
  sequenceProofs,
} from '../../oracle/proofs/match-sequence.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const attempt = (timeMs: number, outcome: string, card = 'A') => ({
  key: `a${timeMs}`,
  value: { card, outcome, id: timeMs },
  timeMs,
})

/** Matches of records `outcome@time`, those of one batch parted by spaces, batches by bars. */
async function run(records: string, options: Options = {}): Promise<string> {
  const driver = await start(matched(options).topology)
  for (const batch of records.split(' | ')) {
    const parsed = batch.split(' ').map(record => {
      const [outcome, timeMs] = record.split('@')
      return attempt(Number(timeMs), outcome!)
    })
    await driver.pipe('attempts', ...parsed)
  }
  await driver.pipe('attempts', attempt(100_000, 'x', 'Z'))
  await checkStores(driver)
  return (await written(driver, 'matches')).join(' ')
}

test('declined, declined, authorized is found, and records between are passed over', async () => {
  expect(await run('d@10 d@20 a@30')).toBe('A=10@10+20@20+30@30')
  expect(await run('d@10 x@15 d@20 x@25 a@30')).toBe('A=10@10+20@20+30@30')
  expect(await run('d@10 | x@15 | d@20 | a@30')).toBe('A=10@10+20@20+30@30')
  expect(await run('d@10 a@20')).toBe('')
})

test('strict contiguity ends a match at a record that does not fit', async () => {
  const contiguity = 'strict'
  expect(await run('d@10 d@20 a@30', { contiguity })).toBe('A=10@10+20@20+30@30')
  expect(await run('d@10 x@15 d@20 a@30', { contiguity })).toBe('')
  expect(await run('d@10 d@20 | x@25 | a@30', { contiguity })).toBe('')
  // The third decline ends what the first began, not what the second did.
  expect(await run('d@10 d@20 d@25 a@30', { contiguity })).toBe('A=20@20+25@25+30@30')
})

test('of the matches that a record ends, the one that began first is given', async () => {
  expect(await run('d@10 d@20 d@25 a@30')).toBe('A=10@10+20@20+30@30')
})

test('the next match begins behind the last record of the one before', async () => {
  expect(await run('d@10 d@20 d@25 a@30 a@40')).toBe('A=10@10+20@20+30@30')
  expect(await run('d@10 d@20 a@30 d@40 d@50 a@60')).toBe('A=10@10+20@20+30@30 A=40@40+50@50+60@60')
})

test('first and last are at most the time apart; a later start takes over', async () => {
  expect(await run('d@10 d@20 a@110')).toBe('A=10@10+20@20+110@110')
  expect(await run('d@10 d@20 a@111')).toBe('')
  expect(await run('d@10 d@20 d@30 a@111')).toBe('A=20@20+30@30+111@111')
  expect(await run('d@10 | d@20 | d@30 | a@111')).toBe('A=20@20+30@30+111@111')
})

test('records are put in the order of event time before they are matched', async () => {
  expect(await run('a@30 | d@20 | d@10')).toBe('A=10@10+20@20+30@30')
  expect(await run('d@20 d@30 | a@10')).toBe('')
})

test('records of one time go by partition, then offset', async () => {
  const on = (partition: number, outcome: string, id: number) => ({
    key: `k${id}`,
    value: { card: 'A', outcome, id },
    timeMs: 50,
    partition,
  })
  for (const order of [
    [0, 1, 2],
    [1, 2, 0],
  ]) {
    const driver = await start(matched().topology, 2)
    const records = [on(1, 'a', 3), on(0, 'd', 1), on(0, 'd', 2)]
    for (const i of order) await driver.pipe('attempts', records[i]!)
    for (const partition of [0, 1]) {
      await driver.pipe('attempts', { ...attempt(1_000, 'x'), partition })
    }
    expect(await written(driver, 'matches')).toEqual(['A=1@50+2@50+3@50'])
  }
})

test('a match comes when the watermark is beyond its last time + grace, with that time', async () => {
  const driver = await start(matched().topology)
  await driver.pipe('attempts', attempt(10, 'd'), attempt(20, 'd'), attempt(30, 'a'))
  await driver.pipe('attempts', attempt(50, 'x'))
  expect(await driver.output('matches', out)).toEqual([])
  await driver.pipe('attempts', attempt(51, 'x'))
  expect(await driver.output('matches', out)).toMatchObject([{ key: 'A', timeMs: 30 }])
  await driver.pipe('attempts', attempt(500, 'x'))
  expect(await driver.output('matches', out)).toEqual([])
})

test('a record is late when time + grace is before its stream time', async () => {
  const driver = await start(matched().topology)
  await driver.pipe('attempts', attempt(100, 'x', 'B'), attempt(80, 'd'), attempt(79, 'd'))
  await driver.pipe('attempts', attempt(81, 'd'), attempt(82, 'a'), attempt(300, 'x'))
  expect(await written(driver, 'matches')).toEqual(['A=80@80+81@81+82@82'])
  expect(await deadLetters(driver)).toEqual(['late attempts/0@2'])
})

test('a record on which a predicate fails is poison, and matches nothing', async () => {
  const driver = await start(matched().topology)
  const bad = { key: 'b', value: { card: 'A', outcome: 'd', id: -1 }, timeMs: 15 }
  await driver.pipe('attempts', attempt(10, 'd'), bad, attempt(20, 'a'), attempt(300, 'x'))
  expect(await written(driver, 'matches')).toEqual([])
  expect(await deadLetters(driver)).toEqual(['poison attempts/0@1'])
})

test('a single step matches each record that fits', async () => {
  const topology = new Topology('single')
  topology
    .stream('attempts', attempts)
    .matchSequence({
      name: 'declined',
      steps: [{ name: '__proto__', where: is('d') }],
      withinMs: 0,
      graceMs: 0,
    })
    .mapValues(({ events }) => Object.entries(events).join())
    .to('matches', out)
  const driver = await start(topology)
  const one = (timeMs: number, outcome: string) => ({ ...attempt(timeMs, outcome), key: 'k' })
  await driver.pipe('attempts', one(1, 'd'), one(2, 'x'), one(3, 'd'), one(3, 'd'), one(9, 'x'))
  const found = await driver.output('matches', out)
  expect(found.map(({ value, timeMs }) => `${value}@${timeMs}`)).toEqual([
    '__proto__,[object Object]@1',
    '__proto__,[object Object]@3',
    '__proto__,[object Object]@3',
  ])
})

test('nothing is kept of records and matches begun once their time is over', async () => {
  const driver = await start(matched().topology)
  for (let i = 1; i < 50; i++) await driver.pipe('attempts', attempt(i * 10, 'd', `c${i}`))
  expect(await begunRows(driver)).toBeGreaterThan(10)
  await driver.pipe('attempts', attempt(10_000, 'x', 'Z'), attempt(10_100, 'y', 'Z'))
  expect(await begunRows(driver)).toBe(0)
  await checkStores(driver)
})

async function begunRows({ database }: TopologyTestDriver): Promise<number> {
  let rows = 0
  for await (const chunk of database.scan({ gte: Buffer.from('S'), lt: Buffer.from('T') })) {
    const keys = chunk.map(({ key }) => key.toString('latin1'))
    // The task's event time names the store, too.
    rows += keys.filter(key => key.includes('guessing-begun') && !key.includes('event-time')).length
  }
  return rows
}

test('a window below a sequence loses none of its matches (law 8)', async () => {
  const { topology, matches } = matched()
  matches
    .groupByKey({ name: 'again', key: textKey('card') })
    .windowedBy(tumbling(100, { graceMs: 0 }))
    .count({ name: 'matches-a-window', emit: 'close' })
    .toStream()
    .map((count, { key, windowStart }) => [`${key}@${windowStart}`, `${count}`])
    .to('counts', out)
  const driver = await start(topology)
  for (const base of [0, 60, 150, 300]) {
    await driver.pipe('attempts', attempt(base + 10, 'd'), attempt(base + 20, 'd'))
    await driver.pipe('attempts', attempt(base + 39, 'a'))
    // Beyond the end of the window, but not of the match's grace.
    await driver.pipe('attempts', attempt(base + 50, 'x'))
  }
  await driver.pipe('attempts', attempt(1_000, 'x'))
  expect(await written(driver, 'counts')).toEqual(['A@0=2', 'A@100=1', 'A@300=1'])
  expect(await deadLetters(driver)).toEqual([])
})

test('a sequence refuses steps and times that make none, and a re-keyed stream', () => {
  expect(() => matched({ steps: [] })).toThrow(/1 to 30 steps/)
  expect(() => matched({ steps: [STEPS[0], STEPS[0]] })).toThrow(/one name/)
  expect(() => matched({ withinMs: -1 })).toThrow(/withinMs/)
  expect(() => matched({ graceMs: 0.5 })).toThrow(/graceMs/)
  const stream = new Topology('rekeyed').stream('attempts', attempts).selectKey(() => 'k')
  const options = { name: 's', steps: STEPS, withinMs: 1, graceMs: 0, written: attempts }
  expect(() => stream.matchSequence(options)).toThrow(/repartition/)
})

for (const { name, proof } of sequenceProofs) proofSuite(name, proof)

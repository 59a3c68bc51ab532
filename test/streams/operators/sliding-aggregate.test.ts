import { afterEach, expect, test } from 'vitest'
import { json, sliding, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { orderedRecordsCodec } from '../../../streams/ordered-records.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters, latest, written } from '../../oracle/proof.ts'
import {
  type Reading,
  readings,
  rows,
  slidingProofs,
} from '../../oracle/proofs/sliding-aggregate.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const reading = (timeMs: number, value: number, sensor = 'A') => ({
  key: `r${timeMs}`,
  value: { sensor, value },
  timeMs,
})
const changes = async (driver: TopologyTestDriver) =>
  (await driver.output('changes', { key: textKey(), value: text() }))
    .map(({ key, value }) => `${key}=${value}`)
    .join(' ')

const JAVADOC = [
  'A[3000,8001)=1',
  'A[4200,9201)=1,2',
  'A[7400,12401)=1,2,3',
  'A[8001,13002)=2,3',
  'A[9201,14202)=3',
]

test('the five windows of the example of Kafka Streams’ javadoc, in any order of arrival', async () => {
  const records = [reading(8000, 1), reading(9200, 2), reading(12_400, 3)]
  for (const [a, b, c] of [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ] as const) {
    const together = await start(readings())
    await together.pipe('readings', records[a]!, records[b]!, records[c]!)
    expect(await rows(together)).toEqual(JAVADOC)
    const apart = await start(readings())
    for (const i of [a, b, c]) await apart.pipe('readings', records[i]!)
    expect(await rows(apart)).toEqual(JAVADOC)
    await checkStores(apart)
  }
})

test('each record changes the windows that it enters, and opens one behind the record before', async () => {
  const driver = await start(readings())
  await driver.pipe('readings', reading(8000, 1))
  await driver.pipe('readings', reading(9200, 2))
  await driver.pipe('readings', reading(12_400, 3))
  expect((await changes(driver)).split(' ').sort().join(' ')).toBe(
    'A[3000,8001)=1 ' +
      'A[4200,9201)=1,2 ' +
      'A[7400,12401)=1,2,3 ' +
      'A[8001,13002)=2 ' +
      'A[8001,13002)=2,3 ' +
      'A[9201,14202)=3',
  )
})

test('records exactly the difference apart are together, one more apart are not', async () => {
  const driver = await start(readings({ differenceMs: 10 }))
  await driver.pipe('readings', reading(100, 1), reading(110, 2), reading(121, 3))
  expect(await rows(driver)).toEqual([
    'A[90,101)=1',
    'A[100,111)=1,2',
    'A[101,112)=2',
    'A[111,122)=3',
  ])
})

test('records before the difference share the window that begins at 0', async () => {
  const driver = await start(readings({ differenceMs: 10 }))
  await driver.pipe('readings', reading(3, 1), reading(7, 2), reading(11, 3))
  expect(await rows(driver)).toEqual(['A[0,11)=1,2', 'A[1,12)=1,2,3', 'A[4,15)=2,3', 'A[8,19)=3'])
})

test('a difference of 0 holds the records of one time, and keys do not touch', async () => {
  const driver = await start(readings({ differenceMs: 0 }), 2)
  const at = (key: string, value: number, sensor?: string) => ({
    ...reading(100, value, sensor),
    key,
    partition: 0,
  })
  await driver.pipe('readings', at('a', 1), at('b', 2), at('c', 3, 'B'), reading(101, 4))
  expect(await rows(driver)).toEqual(['A[100,101)=1,2', 'B[100,101)=3', 'A[101,102)=4'])
})

test('a window closes when the watermark reaches its end + grace; an open one still takes the record', async () => {
  const driver = await start(readings({ differenceMs: 10, graceMs: 5, emit: 'close' }))
  await driver.pipe('readings', reading(100, 1), reading(105, 2))
  expect(await changes(driver)).toBe('')
  // [90,101) closes at 106, so that 99 is too late for it and for its own, not for [95,106).
  await driver.pipe('readings', reading(107, 3), reading(99, 4))
  expect(await rows(driver)).toEqual([
    'A[90,101)=1!',
    'A[95,106)=4,1,2',
    'A[97,108)=4,1,2,3',
    'A[100,111)=1,2,3',
    'A[101,112)=2,3',
    'A[106,117)=3',
  ])
  expect(await deadLetters(driver)).toEqual(['late readings/0@3'])
  expect(await changes(driver)).toBe('A[90,101)=1')
  await driver.pipe('readings', reading(500, 5))
  expect(await changes(driver)).toBe(
    'A[95,106)=4,1,2 A[97,108)=4,1,2,3 A[100,111)=1,2,3 A[101,112)=2,3 A[106,117)=3',
  )
  await checkStores(driver)
})

test('a record too late for every window that it could be in changes none', async () => {
  const driver = await start(readings({ differenceMs: 10, graceMs: 5 }))
  await driver.pipe('readings', reading(100, 1), reading(116, 2))
  const before = await rows(driver)
  await driver.pipe('readings', reading(99, 3))
  expect(await rows(driver)).toEqual(before)
  expect(await deadLetters(driver)).toEqual(['late readings/0@2'])
})

test('a record too late for all windows with it does not open the one right behind it', async () => {
  for (const [streamTimeMs, opens] of [
    [115, true],
    [116, false],
  ] as const) {
    const driver = await start(readings({ differenceMs: 10, graceMs: 5 }))
    await driver.pipe('readings', reading(105, 1), reading(streamTimeMs, 2), reading(100, 3))
    expect((await rows(driver)).includes('A[101,112)=1')).toBe(opens)
    expect(await deadLetters(driver)).toEqual(['late readings/0@2'])
  }
})

test('windows leave with their retention, records as soon as no window can need them', async () => {
  const driver = await start(readings({ differenceMs: 10, graceMs: 5, retentionMs: 50 }))
  await driver.pipe('readings', reading(100, 1), reading(105, 2), reading(155, 3))
  expect(await rows(driver)).toEqual(['A[95,106)=1,2!', 'A[101,112)=2!', 'A[145,156)=3'])
  await driver.pipe('readings', reading(1_000, 4))
  expect(await rows(driver)).toEqual(['A[990,1001)=4'])
  await checkStores(driver)
})

test('an overflow in one window leaves all its windows as they were', async () => {
  const driver = await start(readings({ differenceMs: 10 }))
  await driver.pipe('readings', reading(100, 1), reading(105, 13))
  const before = await rows(driver)
  await driver.pipe('readings', reading(107, 2))
  expect(await rows(driver)).toEqual(before)
  expect(await deadLetters(driver)).toEqual(['overflow readings/0@2'])
  await driver.pipe('readings', reading(95, 3))
  expect(await rows(driver)).toContain('A[95,106)=3,1,13')
})

test('counts keep no values, and reduce begins with the first value of event time', async () => {
  const topology = new Topology('counts')
  const grouped = topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(({ sensor }) => sensor, { name: 'by-sensor', key: textKey('sensor') })
  const windowed = grouped.windowedBy(sliding(10, { graceMs: 100 }))
  const line = (value: unknown, w: { windowStart: number }) =>
    [String(w.windowStart), JSON.stringify(value)] as const
  const out = { key: textKey(), value: text() }
  windowed.count({ name: 'counts' }).toStream().map(line).to('counts', out)
  windowed
    .reduce({ name: 'first', reduce: first => first })
    .toStream()
    .map(line)
    .to('first', out)
  const driver = await start(topology)
  await driver.pipe('readings', reading(105, 2), reading(100, 1))
  expect((await latest(driver, 'counts')).join(' ')).toBe('101=1@105 90=1@100 95=2@105')
  expect((await latest(driver, 'first')).join(' ')).toMatch(
    /101=.*"value":2.* 90=.*"value":1.* 95=.*"value":1/,
  )
})

test('a window below sliding windows that emit on close loses none of them (law 8)', async () => {
  const topology = new Topology('chained')
  topology
    .stream('readings', { key: textKey(), value: json<Reading>() })
    .groupBy(({ sensor }) => sensor, { name: 'by-sensor', key: textKey('sensor') })
    .windowedBy(sliding(10, { graceMs: 5 }))
    .count({ name: 'slides', emit: 'close' })
    .toStream()
    .groupBy((_, { key }) => key, { name: 'again', key: textKey('sensor') })
    .windowedBy(tumbling(100, { graceMs: 0 }))
    .count({ name: 'slides-a-window', emit: 'close' })
    .toStream()
    .map((count, { key, windowStart }) => [`${key}@${windowStart}`, `${count}`])
    .to('counts', { key: textKey(), value: text() })
  const driver = await start(topology)
  for (const timeMs of [50, 99, 101, 199, 205, 300, 400]) {
    await driver.pipe('readings', reading(timeMs, 1))
  }
  // [89,100) is the window of 50 and of 99; [91,102), [100,111), [189,200) end in the second.
  expect(await written(driver, 'counts')).toEqual(['A@0=2', 'A@100=3', 'A@200=2'])
  expect(await deadLetters(driver)).toEqual([])
})

test('sliding windows refuse a negative difference', () => {
  expect(() => sliding(-1, { graceMs: 0 })).toThrow(/time difference/)
})

test('golden bytes of ordered records', () => {
  const record = { timeMs: 1, source: -1, offset: 2, note: 3, value: Buffer.from('v') }
  const bytes = orderedRecordsCodec.encode([record])
  expect(bytes.toString('hex')).toBe(
    '3ff0000000000000ffffffff400000000000000040080000000000000000000176',
  )
  expect(orderedRecordsCodec.decode(bytes)).toEqual([record])
  expect(() => orderedRecordsCodec.decode(bytes.subarray(0, 32))).toThrow(/ends early/)
})

for (const { name, proof } of slidingProofs) proofSuite(name, proof)

import { afterEach, expect, test } from 'vitest'
import { json, sessions, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import type { ViewUpdate } from '../../../streams/views.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters, written } from '../../oracle/proof.ts'
import { rows, sessionProofs, type Visit, visits } from '../../oracle/proofs/session-aggregate.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

const visit = (timeMs: number, user = 'A', spend = 1) => ({
  key: `v${timeMs}`,
  value: { user, spend },
  timeMs,
})
const changes = async (driver: TopologyTestDriver) =>
  (await driver.output('changes', { key: textKey(), value: text() }))
    .map(({ key, value }) => `${key}=${value}`)
    .join(' ')

test('a record between two sessions makes them one: the example of Kafka Streams’ javadoc', async () => {
  const driver = await start(visits())
  await driver.pipe('visits', visit(10, 'A', 1), visit(12, 'A', 2), visit(20, 'A', 3))
  expect(await rows(driver)).toEqual(['A[10,12]=2,3', 'A[20,20]=1,3'])
  expect(await changes(driver)).toBe('A[10,12]=2,3 A[20,20]=1,3')
  await driver.pipe('visits', visit(16, 'A', 4))
  expect(await rows(driver)).toEqual(['A[10,20]=4,10'])
  expect(await changes(driver)).toBe('A[10,12]=null A[20,20]=null A[10,20]=4,10')
  await checkStores(driver)
})

test('events exactly one gap apart are one session, one more apart are two', async () => {
  const driver = await start(visits())
  await driver.pipe('visits', visit(10), visit(15), visit(21))
  expect(await rows(driver)).toEqual(['A[10,15]=2,2', 'A[21,21]=1,1'])
})

test('an earlier record moves the start, one within changes only the value', async () => {
  const driver = await start(visits())
  await driver.pipe('visits', visit(10), visit(14))
  await driver.pipe('visits', visit(12))
  await driver.pipe('visits', visit(6))
  expect(await changes(driver)).toBe('A[10,14]=2,2 A[10,14]=3,3 A[10,14]=null A[6,14]=4,4')
})

test('a session that grows within a batch never shows its steps', async () => {
  const driver = await start(visits({ graceMs: 20 }))
  await driver.pipe('visits', visit(10), visit(20), visit(30))
  await driver.pipe('visits', visit(15), visit(25), visit(33))
  expect(await changes(driver)).toBe(
    'A[10,10]=1,1 A[20,20]=1,1 A[30,30]=1,1 ' +
      'A[10,10]=null A[20,20]=null A[30,30]=null A[10,33]=6,6',
  )
})

test('sessions of different keys do not touch, and rows are ordered by start, then key', async () => {
  const driver = await start(visits(), 3)
  await driver.pipe('visits', visit(10, 'ab'), visit(10, 'a'), visit(11, 'b'), visit(9, 'c'))
  await driver.pipe('visits', visit(10, 'a\0'), visit(13, 'a'))
  expect(await rows(driver)).toEqual([
    'c[9,9]=1,1',
    'a[10,13]=2,2',
    'a\0[10,10]=1,1',
    'ab[10,10]=1,1',
    'b[11,11]=1,1',
  ])
  const page = await driver.views.rows('sessions', { key: {}, from: 10, to: 11, limit: 10 })
  expect(page.rows.map(({ user }) => user)).toEqual(['a', 'a\0', 'ab'])
})

test('a record is late when ts + grace is before its stream time, and on time before', async () => {
  const driver = await start(visits())
  await driver.pipe('visits', visit(100, 'B'), visit(90), visit(89), visit(95))
  expect(await rows(driver)).toEqual(['A[90,95]=2,2', 'B[100,100]=1,1'])
  expect(await deadLetters(driver)).toEqual(['late visits/0@2'])
})

test('law 10: a record of 10:29 with stream time 10:39 merges, whatever the watermark; 10:55 is late', async () => {
  const minutes = (hours: number, of: number) => (hours * 60 + of) * 60_000
  for (const [streamTime, merged] of [
    [minutes(10, 39), true],
    [minutes(10, 55), false],
  ] as const) {
    for (const other of [minutes(10, 1), minutes(10, 55)]) {
      const driver = await start(visits({ gapMs: 30 * 60_000, graceMs: 10 * 60_000 }), 2)
      const on = (partition: number, timeMs: number, user = 'A') => ({
        ...visit(timeMs, user),
        partition,
      })
      await driver.pipe('visits', on(0, minutes(10, 0)), on(1, minutes(10, 0), 'B'))
      await driver.pipe('visits', on(1, other, 'B'))
      await driver.pipe('visits', on(0, streamTime, 'C'))
      await driver.pipe('visits', on(0, minutes(10, 29)))
      const found = (await driver.rows('sessions')).filter(({ user }) => user === 'A')
      expect(found.map(({ count }) => count)).toEqual([merged ? 2 : 1])
      expect(await deadLetters(driver)).toEqual(merged ? [] : ['late visits/0@2'])
    }
  }
})

test('on close a session comes once, when the watermark is beyond end + gap + grace', async () => {
  const driver = await start(visits({ emit: 'close' }))
  await driver.pipe('visits', visit(10), visit(12), visit(27, 'B'))
  expect(await changes(driver)).toBe('')
  expect(await rows(driver)).toEqual(['A[10,12]=2,2', 'B[27,27]=1,1'])
  await driver.pipe('visits', visit(28, 'B'))
  expect(await changes(driver)).toBe('A[10,12]=2,2')
  expect(await rows(driver)).toEqual(['A[10,12]=2,2!', 'B[27,28]=2,2'])
})

test('followers of the view see a merge as deletions and a closing as a final row', async () => {
  const driver = await start(visits())
  const seen: string[] = []
  const note = ({ changes }: ViewUpdate) => {
    for (const { op, row } of changes) {
      const bounds = `${row.user}[${row.windowStart},${row.windowEnd}]`
      seen.push(op === 'delete' ? `-${bounds}` : `${bounds}=${row.count}${row.final ? '!' : ''}`)
    }
  }
  await driver.pipe('visits', visit(10))
  const subscription = driver.views.subscribe('sessions', note)
  for await (const _ of subscription.snapshot);
  await driver.pipe('visits', visit(13))
  await driver.pipe('visits', visit(28, 'B'))
  await driver.pipe('visits', visit(29, 'B'))
  expect(seen.join(' ')).toBe('-A[10,10] A[10,13]=2 B[28,28]=1 -B[28,28] B[28,29]=2 A[10,13]=2!')
  subscription.close()
})

test('a session is dropped after its retention, a long one not before its last event', async () => {
  const driver = await start(visits({ retentionMs: 160 }))
  const long = Array.from({ length: 60 }, (_, i) => visit(10 + i * 5, 'L'))
  await driver.pipe('visits', visit(10), visit(12), ...long)
  await driver.pipe('visits', visit(480, 'B'))
  expect(await rows(driver)).toEqual(['B[480,480]=1,1'])
  const again = await start(visits({ retentionMs: 160 }))
  await again.pipe('visits', visit(10), visit(12))
  for (const one of long) await again.pipe('visits', one)
  await again.pipe('visits', visit(460, 'B'))
  expect(await rows(again)).toEqual(['L[10,305]=60,60!', 'B[460,460]=1,1'])
  await again.pipe('visits', visit(480, 'B'))
  expect(await rows(again)).toEqual(['B[460,460]=1,1!', 'B[480,480]=1,1'])
  await checkStores(again)
})

test('an overflow leaves its sessions as they were', async () => {
  const driver = await start(visits())
  await driver.pipe('visits', visit(10), visit(20))
  await driver.pipe('visits', visit(15, 'A', -1))
  expect(await rows(driver)).toEqual(['A[10,10]=1,1', 'A[20,20]=1,1'])
  expect(await deadLetters(driver)).toEqual(['overflow visits/0@2'])
})

test('a window below sessions that emit on close loses none of them (law 8)', async () => {
  const topology = new Topology('chained')
  topology
    .stream('visits', { key: textKey(), value: json<Visit>() })
    .groupBy(visit => visit.user, { name: 'by-user', key: textKey('user') })
    .windowedBy(sessions(5, { graceMs: 10 }))
    .count({ name: 'session-counts', emit: 'close' })
    .toStream()
    .groupBy((_, { key }) => key, { name: 'again', key: textKey('user') })
    .windowedBy(tumbling(100, { graceMs: 0 }))
    .count({ name: 'sessions-a-window', emit: 'close' })
    .toStream()
    .map((count, { key, windowStart }) => [`${key}@${windowStart}`, `${count}`])
    .to('counts', { key: textKey(), value: text() })
  const driver = await start(topology)
  const times = [10, 30, 60, 99, 130, 150, 240, 260]
  for (const timeMs of times) await driver.pipe('visits', visit(timeMs))
  expect(await written(driver, 'counts')).toEqual(['A@0=4', 'A@100=2'])
  expect(await deadLetters(driver)).toEqual([])
})

test('the session step refuses a retention below gap and grace', () => {
  expect(() => visits({ retentionMs: 14 })).toThrow(/at least/)
})

for (const { name, proof } of sessionProofs) proofSuite(name, proof)

import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { json, Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters, written } from '../../oracle/proof.ts'
import { processProofs } from '../../oracle/proofs/process.ts'

const LINES = { key: textKey(), value: text() }
const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(
  topology: Topology,
  options: { database?: MemoryDatabase; partitions?: number; startMs?: number } = {},
): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { startMs: 1_000_000, ...options })
  open.push(driver)
  return driver
}

const lines = async (driver: TopologyTestDriver, topic = 'out') =>
  (await driver.output(topic, LINES)).map(r => `${r.key}=${r.value}@${r.timeMs}`).join(' ')
const at = (timeMs: number, key = 'a', value = 1) => ({ key, value, timeMs })

/** Sums by key; a record of 13 fails after it has written, forwarded and scheduled. */
function sums(): Topology {
  const topology = new Topology('sums')
  const numbers = topology.stream('in', { key: textKey(), value: json<number>() })
  const out = numbers.process({
    name: 'sum',
    key: textKey(),
    keepsKeys: true,
    stores: {
      sums: { key: textKey(), codec: json<number>() },
      counts: { key: textKey(), codec: json<number>() },
    },
    results: LINES,
    create: context => ({
      process({ key, value, timeMs }) {
        const sums = context.store('sums')
        const sum = (sums.get(key) ?? 0) + value
        sums.put(key, sum)
        const counts = context.store('counts')
        counts.put(key, (counts.get(key) ?? 0) + 1)
        context.forward(key, `${sum}/${counts.get(key)}`)
        const timer = { clock: 'event', atMs: timeMs + 100, key, name: 'quiet' } as const
        context.schedule(timer)
        if (value === 13) throw new Error('unlucky')
        if (value === 14) throw new RangeError('too much')
        if (value === 15) context.drop('duplicate', 'asked for')
      },
      onTimer({ key, atMs, name }) {
        const sums = context.store('sums')
        if (sums.get(key) === 66) throw new Error('cannot')
        context.forward(key, `${name} at ${atMs}: ${sums.get(key)}`)
        sums.delete(key)
      },
    }),
  })
  out.to('out', LINES)
  out.side('duplicate').to('asked', { key: textKey(), value: json() })
  return topology
}

test('a processor keeps rows, and forwards with the time of its record', async () => {
  const driver = await start(sums())
  await driver.pipe('in', at(1, 'a', 2), at(2, 'b', 5), at(3, 'a', 4))
  expect(await lines(driver)).toBe('a=2/1@1 b=5/1@2 a=6/2@3')
})

test('a record that fails leaves with its reason and has changed nothing', async () => {
  const driver = await start(sums())
  await driver.pipe('in', at(1, 'a', 2), at(2, 'a', 13), at(2, 'b', 14), at(3, 'a', 4))
  expect(await lines(driver)).toBe('a=2/1@1 a=6/2@3')
  expect(await deadLetters(driver)).toEqual(['overflow in/0@2', 'poison in/0@1'])
  await driver.pipe('in', at(103, 'z', 0))
  expect(await lines(driver)).toBe('z=0/1@103 a=quiet at 101: 6@101 a=quiet at 103: undefined@103')
})

test('a result with a time that is none is a failure of its record, not an endless loop', async () => {
  const topology = new Topology('times')
  topology
    .stream('in', { key: textKey(), value: text() })
    .process({
      name: 'at',
      key: textKey(),
      keepsKeys: true,
      stores: {},
      create: context => ({
        process: ({ key, value }) => context.forward(key, value, Number(value)),
      }),
    })
    .to('out', LINES)
  const driver = await start(topology)
  const times = ['5', 'Infinity', '-Infinity', 'NaN', '1.5', '1e300', '6']
  await driver.pipe('in', ...times.map((value, i) => ({ key: 'k', value, timeMs: i })))
  expect(await lines(driver)).toBe('k=5@5 k=6@6')
  expect(await deadLetters(driver)).toEqual([1, 2, 3, 4, 5].map(i => `poison in/0@${i}`))
})

test('a record that a processor drops goes to the side output; what it did remains', async () => {
  const driver = await start(sums())
  await driver.pipe('in', at(1, 'a', 15), at(2, 'a', 1))
  expect(await lines(driver)).toBe('a=15/1@1 a=16/2@2')
  expect(await lines(driver, 'asked')).toBe('a=15@1')
  const noKey = { key: null, value: 1, timeMs: 1 }
  await driver.pipe('in', noKey)
  expect(await deadLetters(driver)).toEqual(['null-key in/0@2'])
})

test('an event timer is called once, when the watermark reaches it, also after a restart', async () => {
  const database = new MemoryDatabase()
  const first = await start(sums(), { database })
  await first.pipe('in', at(1, 'a', 7), at(100, 'b', 1))
  expect(await lines(first)).toBe('a=7/1@1 b=1/1@100')
  await first.close()
  open.length = 0
  const second = await start(sums(), { database })
  await second.pipe('in', at(101, 'b', 1))
  await second.pipe('in', at(150, 'b', 1))
  expect(await written(second, 'out')).toContain('a=quiet at 101: 7')
  expect((await written(second, 'out')).length).toBe(0)
  await checkStores(second)
})

test('a timer that fails is a dead letter with its name, and is not called again', async () => {
  const driver = await start(sums())
  await driver.pipe('in', at(1, 'a', 66), at(200, 'b', 1), at(300, 'b', 1))
  const letters = await driver.output('sums-dead-letters', LINES)
  expect(letters.map(({ headers }) => headers.dl_detail)).toEqual(['timer quiet: Error: cannot'])
  expect(await lines(driver)).toContain('b=quiet at 300: 2@300')
})

/** Timers that add and cancel timers. */
function chain(): Topology {
  const topology = new Topology('chain')
  topology
    .stream('in', { key: textKey(), value: json<number>() })
    .process({
      name: 'chain',
      key: textKey(),
      stores: {},
      results: LINES,
      create: context => {
        const event = (key: string, atMs: number, name: string) =>
          ({ clock: 'event', atMs, key, name }) as const
        return {
          process({ key, value, timeMs }) {
            if (value > 0) context.schedule(event(key, timeMs + value, 'tick'))
            if (value < 0) context.cancel(event(key, timeMs - value, 'tick'))
          },
          onTimer({ key, atMs, name }) {
            context.forward(key, `${name}${atMs}`)
            if (name === 'back') context.schedule(event(key, atMs, 'tick'))
            if (key === 'stop') context.cancel(event('a', 30, 'tick'))
            if (key === 'a' && atMs < 50) context.schedule(event(key, atMs + 20, 'tick'))
            if (key === 'odd') context.schedule(event(key, atMs, 'again'))
          },
        }
      },
    })
    .to('out', LINES)
  return topology
}

test('timers are called in the order of their times, those that timers add among them', async () => {
  const driver = await start(chain())
  await driver.pipe('in', at(0, 'a', 10), at(0, 'b', 40), at(0, 'c', 20), at(1000, 'x', 0))
  expect(await lines(driver)).toBe('a=tick10@10 c=tick20@20 a=tick30@30 b=tick40@40 a=tick50@50')
})

test('a canceled timer is not called, not even when it is due already', async () => {
  const driver = await start(chain())
  await driver.pipe('in', at(0, 'b', 40), at(5, 'b', -35), at(0, 'a', 10), at(0, 'stop', 25))
  await driver.pipe('in', at(1000, 'x', 0))
  expect(await lines(driver)).toBe('a=tick10@10 stop=tick25@25')
})

test('a timer cannot add one that is not later than itself: it would never end', async () => {
  const driver = await start(chain())
  await driver.pipe('in', at(0, 'odd', 10), at(1000, 'x', 0))
  const letters = await driver.output('chain-dead-letters', LINES)
  expect(letters.length).toBe(1)
  expect(await lines(driver)).toBe('')
})

test('a timer of the past is called when the watermark moves next', async () => {
  const driver = await start(chain())
  await driver.pipe('in', at(500, 'x', 0))
  await driver.pipe('in', at(10, 'p', 5))
  expect(await lines(driver)).toBe('')
  await driver.pipe('in', at(501, 'x', 0))
  expect(await lines(driver)).toBe('p=tick15@15')
})

test('a wall timer is called when the clock has reached it, and reads its rows first', async () => {
  const topology = new Topology('wall')
  topology
    .stream('in', { key: textKey(), value: json<number>() })
    .process({
      name: 'wall',
      key: textKey(),
      stores: { last: { key: textKey() } },
      results: LINES,
      wallClock: true,
      prefetch: ({ key }, want) => want('last', `last-${key}`),
      prefetchTimer: ({ key }, want) => want('last', `last-${key}`),
      create: context => ({
        process({ key, value }) {
          context.store('last').put(`last-${key}`, value)
          const atMs = context.wallTimeMs + 5000
          context.schedule({ clock: 'wall', atMs, key, name: 'poll' })
        },
        onTimer({ key, atMs, name }) {
          context.forward(key, `${name} ${context.store('last').get(`last-${key}`)}`, 42)
          if (atMs < 1_010_000) {
            context.schedule({ clock: 'wall', atMs: atMs + 5000, key, name })
          }
        },
      }),
    })
    .to('out', LINES)
  const database = new MemoryDatabase()
  const first = await start(topology, { database })
  await first.pipe('in', at(1, 'a', 8))
  await first.advanceWallClock(4999)
  expect(await lines(first)).toBe('')
  await first.advanceWallClock(1001)
  expect(await lines(first)).toBe('a=poll 8@42')
  await first.close()
  open.length = 0
  const second = await start(topology, { database, startMs: 1_006_000 })
  await second.advanceWallClock(3000)
  expect(await lines(second)).toBe('a=poll 8@42')
  await second.advanceWallClock(2000)
  expect(await lines(second)).toBe('a=poll 8@42')
})

test('mistakes in the declaration are refused', () => {
  const stream = new Topology('t').stream('in', { key: textKey(), value: json<number>() })
  const base = { key: textKey(), create: () => ({ process() {} }) }
  const timers = { timers: { key: textKey() } }
  expect(() => stream.process({ ...base, name: 'a', stores: timers })).toThrow(/timers/)
  expect(() => stream.process({ ...base, name: 'b', stores: {}, holdsMs: -1 })).toThrow(/holdsMs/)
})

test('a store of a processor is served as a view, and its changes are followed', async () => {
  const topology = new Topology('served')
  topology.stream('in', { key: textKey(), value: json<number>() }).process({
    name: 'sum',
    key: textKey(),
    stores: { sums: { key: textKey('name'), codec: json<number>() } },
    views: [
      {
        store: 'sums',
        name: 'sums',
        description: 'Sums',
        value: { sum: Type.Integer() },
        row: sum => (sum > 100 ? undefined : { sum }),
      },
    ],
    create: context => ({
      process({ key, value }) {
        const sums = context.store('sums')
        if (value === 0) sums.delete(key)
        else sums.put(key, (sums.get(key) ?? 0) + value)
      },
    }),
  })
  const driver = await start(topology)
  await driver.pipe('in', at(1, 'a', 2), at(2, 'b', 5), at(3, 'c', 500))
  const changes: unknown[] = []
  driver.views.subscribe('sums', update => changes.push(...update.changes))
  await driver.pipe('in', at(4, 'a', 1), at(5, 'b', 0))
  expect(await driver.rows('sums')).toEqual([{ name: 'a', sum: 3 }])
  expect(changes).toEqual([
    { op: 'upsert', row: { name: 'a', sum: 3 } },
    { op: 'delete', row: { name: 'b' } },
  ])
})

test('a passive stream is read with another, whose event time does not wait for it', async () => {
  const topology = new Topology('passive')
  const read = (topic: string) => topology.stream(topic, { key: textKey(), value: json<number>() })
  read('in')
    .mergePassive(read('answers'))
    .process({
      name: 'timed',
      key: textKey(),
      stores: {},
      results: LINES,
      create: context => ({
        process({ key, value, timeMs }) {
          if (value === 1) context.schedule({ clock: 'event', atMs: timeMs + 10, key, name: 'due' })
          else context.forward(key, `${value}`)
        },
        onTimer: ({ key, atMs }) => context.forward(key, `due ${atMs}`),
      }),
    })
    .to('out', LINES)
  const driver = await start(topology)
  await driver.pipe('in', at(1, 'a', 1), at(11, 'b', 2))
  expect(await lines(driver)).toBe('b=2@11 a=due 11@11')
  // Neither is an answer late, nor does it move event time.
  await driver.pipe('in', at(20, 'c', 1))
  await driver.pipe('answers', at(5, 'a', 3), at(500, 'a', 4))
  expect(await lines(driver)).toBe('a=3@5 a=4@500')
})

test('a sink gives records headers of their own beside those they come with', async () => {
  const topology = new Topology('told')
  topology.stream('in', { key: textKey(), value: text() }).to('out', {
    ...LINES,
    headers: (value, key) => (value === 'plain' ? undefined : { by: `${key}/${value}`, é: 'ü' }),
  })
  const driver = await start(topology)
  const headers = { by: 'another', trace: '7' }
  await driver.pipe(
    'in',
    { key: 'a', value: 'x', timeMs: 1, headers },
    { key: 'a', value: 'plain', timeMs: 2, headers },
    { key: 'a', value: 'bare', timeMs: 3 },
  )
  expect((await driver.output('out', LINES)).map(record => record.headers)).toEqual([
    { trace: '7', by: 'a/x', é: 'ü' },
    headers,
    { by: 'a/bare', é: 'ü' },
  ])
})

for (const { name, proof } of processProofs) proofSuite(name, proof)

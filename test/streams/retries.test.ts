/** Records that are tried again: who waits, in which order they come, and when it ends. */
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { json, RetriableError, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { proofSuite } from '../oracle/harness.ts'
import { retryProof } from '../oracle/proofs/retries.ts'

const LINES = { key: textKey(), value: text() }

proofSuite(retryProof.name, retryProof.proof)

interface World {
  /** Keys that fail at present. */
  readonly down: Set<string>
  calls: number
}

function enrich(world: World, retry = { attempts: 4, firstMs: 1000, maxMs: 3000 }): Topology {
  const topology = new Topology('enrich')
  topology
    .stream('in', { key: textKey(), value: json<string>() })
    .mapValues((value, key) => {
      world.calls++
      if (world.down.has(key)) throw new RetriableError(`${key} is down`)
      return value
    })
    .retry(retry)
    .to('out', LINES)
  return topology
}

const start = (topology: Topology, database?: MemoryDatabase) =>
  TopologyTestDriver.open(topology, {
    partitions: 2,
    startMs: 50_000,
    ...(database && { database }),
  })
const out = async (driver: TopologyTestDriver) =>
  (await driver.output('out', LINES)).map(({ value }) => value)
const letters = async (driver: TopologyTestDriver) =>
  (await driver.output('enrich-dead-letters', LINES)).map(
    ({ value, headers: h }) => `${value} ${h.dl_code} ${h.dl_attempts}x ${h.dl_detail}`,
  )
const record = (key: string, value: string, partition: number, timeMs = 1) => ({
  key,
  value,
  timeMs,
  partition,
})

test('its partition waits, in order, and the other goes on', async () => {
  const world = { down: new Set(['a']), calls: 0 }
  const driver = await start(enrich(world))
  await driver.append('in', [record('b', 'b1', 0), record('a', 'a1', 0), record('a', 'a2', 0)])
  await driver.pipe('in', record('c', 'c1', 1))
  expect(await out(driver)).toEqual(['b1', 'c1'])
  await driver.pipe('in', record('c', 'c2', 1, 500_000))
  expect(await out(driver)).toEqual(['c2'])
  world.down.clear()
  await driver.advanceWallClock(999)
  expect(await out(driver)).toEqual([])
  await driver.advanceWallClock(1)
  expect(await out(driver)).toEqual(['a1', 'a2'])
  expect(await letters(driver)).toEqual([])
  await driver.close()
})

test('after its attempts it is a dead letter with their number, and the next one is tried', async () => {
  const world = { down: new Set(['a']), calls: 0 }
  const driver = await start(enrich(world))
  await driver.pipe('in', record('a', 'a1', 0), record('b', 'b1', 0))
  const waits: number[] = []
  for (let waited = 0; waited < 10_000; waited += 500) {
    const before = world.calls
    await driver.advanceWallClock(500)
    if (world.calls > before) waits.push(waited + 500)
  }
  // 1 s, 2 s, and 3 s for 4 s would be longer than the longest.
  expect(waits).toEqual([1000, 3000, 6000])
  expect(await letters(driver)).toEqual(['"a1" RetriableError 4x RetriableError: a is down'])
  expect(await out(driver)).toEqual(['b1'])
  await driver.close()
})

test('a process that is started again counts from the beginning', async () => {
  const world = { down: new Set(['a']), calls: 0 }
  const database = new MemoryDatabase()
  const before = await start(enrich(world), database)
  await before.pipe('in', record('a', 'a1', 0))
  await before.advanceWallClock(1000)
  await before.advanceWallClock(2000)
  expect(world.calls).toBe(3)
  await before.close()
  const after = await start(enrich(world), database)
  await after.process()
  await after.advanceWallClock(1000)
  await after.advanceWallClock(2000)
  expect(await letters(after)).toEqual([])
  await after.advanceWallClock(3000)
  expect(await letters(after)).toEqual(['"a1" RetriableError 4x RetriableError: a is down'])
  await after.close()
})

test('an error that is not marked is a dead letter at once', async () => {
  const topology = new Topology('enrich')
  topology
    .stream('in', { key: textKey(), value: json<string>() })
    .filter(() => {
      throw new TypeError('a bug')
    })
    .to('out', LINES)
  const driver = await start(topology)
  await driver.pipe('in', record('a', 'a1', 0))
  expect(await letters(driver)).toEqual(['"a1" TypeError 1x TypeError: a bug'])
  await driver.close()
})

test('a value that cannot be decoded yet makes its partition wait, without ending an epoch', async () => {
  let down = true
  const topology = new Topology('enrich')
  const value = {
    ...json<string>(),
    decode(bytes: Buffer, begin: number, end: number) {
      if (down) throw new RetriableError('the registry is down')
      return JSON.parse(bytes.toString('utf8', begin, end))
    },
  }
  topology.stream('in', { key: textKey(), value }).to('out', LINES)
  const driver = await start(topology)
  await driver.pipe('in', record('a', 'a1', 0))
  expect(await out(driver)).toEqual([])
  down = false
  await driver.advanceWallClock(100)
  expect(await out(driver)).toEqual(['a1'])
  await driver.close()
})

test('a timer that fails for a while is called again, with everything held meanwhile', async () => {
  let failing = 2
  const topology = new Topology('enrich')
  topology
    .stream('in', LINES)
    .process({
      name: 'timers',
      key: textKey(),
      stores: {},
      results: LINES,
      create: context => ({
        process({ key, timeMs }) {
          context.schedule({ clock: 'event', atMs: timeMs + 10, key, name: 'due' })
        },
        onTimer({ key }) {
          if (failing-- > 0) throw new RetriableError('not now')
          context.forward(key, 'fired')
        },
      }),
    })
    .to('out', LINES)
  const driver = await TopologyTestDriver.open(topology, { startMs: 50_000 })
  await driver.pipe('in', record('a', 'a1', 0), record('b', 'b1', 0, 100))
  expect(await out(driver)).toEqual([])
  await driver.advanceWallClock(100)
  await driver.advanceWallClock(200)
  expect(await out(driver)).toEqual(['fired'])
  expect(await letters(driver)).toEqual([])
  await driver.close()
})

test('views are shown meanwhile, and who follows them does not begin anew', async () => {
  const world = { down: new Set(['a']), calls: 0 }
  const topology = enrich(world)
  topology
    .stream('counted', LINES)
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  const driver = await start(topology)
  await driver.pipe('counted', record('x', '1', 0))
  const updates: string[] = []
  const stop = driver.engine.publisher.subscribe('counts', ({ changes, reset }) => {
    updates.push(reset === true ? 'reset' : `${changes.length}`)
  })
  await driver.append('in', [record('a', 'a1', 0)])
  await driver.pipe('counted', record('x', '2', 0))
  expect(world.calls).toBe(1)
  expect(driver.engine.state).toBe('running')
  expect(await driver.rows('counts')).toMatchObject([{ count: 2 }])
  await driver.advanceWallClock(1000)
  expect(world.calls).toBe(2)
  expect(updates).not.toContain('reset')
  expect(updates).toContain('1')
  stop()
  await driver.close()
})

test('a policy that makes no sense is refused', () => {
  const world = { down: new Set<string>(), calls: 0 }
  expect(() => enrich(world, { attempts: 0, firstMs: 1, maxMs: 1 })).toThrow(/attempts .* got 0/)
  expect(() => enrich(world, { attempts: 1, firstMs: -1, maxMs: 1 })).toThrow(/firstMs .* got -1/)
})

test('bytes that cannot be read yet wait as long as it takes, and are no dead letter', async () => {
  let known = false
  const pending = Object.assign(new Error('not known yet'), { retriable: true, pending: true })
  const lines = text()
  const topology = new Topology('enrich')
  topology
    .stream('in', {
      key: textKey(),
      value: {
        ...lines,
        decode: (bytes, from, to) => {
          const value = lines.decode(bytes, from, to)
          if (value.startsWith('new') && !known) throw pending
          return value
        },
      },
    })
    .to('out', LINES)
  const driver = await start(topology)
  const line = (value: string) => ({ key: 'k', value, timeMs: 1, partition: 0 })
  await driver.append('in', ['old', 'new 1', 'new 2', 'old 2'].map(line))
  await driver.pipe('in', { ...line('other'), partition: 1 })
  expect(await out(driver)).toEqual(['old', 'other'])
  // Far more often than a record is tried again whose failure counts.
  for (let attempt = 0; attempt < 20; attempt++) await driver.advanceWallClock(10_000)
  expect(await out(driver)).toEqual([])
  known = true
  await driver.advanceWallClock(10_000)
  expect(await out(driver)).toEqual(['new 1', 'new 2', 'old 2'])
  expect(await letters(driver)).toEqual([])
  await driver.close()
})

/** What a closing makes of some keys at once is mapped by a step that may fail. */
function closing(map: (key: string) => void, retry: Parameters<typeof enrich>[1]): Topology {
  const topology = new Topology('enrich')
  topology
    .stream('in', LINES)
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(100_000, { graceMs: 0 }))
    .count({ name: 'counts', retentionMs: 1_000_000, emit: 'close' })
    .toStream()
    .map((count, { key }) => {
      map(key)
      return [key, String(count)]
    })
    .retry(retry!)
    .to('out', LINES)
  return topology
}

const closed = (keys: readonly string[]) => [
  ...keys.map((key, i) => record(key, 'v', 0, i + 1)),
  record('end', 'v', 0, 200_000),
]

test('however many results of one closing fail, each has its attempts, and it ends', async () => {
  const keys = Array.from({ length: 1010 }, (_, i) => `k${i}`)
  // One error for all: half a million stacks would be most of what this takes.
  const failure = new RetriableError('down')
  const fail = () => {
    throw failure
  }
  const driver = await start(closing(fail, { attempts: 2, firstMs: 1, maxMs: 1 }))
  await driver.pipe('in', ...closed(keys))
  let found: string[] = []
  for (let waits = 0; waits < 1100 && found.length === 0; waits++) {
    await driver.advanceWallClock(1)
    found = await letters(driver)
  }
  expect(found).toHaveLength(keys.length)
  expect(found.filter(letter => !letter.includes(' 2x '))).toEqual([])
  await driver.close()
})

test('results of one time are tried each by itself', async () => {
  const tried = new Set<string>()
  const failOnce = (key: string) => {
    if (tried.has(key)) return
    tried.add(key)
    throw new RetriableError(key)
  }
  const driver = await start(closing(failOnce, { attempts: 3, firstMs: 100, maxMs: 100 }))
  const keys = [...'abcdef']
  await driver.append(
    'in',
    closed(keys).map(one => ({ ...one, timeMs: one.timeMs < 100 ? 5 : one.timeMs })),
  )
  for (let waits = 0; waits < 10; waits++) await driver.advanceWallClock(100)
  expect((await out(driver)).length).toBe(keys.length)
  expect(await letters(driver)).toEqual([])
  await driver.close()
})

/** A versioned aggregate, and what is made of its values. */
function journal(toOut: (lines: string, key: string) => string): Topology {
  const topology = new Topology('enrich')
  topology
    .stream('in', LINES)
    .groupByKey({ name: 'by-key', key: textKey() })
    .aggregate({
      name: 'journal',
      initial: () => '',
      add: (before: string, line) => before + line,
      versioned: { historyMs: 1000 },
    })
    .toStream()
    .mapValues(toOut)
    .retry({ attempts: 4, firstMs: 1000, maxMs: 3000 })
    .to('out', LINES)
  return topology
}

test('what a versioned aggregate tells for a record of before is not tried again before its time', async () => {
  const world = { down: false, calls: 0 }
  const topology = journal(lines => {
    world.calls++
    if (world.down) throw new RetriableError('down')
    return lines
  })
  const driver = await TopologyTestDriver.open(topology, { partitions: 1, startMs: 50_000 })
  await driver.pipe('in', record('mug', 'last', 0, 200))
  world.down = true
  await driver.pipe('in', record('mug', 'first ', 0, 100))
  expect([world.calls, await letters(driver)]).toEqual([2, []])
  world.down = false
  await driver.advanceWallClock(1000)
  expect(await out(driver)).toEqual(['last', 'first last'])
  await driver.close()
})

test('beside what a versioned aggregate tells for a record of before, another partition goes on', async () => {
  const world = { down: false }
  const topology = journal((lines, key) => {
    if (world.down && key === 'new') throw new RetriableError('down')
    return lines
  })
  const driver = await start(topology)
  await driver.pipe('in', record('mug', 'last', 0, 200))
  world.down = true
  await driver.append('in', [record('mug', 'first ', 0, 100), record('new', 'x', 0, 201)])
  await driver.pipe('in', record('other', 'y', 1, 201))
  await driver.process()
  expect(await out(driver)).toContain('y')
  await driver.close()
})

test.each(['a table', 'a join'])(
  'behind %s, what has waited in a store is not tried again before its time',
  async what => {
    const world = { down: true, calls: 0 }
    const topology = new Topology('enrich')
    const prices = topology.table('prices', { name: 'prices', ...LINES })
    const priced = topology
      .stream('in', LINES)
      .leftJoinAsOf(prices, order => order, { name: 'priced', graceMs: 10 })
    const within = { name: 'pairs', beforeMs: 1000, afterMs: 1000, graceMs: 1000 }
    const joined = () => {
      const sides = { left: LINES, right: LINES }
      const others = topology.stream('others', LINES)
      return priced.join(others, order => order, { ...within, ...sides })
    }
    const behind =
      what === 'a join' ? joined() : priced.toTable({ name: 'kept', ...LINES }).toStream()
    behind
      .mapValues(order => {
        if (order !== 'one') return order
        world.calls++
        if (world.down) throw new RetriableError('down')
        return order
      })
      .retry({ attempts: 4, firstMs: 1000, maxMs: 3000 })
      .to('out', LINES)
    const driver = await TopologyTestDriver.open(topology, { partitions: 1, startMs: 50_000 })
    if (what === 'a join') await driver.pipe('others', record('mug', 'x', 0, 200))
    await driver.pipe('in', record('mug', 'one', 0, 200))
    await driver.pipe('prices', record('other', 'x', 0, 2000))
    if (what === 'a join') await driver.pipe('others', record('other', 'x', 0, 2000))
    await driver.pipe('in', record('other', 'end', 0, 2000))
    expect([world.calls, await letters(driver)]).toEqual([1, []])
    world.down = false
    await driver.advanceWallClock(1000)
    expect(await out(driver)).toContain('one')
    await driver.close()
  },
)

test('a record that has waited in a store is not tried again before its time', async () => {
  const world = { down: new Set(['one']), calls: 0 }
  const topology = new Topology('enrich')
  const prices = topology.table('prices', { name: 'prices', ...LINES })
  topology
    .stream('in', LINES)
    .leftJoinAsOf(prices, order => order, { name: 'priced', graceMs: 10 })
    .mapValues(order => {
      world.calls++
      if (world.down.has(order)) throw new RetriableError('down')
      return order
    })
    .retry({ attempts: 4, firstMs: 1000, maxMs: 3000 })
    .to('out', LINES)
  const driver = await TopologyTestDriver.open(topology, { partitions: 1, startMs: 50_000 })
  await driver.pipe('in', record('mug', 'one', 0, 200))
  await driver.pipe('prices', record('other', 'x', 0, 2000))
  await driver.pipe('in', record('other', 'end', 0, 2000))
  expect([world.calls, await letters(driver)]).toEqual([1, []])
  world.down.clear()
  await driver.advanceWallClock(1000)
  expect(await out(driver)).toContain('one')
  await driver.close()
})

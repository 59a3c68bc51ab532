/**
 * The examples and counter-examples of Kafka Streams' javadoc (4.3: TimeWindows, JoinWindows,
 * Suppressed, KStream, KTable), case by case, as Millrace answers them. Sliding windows and
 * sessions are beside their operators. Where the answer differs on purpose, the test says so and
 * docs/TIME.md says why.
 */
import { Type } from 'typebox'
import { afterEach, describe, expect, test } from 'vitest'
import { hopping, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions: 1 })
  open.push(driver)
  return driver
}

const serdes = { key: textKey(), value: text() }
const record = (key: string, value: string | null, timeMs: number) => ({ key, value, timeMs })

async function outputs(driver: TopologyTestDriver): Promise<string[]> {
  return (await driver.output('out', serdes)).map(({ key, value }) => `${key}:${value}`)
}

type Windows = ReturnType<typeof tumbling>

async function counting(windows: Windows, emit: 'update' | 'close' = 'update') {
  const topology = new Topology('counts')
  const counted = topology
    .stream('in', serdes)
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(windows)
    .count({ name: 'counts', emit, retentionMs: 1_000_000 })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  counted
    .toStream()
    .mapValues((count, { key, windowStart }) => `${key}@${windowStart}=${count}`)
    .selectKey(() => 'result')
    .to('out', serdes)
  return start(topology)
}

const windowsOf = async (driver: TopologyTestDriver) =>
  (await driver.rows('counts')).map(row => `[${row.windowStart};${row.windowEnd})=${row.count}`)

describe('TimeWindows', () => {
  test('hopping, 5000 ms by 3000 ms: [0;5000), [3000;8000) and not [1000;6000), [4000;9000)', async () => {
    const driver = await counting(hopping(5000, { advanceMs: 3000, graceMs: 10_000 }))
    await driver.pipe('in', record('k', 'a', 4999), record('k', 'b', 5000), record('k', 'c', 8000))
    expect(await windowsOf(driver)).toEqual(['[0;5000)=1', '[3000;8000)=2', '[6000;11000)=1'])
  })

  test('tumbling, 5000 ms: [0;5000), [5000;10000) and not [1000;6000)', async () => {
    const driver = await counting(tumbling(5000, { graceMs: 10_000 }))
    await driver.pipe('in', record('k', 'a', 0), record('k', 'b', 4999), record('k', 'c', 5000))
    expect(await windowsOf(driver)).toEqual(['[0;5000)=2', '[5000;10000)=1'])
  })

  test('grace: a record counts until stream time reaches window end + grace', async () => {
    const driver = await counting(tumbling(5000, { graceMs: 2000 }))
    const early = (value: string) => record('k', value, 1000)
    await driver.pipe('in', early('a'), record('k', 'b', 6999), early('c'))
    await driver.pipe('in', record('k', 'd', 7000), early('too late'))
    expect(await windowsOf(driver)).toEqual(['[0;5000)=2', '[5000;10000)=2'])
  })

  test('no grace: the first record at the window end closes it', async () => {
    const driver = await counting(tumbling(5000, { graceMs: 0 }))
    await driver.pipe('in', record('k', 'a', 1), record('k', 'b', 5000), record('k', 'late', 2))
    expect(await windowsOf(driver)).toEqual(['[0;5000)=1', '[5000;10000)=1'])
  })
})

describe('Suppressed.untilWindowCloses', () => {
  test('one final result a window and key, when end + grace is reached, never an update', async () => {
    const driver = await counting(tumbling(3_600_000, { graceMs: 600_000 }), 'close')
    await driver.pipe('in', record('u', 'a', 0), record('u', 'b', 10), record('v', 'c', 20))
    await driver.pipe('in', record('w', 'd', 3_600_000), record('u', 'within grace', 30))
    await driver.pipe('in', record('w', 'e', 4_199_999))
    expect(await outputs(driver)).toEqual([])
    await driver.pipe('in', record('w', 'f', 4_200_000))
    expect((await outputs(driver)).sort()).toEqual(['result:u@0=3', 'result:v@0=1'])
  })

  test('a window without a later record stays open: stream time alone closes it', async () => {
    const driver = await counting(tumbling(1000, { graceMs: 0 }), 'close')
    await driver.pipe('in', record('u', 'a', 999))
    expect(await outputs(driver)).toEqual([])
  })
})

type Kind = 'join' | 'leftJoin' | 'outerJoin'

async function joining(kind: Kind, distance: { beforeMs: number; afterMs: number }, flip = false) {
  const topology = new Topology('joins')
  const one = topology.stream('this', serdes)
  const other = topology.stream('other', serdes)
  const joiner = (l: string | null, r: string | null) => `${l},${r}`
  const options = { name: 'joined', graceMs: 0, ...distance }
  if (flip) other[kind](one, (r, l) => joiner(l, r), options).to('out', serdes)
  else one[kind](other, joiner, options).to('out', serdes)
  return start(topology)
}

describe('JoinWindows', () => {
  const pairs = async (driver: TopologyTestDriver) => {
    await driver.pipe('this', record('k', 'a', 100))
    for (const timeMs of [90, 95, 100, 105, 110]) {
      await driver.pipe('other', record('k', String(timeMs), timeMs))
    }
    return (await outputs(driver)).map(line => line.replace('k:a,', '')).sort()
  }

  test.each([
    ['before = after', { beforeMs: 5, afterMs: 5 }, ['100', '105', '95']],
    ['before = 0', { beforeMs: 0, afterMs: 10 }, ['100', '105', '110']],
    ['after = 0', { beforeMs: 10, afterMs: 0 }, ['100', '90', '95']],
  ] as const)(
    '%s: other.ts in [this.ts − before, this.ts + after]',
    async (_, distance, joined) => {
      expect(await pairs(await joining('join', distance))).toEqual([...joined].sort())
    },
  )

  test('flipped sides with flipped before and after give the same', async () => {
    const straight = await pairs(await joining('join', { beforeMs: 5, afterMs: 10 }))
    const flipped = await pairs(await joining('join', { beforeMs: 10, afterMs: 5 }, true))
    expect(flipped).toEqual(straight)
    expect(straight).toHaveLength(4)
  })

  test('the upper bound below the lower one is refused', async () => {
    await expect(joining('join', { beforeMs: -10, afterMs: 5 })).rejects.toThrow(/before|reach/i)
  })
})

/** this: <K1:A>, <K2:B>; other: <K2:b>, <K3:c>. */
describe('KStream with KStream', () => {
  test.each([
    ['join', ['K2:B,b']],
    ['leftJoin', ['K1:A,null', 'K2:B,b']],
    ['outerJoin', ['K1:A,null', 'K2:B,b', 'K3:null,c']],
  ] as const)('%s', async (kind, expected) => {
    const driver = await joining(kind, { beforeMs: 10, afterMs: 10 })
    await driver.pipe('this', record('K1', 'A', 0), record('K2', 'B', 1))
    await driver.pipe('other', record('K2', 'b', 2), record('K3', 'c', 3))
    // Rows without partner come when none can come any more, once, in all versions since 3.1.
    await driver.pipe('this', record('K8', 'later', 1000))
    await driver.pipe('other', record('K9', 'later', 1000))
    expect((await outputs(driver)).sort()).toEqual([...expected])
  })
})

/** <K1:A> before the table has K1, <K1:b> in the table, <K1:C> after it. */
describe('KStream with KTable', () => {
  test.each([
    ['joinTable', ['K1:C,b']],
    ['leftJoinTable', ['K1:A,null', 'K1:C,b']],
  ] as const)('%s', async (kind, expected) => {
    const topology = new Topology('enriched')
    const table = topology.table('table', { name: 'table', ...serdes })
    const stream = topology.stream('stream', serdes)
    stream[kind](table, (l: string, r: string | null) => `${l},${r}`).to('out', serdes)
    const driver = await start(topology)
    await driver.pipe('stream', record('K1', 'A', 1))
    await driver.pipe('table', record('K1', 'b', 2))
    await driver.pipe('stream', record('K1', 'C', 3))
    expect(await outputs(driver)).toEqual([...expected])
  })

  test('a record of the table alone gives nothing, and null keys join nothing', async () => {
    const topology = new Topology('enriched')
    const table = topology.table('table', { name: 'table', ...serdes })
    topology
      .stream('stream', serdes)
      .joinTable(table, (l, r) => `${l},${r}`)
      .to('out', serdes)
    const driver = await start(topology)
    await driver.pipe('table', record('K1', 'b', 1), record('K1', 'c', 2))
    await driver.pipe('stream', { key: null as unknown as string, value: 'A', timeMs: 3 })
    expect(await outputs(driver)).toEqual([])
  })
})

const TABLE_STEPS = {
  join: [
    ['this', 'A', []],
    ['other', 'b', ['A,b']],
    ['this', 'C', ['C,b']],
    ['other', null, ['null']],
  ],
  leftJoin: [
    ['this', 'A', ['A,null']],
    ['other', 'b', ['A,b']],
    ['this', null, ['null']],
    ['other', null, []],
  ],
  outerJoin: [
    ['this', 'A', ['A,null']],
    ['other', 'b', ['A,b']],
    ['this', null, ['null,b']],
    ['other', null, ['null']],
  ],
} as const

describe('KTable with KTable', () => {
  test.each(['join', 'leftJoin', 'outerJoin'] as const)('%s', async kind => {
    const topology = new Topology('tables')
    const one = topology.table('this', { name: 'this', ...serdes })
    const other = topology.table('other', { name: 'other', ...serdes })
    const joiner = (l: string | null, r: string | null) => `${l},${r}`
    one[kind](other, joiner, { name: 'joined' }).toStream().to('out', serdes)
    const driver = await start(topology)
    for (const [timeMs, [side, value, expected]] of TABLE_STEPS[kind].entries()) {
      await driver.pipe(side, record('K1', value, timeMs))
      const told = await outputs(driver)
      expect(told, `${side} ${value}`).toEqual(expected.map(line => `K1:${line}`))
    }
  })
})

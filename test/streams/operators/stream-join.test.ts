import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { proofSuite } from '../../oracle/harness.ts'
import { joinProofs } from '../../oracle/proofs/joins.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

const serdes = { key: textKey(), value: text() }

interface Distance {
  beforeMs: number
  afterMs: number
  graceMs: number
}

type Kind = 'join' | 'leftJoin' | 'outerJoin'

async function start(kind: Kind, distance: Distance, partitions = 1): Promise<TopologyTestDriver> {
  const topology = new Topology('joins')
  const left = topology.stream('left', serdes)
  const right = topology.stream('right', serdes)
  const joiner = (l: string | null, r: string | null) => `${l}+${r}`
  left[kind](right, joiner, { name: 'joined', ...distance }).to('out', serdes)
  const driver = await TopologyTestDriver.open(topology, { partitions })
  open.push(driver)
  return driver
}

const at = (timeMs: number, value = `${timeMs}`, options: object = {}) => ({
  key: 'k',
  value,
  timeMs,
  ...options,
})
const out = async (driver: TopologyTestDriver) =>
  (await driver.output('out', serdes)).map(({ value, timeMs }) => `${value}@${timeMs}`)
const late = async (driver: TopologyTestDriver) =>
  (await driver.output('joins-dead-letters', serdes)).map(
    ({ value, headers }) => `${headers.dl_reason} ${value}`,
  )

test('a right record joins from `before` earlier to `after` later, both inclusive', async () => {
  const driver = await start('join', { beforeMs: 5, afterMs: 10, graceMs: 100 })
  await driver.pipe('left', at(100, 'l'))
  await driver.pipe('right', at(94), at(95), at(100), at(110), at(111))
  expect(await out(driver)).toEqual(['l+95@100', 'l+100@100', 'l+110@110'])
})

test('the same pairs join when the right side comes first', async () => {
  const driver = await start('join', { beforeMs: 5, afterMs: 10, graceMs: 100 })
  await driver.pipe('right', at(94), at(95), at(100), at(110), at(111))
  await driver.pipe('left', at(100, 'l'))
  expect((await out(driver)).sort()).toEqual(['l+100@100', 'l+110@110', 'l+95@100'])
})

test('every pair of equal keys joins once, and other keys do not', async () => {
  const driver = await start('join', { beforeMs: 10, afterMs: 10, graceMs: 0 })
  await driver.pipe('left', at(1, 'a'), at(2, 'b'), at(2, 'x', { key: 'other' }))
  await driver.pipe('right', at(3, 'c'), at(4, 'd'))
  expect(await out(driver)).toEqual(['a+c@3', 'b+c@3', 'a+d@4', 'b+d@4'])
})

test('left join: a row without partner comes once, when nothing can join it any more', async () => {
  const driver = await start('leftJoin', { beforeMs: 10, afterMs: 10, graceMs: 5 })
  await driver.pipe('left', at(10, 'alone'), at(12, 'paired'))
  await driver.pipe('right', at(15, 'r'))
  await driver.pipe('left', at(25, 'l'))
  await driver.pipe('right', at(25, 'r2'))
  expect(await out(driver)).toEqual(['alone+r@15', 'paired+r@15', 'l+r@25', 'l+r2@25'])
  await driver.pipe('left', at(100, 'alone'))
  await driver.pipe('right', at(115, 'edge'), at(116, 'past'))
  expect(await out(driver)).toEqual([])
  await driver.pipe('left', at(115, 'late but kept', { key: 'z' }), at(116, 'far'))
  expect(await out(driver)).toEqual(['far+edge@116', 'far+past@116', 'alone+null@100'])
})

test('a watermark at time + reach + grace still keeps the row; one past it does not', async () => {
  const driver = await start('leftJoin', { beforeMs: 10, afterMs: 10, graceMs: 5 })
  const both = async (timeMs: number) => {
    await driver.pipe('left', at(timeMs, 'tick', { key: `clock-${timeMs}` }))
    await driver.pipe('right', at(timeMs, 'tick', { key: `clock-${timeMs}` }))
  }
  await driver.pipe('left', at(100, 'l'))
  await both(115)
  expect(await out(driver)).toEqual(['tick+tick@115'])
  await driver.pipe('right', at(110, 'r'))
  expect(await out(driver)).toEqual(['l+r@110'])
  await driver.pipe('left', at(101, 'm'))
  await both(117)
  expect((await out(driver)).sort()).toEqual(['m+r@110', 'tick+tick@117'])
})

test('outer join: rows of either side without partner come once', async () => {
  const driver = await start('outerJoin', { beforeMs: 10, afterMs: 10, graceMs: 0 })
  await driver.pipe('left', at(10, 'l'))
  await driver.pipe('right', at(50, 'r'))
  await driver.pipe('left', at(200, 'end'))
  await driver.pipe('right', at(200, 'end'))
  expect((await out(driver)).sort()).toEqual(['end+end@200', 'l+null@10', 'null+r@50'])
})

test('a record is late when its time + reach + grace is before its own stream time', async () => {
  const driver = await start('join', { beforeMs: 10, afterMs: 10, graceMs: 5 })
  await driver.pipe('left', at(100, 'now'), at(85, 'kept'), at(84, 'late'))
  expect(await late(driver)).toEqual(['late late'])
  await driver.pipe('right', at(90, 'r'))
  expect(await out(driver)).toEqual(['now+r@100', 'kept+r@90'])
})

/**
 * Law 9. left: time 50, read at stream time 100, kept until 140. right: time 0, kept until 90.
 * At 100 the right row is gone, whichever of the two is read last, so the pair never joins.
 */
test('whether a pair joins does not depend on which side is read first', async () => {
  for (const first of ['left', 'right']) {
    const driver = await start('join', { beforeMs: 60, afterMs: 60, graceMs: 30 }, 2)
    const left = () => driver.pipe('left', at(100, 'x', { key: 'y' }), at(50, 'l'))
    const right = () => driver.pipe('right', at(0, 'r'), at(25, 'r2'))
    if (first === 'left') await left()
    await right()
    if (first === 'right') await left()
    expect(await out(driver)).toEqual(['l+r2@50'])
  }
})

test('null keys and null values join nothing and are counted', async () => {
  const driver = await start('leftJoin', { beforeMs: 1, afterMs: 1, graceMs: 0 })
  await driver.pipe(
    'left',
    { key: null, value: 'v', timeMs: 1 },
    { key: 'k', value: null, timeMs: 1 },
  )
  const records = await driver.output('joins-dead-letters', serdes)
  expect(records.map(({ headers }) => headers.dl_reason)).toEqual(['null-key', 'poison'])
})

function paid(): Topology {
  const topology = new Topology('paid')
  const orders = topology.stream('orders', serdes)
  const payments = topology.stream('payments', { key: textKey(), value: json<number>() })
  orders
    .join(payments, (_, amount) => amount, {
      name: 'paid',
      beforeMs: 1000,
      afterMs: 1000,
      graceMs: 0,
      time: 'right',
    })
    .groupByKey({ name: 'sums', key: textKey() })
    .windowedBy(tumbling(10, { graceMs: 0 }))
    .aggregate<number>({ name: 'sums', initial: () => 0, add: (sum, n) => sum + n, emit: 'close' })
    .toStream()
    .map((sum, window): [string, string] => [window.key, `${window.windowStart}=${sum}`])
    .to('out', serdes)
  return topology
}

test('a payment that waits for its order keeps its own window open', async () => {
  const driver = await TopologyTestDriver.open(paid())
  open.push(driver)
  await driver.pipe('payments', { key: 'k', value: 7, timeMs: 5 })
  const clock = async (timeMs: number) => {
    await driver.pipe('orders', at(timeMs, 'o', { key: `clock-${timeMs}` }))
    await driver.pipe('payments', { key: `clock-${timeMs}`, value: 1, timeMs })
  }
  await clock(500)
  await clock(600)
  expect(await out(driver)).toEqual([])
  await driver.pipe('orders', at(900, 'o'))
  await clock(1000)
  const lines = (await out(driver)).map(line => line.split('@')[0]).sort()
  expect(lines).toEqual(['0=7', '500=1', '600=1'])
})

test('a payment whose order never comes lets go when nothing can join it any more', async () => {
  const driver = await TopologyTestDriver.open(paid())
  open.push(driver)
  await driver.pipe('payments', { key: 'lost', value: 7, timeMs: 5 })
  for (const timeMs of [500, 1000, 1006, 1100]) {
    await driver.pipe('orders', at(timeMs, 'o', { key: `clock-${timeMs}` }))
    await driver.pipe('payments', { key: `clock-${timeMs}`, value: 1, timeMs })
  }
  expect((await out(driver)).map(line => line.split('@')[0])).toEqual(['500=1', '1000=1', '1000=1'])
})

test('a re-keyed side is refused, and a side without a serde says which option is missing', () => {
  const topology = new Topology('joins')
  const left = topology.stream('left', serdes)
  const right = topology.stream('right', serdes)
  const options = { name: 'joined', beforeMs: 1, afterMs: 1, graceMs: 1 }
  const rekeyed = left.selectKey(value => value)
  expect(() => rekeyed.join(right, l => l, options)).toThrow(/joined: a side was re-keyed/)
  const mapped = left.mapValues(value => value.length)
  expect(() => mapped.join(right, l => l, options)).toThrow(/say with `left` how/)
  expect(() => left.join(right, l => l, { ...options, beforeMs: -1 })).toThrow(/beforeMs must be/)
})

for (const { name, proof } of joinProofs) proofSuite(name, proof)

import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, proofSuite } from '../../oracle/harness.ts'
import { deadLetters } from '../../oracle/proof.ts'
import {
  GRACE_MS,
  type Line,
  ranks,
  topKProofs,
  topProducts,
  WINDOW_MS,
} from '../../oracle/proofs/top-k.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(topology: Topology, partitions = 1): Promise<TopologyTestDriver> {
  const driver = await TopologyTestDriver.open(topology, { partitions, startMs: 1_000_000 })
  open.push(driver)
  return driver
}

let next = 0
const line = (sku: string, gross: number, timeMs = 10, currency = 'EUR') => ({
  key: `l${next++}`,
  value: { currency, sku, gross },
  timeMs,
})
const skus = async (driver: TopologyTestDriver) =>
  (await driver.rows('top')).map(({ sku, gross }) => `${sku}${gross}`).join(' ')
const changes = async (driver: TopologyTestDriver) =>
  (await driver.output('changes', { key: textKey(), value: text() }))
    .map(({ key, value }) => `${key}=${value}`)
    .join(' ')

test('ranks are by score descending, equal scores by item, and no more than k', async () => {
  const driver = await start(topProducts())
  await driver.pipe('lines', line('b', 5), line('c', 7), line('a', 5), line('d', 1))
  expect(await ranks(driver)).toEqual(['EUR@0#1=c,7', 'EUR@0#2=a,5', 'EUR@0#3=b,5'])
  expect((await driver.rows('top'))[0]).toEqual({
    currency: 'EUR',
    rank: 1,
    windowStart: 0,
    windowEnd: 1000,
    final: false,
    sku: 'c',
    lines: 1,
    gross: 7,
  })
  expect(driver.views.views()[0]!.key).toEqual([
    { name: 'currency', type: 'string' },
    { name: 'rank', type: 'integer' },
  ])
})

test('items with equal scores are ordered by code points, not by UTF-16 units', async () => {
  const driver = await start(topProducts())
  await driver.pipe('lines', line('\u{1f600}', 5), line('\uffee', 5), line('z', 5))
  expect((await driver.rows('top')).map(({ sku }) => sku)).toEqual(['z', '\uffee', '\u{1f600}'])
})

test('rows are ordered by window, key and rank, and are filtered by rank', async () => {
  const driver = await start(topProducts({ k: 12 }), 3)
  const many = Array.from({ length: 12 }, (_, i) => line(`s${i}`, 100 - i))
  await driver.pipe('lines', ...many, line('x', 1, 1010), line('x', 1, 10, 'CHF'))
  const order = (await driver.rows('top')).map(r => `${r.windowStart}${r.currency}${r.rank}`)
  const euros = Array.from({ length: 12 }, (_, i) => `0EUR${i + 1}`)
  expect(order).toEqual(['0CHF1', ...euros, '1000EUR1'])
  const { rows } = await driver.views.rows('top', { key: { rank: '11' }, limit: 5 })
  expect(rows.map(({ sku }) => sku)).toEqual(['s10'])
})

test('an item that rises passes others; only the ranks that change are written', async () => {
  const driver = await start(topProducts())
  await driver.pipe('lines', line('a', 9), line('b', 8), line('c', 7), line('d', 6))
  await changes(driver)
  await driver.pipe('lines', line('d', 2))
  expect(await skus(driver)).toBe('a9 b8 d8')
  expect(await changes(driver)).toBe('EUR@0#3=d,2,8')
  await driver.pipe('lines', line('e', 1))
  expect(await changes(driver)).toBe('')
})

test.each([false, true])(
  'an item that falls lets others in, changed in place: %s',
  async mutable => {
    const driver = await start(topProducts({ mutable }))
    await driver.pipe('lines', ...['a9', 'b8', 'c7', 'd6', 'e5'].map(s => line(s[0]!, +s[1]!)))
    await driver.pipe('lines', line('b', -6))
    expect(await skus(driver)).toBe('a9 c7 d6')
    await driver.pipe('lines', line('c', -2))
    expect(await skus(driver)).toBe('a9 d6 c5')
    await driver.pipe('lines', line('d', -6), line('a', -9))
    expect(await skus(driver)).toBe('c5 e5 b2')
    await driver.pipe('lines', line('c', -5), line('e', -5))
    expect(await skus(driver)).toBe('b2')
    await checkStores(driver)
  },
)

test('sums that change in place: each change has the values of its own batch', async () => {
  const topology = topProducts({ mutable: true })
  const seen: string[] = []
  const show = (entry: unknown) => {
    const { item, value } = entry as { item: string; value: { gross: number } }
    return `${item}${value.gross}`
  }
  const ranks = topology.nodes.find(({ name }) => name === 'top')!
  topology.add({
    kind: 'operator',
    name: 'spy',
    type: 'spy',
    parents: [{ node: ranks.id, output: 'main' }],
    stores: [],
    emission: 'records',
    timeDependent: false,
    create: () => ({
      process(input) {
        input.values.forEach((value, i) => {
          const before = input.previous?.[i]
          seen.push(`${before === undefined ? '' : show(before)}>${show(value)}`)
        })
      },
    }),
  })
  const driver = await start(topology, 2)
  // A batch from each partition in one round.
  const both = [1, 2].map((gross, partition) => ({ ...line('a', gross), partition }))
  await driver.append('lines', both)
  await driver.process()
  await driver.pipe('lines', line('a', 4))
  expect(seen).toEqual(['>a1', 'a1>a3', 'a3>a7'])
})

test('the last rank falling within its place reads the items again only when it may lose it', async () => {
  const driver = await start(topProducts({ k: 2 }))
  await driver.pipe('lines', line('a', 9), line('b', 8), line('c', 5))
  await driver.pipe('lines', line('b', -1))
  expect(await skus(driver)).toBe('a9 b7')
  await driver.pipe('lines', line('b', -2))
  expect(await skus(driver)).toBe('a9 b5')
  await driver.pipe('lines', line('b', -1))
  expect(await skus(driver)).toBe('a9 c5')
})

test('on close each rank comes once; items are forgotten, ranks stay for the retention', async () => {
  const driver = await start(topProducts({ emit: 'close', retentionMs: 5000 }))
  await driver.pipe('lines', line('a', 1), line('b', 2), line('c', 3, 1050))
  expect(await changes(driver)).toBe('')
  await driver.pipe('lines', line('c', 3, 1100))
  expect(await changes(driver)).toBe('EUR@0#1=b,1,2 EUR@0#2=a,1,1')
  await driver.pipe('lines', line('late', 9, 999))
  expect(await deadLetters(driver)).toEqual(['late lines/0@4'])
  expect((await driver.rows('top')).map(row => row.final)).toEqual([true, true, false])
  await driver.pipe('lines', line('c', 3, 6000))
  expect(await ranks(driver)).toEqual(['EUR@1000#1=c,6', 'EUR@6000#1=c,3'])
  await checkStores(driver)
})

test('what cannot be ranked leaves with its reason', async () => {
  const topology = new Topology('odd')
  topology
    .stream('lines', { key: textKey(), value: json<Line>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .topK<number>({
      name: 'top',
      k: 2,
      item: value => value.sku.trim(),
      initial: () => 0,
      add: (sum, value) => sum + value.gross,
      score: sum => Math.log(sum),
    })
  const driver = await start(topology)
  const odd = { key: 'k', value: { currency: '', sku: 1, gross: 1 }, timeMs: 1 }
  await driver.pipe<string, unknown>(
    'lines',
    odd,
    line('a', -1),
    { ...odd, key: null },
    { ...odd, value: null },
  )
  expect(await deadLetters(driver)).toEqual([
    'null-key lines/0@2',
    'poison lines/0@0',
    'poison lines/0@1',
    'poison lines/0@3',
  ])
  expect(() => topProducts({ k: 0 })).toThrow(/whole number/)
})

for (const { name, proof } of topKProofs) proofSuite(name, proof)

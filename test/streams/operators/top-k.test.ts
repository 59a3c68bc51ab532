import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { json, Topology, text, textKey, tumbling } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { checkStores, deadLetter, deadLetters, latest, proofSuite } from '../../oracle/harness.ts'
import { disordered, type Stamped } from '../../oracle/inputs.ts'

interface Line {
  currency: string
  sku: string
  gross: number
}

const WINDOW_MS = 1000
const GRACE_MS = 100
const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

interface Options {
  k?: number
  emit?: 'update' | 'close'
  retentionMs?: number
  /** Sums that are changed in place. */
  mutable?: boolean
}

/** Sums by currency and sku; a sku whose sum is exactly 0 is taken out. */
function topProducts(options: Options = {}): Topology {
  const { k = 3, emit, retentionMs = 1e12, mutable = false } = options
  const topology = new Topology('top')
  topology
    .stream('lines', { key: textKey(), value: json<Line>() })
    .groupBy(line => line.currency, { name: 'by-currency', key: textKey('currency') })
    .windowedBy(tumbling(WINDOW_MS, { graceMs: GRACE_MS }))
    .topK<{ lines: number; gross: number }>({
      name: 'top',
      k,
      item: line => line.sku,
      initial: () => ({ lines: 0, gross: 0 }),
      add: (sum, line) => {
        const next = mutable ? sum : { ...sum }
        next.lines++
        next.gross += line.gross
        return (next.gross === 0 ? null : next) as typeof next
      },
      score: sum => sum.gross,
      codec: { ...json<{ lines: number; gross: number }>(), mutable },
      emit,
      retentionMs,
    })
    .view({
      name: 'top',
      description: 'Top products',
      value: { sku: Type.String(), lines: Type.Integer(), gross: Type.Integer() },
      row: ({ item, value }) => ({ sku: item, ...value }),
    })
    .toStream()
    .map((entry, { key, windowStart }) => [
      `${key.group}@${windowStart}#${key.rank}`,
      (entry === null ? null : `${entry.item},${entry.value.lines},${entry.value.gross}`) as string,
    ])
    .to('changes', { key: textKey(), value: text() })
  return topology
}

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
const ranks = async (driver: TopologyTestDriver) =>
  (await driver.rows('top')).map(
    row => `${row.currency}@${row.windowStart}#${row.rank}=${row.sku},${row.gross}`,
  )
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

interface Results {
  rows: string[]
  changes: string[]
  dead: string[]
}

function oracle(records: readonly Stamped[], watermarkMs: number, emit: 'update' | 'close') {
  const windows = new Map<string, Map<string, { lines: number; gross: number; timeMs: number }>>()
  const dead: string[] = []
  for (const record of records) {
    const { currency, sku, gross } = record.value as Line
    const start = record.timeMs - (record.timeMs % WINDOW_MS)
    if (start + WINDOW_MS + GRACE_MS <= record.streamTimeMs) {
      dead.push(deadLetter('late', record))
      continue
    }
    const id = `${currency}@${start}`
    const items = windows.get(id) ?? new Map()
    windows.set(id, items)
    const sum = items.get(sku) ?? { lines: 0, gross: 0, timeMs: 0 }
    items.set(sku, { lines: sum.lines + 1, gross: sum.gross + gross, timeMs: record.timeMs })
  }
  const rows: string[] = []
  const changes: string[] = []
  for (const [id, items] of windows) {
    const best = [...items].sort(([a, x], [b, y]) => y.gross - x.gross || (a < b ? -1 : 1))
    const isFinal = Number(id.split('@')[1]) + WINDOW_MS + GRACE_MS <= watermarkMs
    best.slice(0, 3).forEach(([sku, sum], i) => {
      rows.push(`${id}#${i + 1}=${sku},${sum.gross}`)
      if (emit === 'update' || isFinal) {
        changes.push(`${id}#${i + 1}=${sku},${sum.lines},${sum.gross}@${sum.timeMs}`)
      }
    })
  }
  return { rows: rows.sort(), changes: changes.sort(), dead: dead.sort() }
}

for (const emit of ['update', 'close'] as const) {
  proofSuite<Results>(`top-k of scores that rise and fall, emit on ${emit}`, {
    topology: () => topProducts({ emit }),
    partitions: 3,
    inputs: random =>
      disordered(random, {
        topics: ['lines'],
        partitions: 3,
        count: 400,
        stepMs: 10,
        delayMs: 350,
        // One above a multiple of 1000: no sum is 0, which would take the item out.
        record: (r, { i }) => ({
          key: `k${i}`,
          value: {
            currency: r.pick(['EUR', 'CHF']),
            sku: `s${r.below(12)}`,
            gross: 1000 * (r.below(50) - 20) + 1,
          },
        }),
        end: { timeMs: 4_150, value: { currency: 'end', sku: 'end', gross: 1 } },
      }),
    results: async driver => ({
      rows: (await ranks(driver)).sort(),
      changes: await latest(driver, 'changes'),
      dead: await deadLetters(driver),
    }),
    oracle: (records, watermarkMs) => oracle(records, watermarkMs, emit),
    reaches: ({ rows, dead }) => {
      expect(rows.length).toBeGreaterThan(20)
      expect(dead.length).toBeGreaterThan(0)
    },
  })
}

/** Results that are larger than what their topic takes. */
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { logError } from '../../log/errors.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { json, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'
import { TopicLimits } from '../../streams/topic-limits.ts'

const open: TopologyTestDriver[] = []
afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close()
})

async function start(build: (topology: Topology) => void): Promise<TopologyTestDriver> {
  const topology = new Topology('large')
  build(topology)
  const driver = await TopologyTestDriver.open(topology, { partitions: 1 })
  open.push(driver)
  return driver
}

/** Turns of the engine's loop until it rests, its pauses cut short. */
async function run(driver: TopologyTestDriver): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    let isOver = false
    const turn = driver.engine.turn().finally(() => {
      isOver = true
    })
    turn.catch(() => {})
    while (!isOver) {
      await new Promise(resolve => setImmediate(resolve))
      driver.tick(100)
    }
    quiet = (await turn) ? 0 : quiet + 1
  }
  await driver.engine.settle()
}

const serdes = { key: textKey(), value: text() }
const sized = { key: textKey(), value: json<number>() }

test('one of them is a dead letter, the task goes on with the next', async () => {
  const driver = await start(topology => {
    topology
      .stream('sizes', sized)
      .mapValues(size => 'x'.repeat(size))
      .to('texts', serdes)
  })
  await driver.append('sizes', [
    { key: 'a', value: 10, timeMs: 1 },
    { key: 'big', value: 3_000_000, timeMs: 2 },
    { key: 'b', value: 20, timeMs: 3 },
  ])
  await run(driver)
  const written = await driver.output('texts', serdes)
  expect(written.map(({ key, value }) => [key, value?.length])).toEqual([
    ['a', 10],
    ['b', 20],
  ])
  const letters = await driver.output('large-dead-letters', serdes)
  expect(letters.map(({ value }) => value)).toEqual(['3000000'])
  expect(letters[0]!.headers).toMatchObject({ dl_reason: 'too-large', dl_step: 'texts' })
  expect(letters[0]!.headers.dl_detail).toMatch(/^30000\d\d bytes, and texts takes 2\d{6}$/)
})

const written = (size: number) => 'y'.repeat(size)
const value = { length: Type.Integer() }
const row = (text: string) => ({ length: text.length })

const byKey = (topology: Topology) =>
  topology.stream('sizes', sized).groupByKey({ name: 'by-key', key: textKey() })

/** Each makes a row of a key as long as its records say. */
const stateful: [string, (topology: Topology) => void][] = [
  [
    'an aggregate',
    topology =>
      byKey(topology)
        .aggregate({
          name: 'texts',
          initial: () => '',
          add: (before: string, size) => before + written(size),
        })
        .view({ name: 'texts', description: 'Texts', value, row }),
  ],
  [
    'an aggregate that changes in place',
    topology =>
      byKey(topology)
        .aggregate({
          name: 'texts',
          initial: () => ({ text: '' }),
          codec: { ...json<{ text: string }>(), mutable: true },
          add: (all: { text: string }, size) => {
            all.text += written(size)
            return all
          },
        })
        .view({ name: 'texts', description: 'Texts', value, row: ({ text }) => row(text) }),
  ],
  [
    'a processor',
    topology => {
      const stores = { texts: { key: textKey(), codec: json<string>() } } as const
      topology.stream('sizes', sized).process<typeof stores, string, string>({
        name: 'texts',
        key: textKey(),
        stores,
        views: [{ store: 'texts', name: 'texts', description: 'Texts', value, row }],
        create: context => ({
          process: record => {
            const texts = context.store('texts')
            texts.put(record.key, (texts.get(record.key) ?? '') + written(record.value))
          },
        }),
      })
    },
  ],
]

test.each(stateful)(
  'of %s, a record whose row is too large is put aside, others go on',
  async (_, build) => {
    const driver = await start(build)
    const at = (key: string, value: number, timeMs: number) => ({ key, value, timeMs })
    await driver.append('sizes', [at('a', 10, 1), at('b', 20, 2), at('a', 3_000_000, 3)])
    await run(driver)
    await driver.append('sizes', [at('b', 5_000_000, 4), at('c', 30, 5)])
    await run(driver)
    expect(await driver.rows('texts')).toMatchObject([
      { length: 10 },
      { length: 20 },
      { length: 30 },
    ])
    const letters = await driver.output('large-dead-letters', serdes)
    expect(letters.map(({ key, headers }) => `${key} ${headers.dl_reason}`)).toEqual([
      'a overflow',
      'b overflow',
    ])
    const detail =
      /^RangeError: a row of large\.texts\S* has 30000\d\d bytes, and its changelog takes 2\d{6}$/
    expect(letters[0]!.headers.dl_detail).toMatch(detail)
  },
)

test('a row of before its limit was known stays, and what would make it larger is put aside', async () => {
  const driver = await start(stateful.find(([name]) => name === 'a processor')![1])
  const at = (key: string, value: number, timeMs: number) => ({ key, value, timeMs })
  // What is learned leaves some room: the row is larger than that, and was taken.
  await driver.append('sizes', [at('a', 2_096_990, 1)])
  await run(driver)
  await driver.append('sizes', [at('b', 3_000_000, 2)])
  await run(driver)
  await driver.append('sizes', [at('a', 10, 3), at('c', 30, 4)])
  await run(driver)
  expect(await driver.rows('texts')).toMatchObject([{ length: 2_096_990 }, { length: 30 }])
  const letters = await driver.output('large-dead-letters', serdes)
  expect(letters.map(({ key }) => key)).toEqual(['b', 'a'])
})

test('where a topic does not say what it takes, less and less is tried, but not for ever', () => {
  const limits = new TopicLimits(() => 'rows')
  const refused = (size: number) => logError('BATCH_TOO_LARGE', { topic: 't', partition: 0, size })
  expect(limits.judge(refused(1_500_000))).toMatchObject({ code: 'BATCH_TOO_LARGE' })
  expect(limits.known('t')).toBe(1_499_744)
  expect(limits.judge(refused(1_400_000))).toMatchObject({ code: 'BATCH_TOO_LARGE' })
  expect(limits.known('t')).toBe(749_872)
  for (let i = 0; i < 10; i++) limits.judge(refused(1000))
  expect(limits.judge(refused(1000))).toMatchObject({ code: 'STATE_TOO_LARGE' })
})

test('a limit that is said after one was guessed is taken as it is', () => {
  const limits = new TopicLimits(() => 'rows')
  limits.judge(logError('BATCH_TOO_LARGE', { topic: 't', partition: 0, size: 1_200_000 }))
  const said = { topic: 't', partition: 0, size: 1_100_000, limit: 1_048_588 }
  expect(limits.judge(logError('BATCH_TOO_LARGE', said))).toMatchObject({ code: 'BATCH_TOO_LARGE' })
  expect(limits.known('t')).toBe(1_048_332)
})

test('rows that a changelog takes one by one are not too large for it together', async () => {
  const topology = new Topology('large')
  stateful[0]![1](topology)
  const other = new Topology('other')
  other.stream('others', sized).to('more', sized)
  const first = await TopologyTestDriver.open(other, { partitions: 1 })
  const config = { cleanup: 'compact', batchBytesMax: 200 * 1024 } as const
  await first.log.createTopic('large-texts-changelog', 1, config)
  const driver = await TopologyTestDriver.open(topology, { beside: first })
  open.push(driver, first)
  const at = (key: string, value: number) => ({ key, value, timeMs: 1 })
  await driver.append('sizes', [at('big', 300_000)])
  await run(driver)
  await driver.append('sizes', [at('a', 120_000), at('b', 120_000)])
  await run(driver)
  expect(await driver.rows('texts')).toMatchObject([{ length: 120_000 }, { length: 120_000 }])
})

test('of a table, a record that leaves no room for what a row has besides is put aside', async () => {
  const driver = await start(topology => {
    topology.table('texts', { name: 'texts', ...serdes }).view({
      name: 'texts',
      description: 'Texts',
      value,
      row,
    })
  })
  const at = (key: string, value: string, timeMs: number) => ({ key, value, timeMs })
  await driver.append('texts', [at('a', 'ten', 1), at('b', 'x'.repeat(2_097_060), 2)])
  await driver.append('texts', [at('c', 'more', 3)])
  await run(driver)
  expect(await driver.rows('texts')).toMatchObject([{ length: 3 }, { length: 4 }])
  const [letter] = await driver.output('large-dead-letters', serdes)
  expect(letter).toMatchObject({ key: 'b', headers: { dl_reason: 'overflow', dl_step: 'texts' } })
})

test('other state that is too large stops the engine, with what to change, not again and again', async () => {
  const driver = await start(topology => {
    byKey(topology)
      .windowedBy(tumbling(1000, { graceMs: 0 }))
      .aggregate({
        name: 'texts',
        initial: () => '',
        add: (before: string, size) => before + written(size),
        retentionMs: 1000,
      })
  })
  await driver.append('sizes', [{ key: 'big', value: 3_000_000, timeMs: 1 }])
  await expect(run(driver)).rejects.toMatchObject({ code: 'STATE_TOO_LARGE' })
})

test('of a record over 1 MiB that is put aside headers, size and digest are kept', async () => {
  const driver = await start(topology => {
    topology.stream('sizes', sized).to('others', sized)
  })
  const value = 'no JSON '.repeat(180_000)
  const builder = new RecordBatchBuilder()
  const [key, bytes] = [Buffer.from('a'), Buffer.from(value)]
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  builder.append(1, whole(key), whole(bytes), [['ce_id', Buffer.from('e1')]])
  await driver.appendRaw('sizes', 0, builder.finish())
  await driver.process()
  const [letter] = await driver.output('large-dead-letters', serdes)
  expect(letter).toMatchObject({ key: 'a', value: null, headers: { ce_id: 'e1' } })
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  expect(letter!.headers).toMatchObject({ dl_value_size: '1440000', dl_value_sha256: sha256 })
})

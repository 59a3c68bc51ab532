/** What of a damaged folder is kept, case by case; `test/crash/damage.campaign.ts` flips bits. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Type } from 'typebox'
import { expect, test } from 'vitest'
import { examine } from '../../cli/examination.ts'
import { finishSalvage } from '../../cli/salvage.ts'
import { copySalvaged } from '../../cli/salvage-copy.ts'
import { planSalvage } from '../../cli/salvage-plan.ts'
import { batchKey, decodeJson, groupKey, type TopicRow, topicKey } from '../../log/embedded/keys.ts'
import type { FetchResponse } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { AppendKeys } from '../../state/append-format.ts'
import { metadataKey, rowsPrefix } from '../../state/keys.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { json, Topology, text, textKey } from '../../streams/index.ts'
import { TopologyTestDriver } from '../../streams/testing/index.ts'

const DAY = 24 * 60 * 60 * 1000
const lines = { key: textKey(), value: text() }

/** Sums by key as a view, and each pair with the topic `others` as a result. */
function sums(): Topology {
  const topology = new Topology('sums')
  const numbers = topology.stream('numbers', { key: textKey(), value: json<number>() })
  const others = topology.stream('others', { key: textKey(), value: json<number>() })
  numbers
    .groupByKey({ name: 'by-key', key: textKey() })
    .aggregate<number>({ name: 'totals', initial: () => 0, add: (sum, n) => sum + n })
    .view({
      name: 'totals',
      description: 'Sums',
      value: { total: Type.Integer() },
      row: total => ({ total }),
    })
  const distance = { name: 'pairs', beforeMs: DAY, afterMs: DAY, graceMs: 0 }
  numbers.join(others, (a, b) => `${a}+${b}`, distance).to('pairs', lines)
  return topology
}

const record = (key: string, value: number, timeMs: number) => ({ key, value, timeMs })

/** Three batches of numbers, two of others; all processed unless a fourth is appended. */
async function folder(unread = false): Promise<MemoryDatabase> {
  const database = new MemoryDatabase()
  const driver = await TopologyTestDriver.open(sums(), { database, startMs: DAY })
  await driver.pipe('others', record('a', 10, 1), record('b', 20, 2))
  await driver.pipe('numbers', record('a', 1, 3))
  await driver.pipe('numbers', record('b', 2, 4))
  await driver.pipe('numbers', record('a', 3, 5))
  if (unread) {
    await driver.append('numbers', [record('b', 4, 6)])
    await driver.append('numbers', [record('b', 5, 7)])
  }
  await driver.close()
  return database
}

async function place(database: MemoryDatabase, topic: string, offset: number): Promise<Buffer> {
  const [row] = await database.getMany([topicKey(topic)])
  const number = decodeJson<TopicRow>(row!, topic).topic
  return batchKey({ topic: number, partition: 0 }, offset)
}

async function damage(database: MemoryDatabase, key: Buffer): Promise<void> {
  const [value] = await database.getMany([key])
  const bytes = Buffer.from(value!)
  bytes[bytes.length - 1]! ^= 1
  bytes[0]! ^= 0x80
  const batch = database.batch()
  batch.put(key, bytes)
  await batch.commit()
}

async function salvaged(from: MemoryDatabase) {
  const onProgress = () => {}
  const examination = await examine(from, { topologies: [sums()], onProgress })
  const plan = planSalvage(examination, [sums()])
  const to = new MemoryDatabase()
  await copySalvaged({ from, to, examination, plan, incarnation: 'new', onProgress })
  const driver = await TopologyTestDriver.open(sums(), { database: to, startMs: DAY })
  await driver.process()
  const totals = (await driver.rows('totals')).map(({ key, total }) => `${key}=${total}`)
  const [range] = await driver.log.offsets([{ topic: 'pairs', partition: 0 }])
  const request = { topic: 'pairs', partition: 0, offset: range!.startOffset, bytesMax: 1 << 20 }
  const [{ bytes }] = (await driver.log.fetch([request])) as [FetchResponse]
  const pairs = decodeBatches(bytes).runs.flatMap(c =>
    Array.from({ length: c.length }, (_, i) => bytes.utf8Slice(c.valueStart[i], c.valueEnd[i])),
  )
  expect(driver.log.incarnation).toBe('new')
  const again = await examine(to, { topologies: [sums()], onProgress })
  expect([again.problems, again.log.partitions.flatMap(({ problems }) => problems)]).toEqual([
    [],
    [],
  ])
  await driver.close()
  return { plan, totals, pairs, firstPair: range!.startOffset }
}

test('a salvage that died between its two renames is finished by who opens the folder next', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'millrace-salvage-'))
  await mkdir(join(dataDir, 'db-salvaged'))
  await finishSalvage(dataDir)
  expect(await readdir(dataDir)).toEqual(['db'])
  await mkdir(join(dataDir, 'db-salvaged'))
  await finishSalvage(dataDir)
  expect((await readdir(dataDir)).sort(), 'one that was not finished').toEqual([
    'db',
    'db-salvaged',
  ])
  await rm(dataDir, { recursive: true })
})

test('a folder that is whole is copied as it is', async () => {
  const { plan, totals, pairs } = await salvaged(await folder())
  expect([plan.cuts, [...plan.resets], plan.restored]).toEqual([[], [], []])
  expect(totals).toEqual(['a=4', 'b=2'])
  expect(pairs).toEqual(['1+10', '2+20', '3+10'])
})

test('input that nobody has read is cut, and the state stays', async () => {
  const database = await folder(true)
  await damage(database, await place(database, 'numbers', 3))
  const { plan, totals } = await salvaged(database)
  expect(plan.cuts).toMatchObject([{ from: 3 }])
  expect([...plan.resets]).toEqual([])
  expect(totals).toEqual(['a=4', 'b=2'])
})

test('input that was read is cut, and who read it begins anew, its results with it', async () => {
  const database = await folder()
  await damage(database, await place(database, 'numbers', 1))
  const { plan, totals, pairs, firstPair } = await salvaged(database)
  expect([...plan.resets]).toEqual([['sums', 'it has read numbers-0 to 3, which is cut at 1']])
  expect(totals).toEqual(['a=1'])
  expect(pairs).toEqual(['1+10'])
  expect(firstPair, 'offsets are not given again').toBe(3)
})

test('damaged rows of a store are restored from its changelog', async () => {
  const database = await folder()
  const batch = database.batch()
  batch.put(Buffer.from(`${rowsPrefix('sums.totals', 0)}a`, 'latin1'), Buffer.from('no row'))
  await batch.commit()
  const { plan, totals } = await salvaged(database)
  expect(plan.restored).toEqual([{ store: 'sums.totals', partition: 0 }])
  expect(plan.resets.size).toBe(0)
  expect(totals).toEqual(['a=4', 'b=2'])
})

test('damaged index rows of blocks are made again from the changelog', async () => {
  const database = await folder(true)
  const { gte, lt } = new AppendKeys('sums.pairs-right', 0).range('e')
  for await (const [entry] of database.scan({ gte, lt })) {
    const batch = database.batch()
    batch.put(entry!.key, entry!.value.subarray(4))
    await batch.commit()
  }
  const { plan, pairs } = await salvaged(database)
  expect(plan.restored).toEqual([{ store: 'sums.pairs-right', partition: 0 }])
  expect(pairs).toEqual(['1+10', '2+20', '3+10', '4+20', '5+20'])
})

const lost: [string, string, (database: MemoryDatabase) => Promise<Buffer>][] = [
  [
    'a changelog',
    'sums-totals-changelog-0 is damaged',
    db => place(db, 'sums-totals-changelog', 0),
  ],
  [
    'a committed offset',
    'committed offsets are damaged',
    async db => {
      const [row] = await db.getMany([topicKey('numbers')])
      const { topic } = decodeJson<TopicRow>(row!, 'numbers')
      return groupKey('sums', { topic, partition: 0 })
    },
  ],
  [
    'the record of the stores',
    'the record of the stores is damaged',
    async () => metadataKey('', 0, 'fingerprint'),
  ],
]

test.each(lost)(
  'without %s the state is built anew from all of the input',
  async (_, reason, key) => {
    const database = await folder()
    await damage(database, await key(database))
    const { plan, totals, pairs } = await salvaged(database)
    expect([...plan.resets]).toEqual([['sums', reason]])
    expect(plan.cuts.filter(({ report }) => !report.topic.startsWith('sums-'))).toEqual([])
    expect(totals).toEqual(['a=4', 'b=2'])
    expect(pairs.sort()).toEqual(['1+10', '2+20', '3+10'])
  },
)

test('a store that is ahead of its changelog, or has lost a block, is no state to go on with', async () => {
  const database = await folder()
  const [row] = await database.getMany([topicKey('sums-pairs-left-changelog')])
  const { topic } = decodeJson<TopicRow>(row!, 'changelog')
  const batch = database.batch()
  batch.deleteRange(
    batchKey({ topic, partition: 0 }, 1),
    batchKey({ topic, partition: 0 }, Number.MAX_SAFE_INTEGER),
  )
  await batch.commit()
  const examination = await examine(database, { topologies: [sums()], onProgress: () => {} })
  const store = examination.stores.find(({ store }) => store === 'sums.pairs-left')
  expect(store!.problems).toEqual([
    'it is at offset 3 of its changelog, which ends at 1',
    'the block at offset 1 is not there, or not whole',
    'the block at offset 2 is not there, or not whole',
  ])
  const { plan, totals, pairs } = await salvaged(database)
  expect([...plan.resets]).toEqual([
    ['sums', 'the changelog of sums.pairs-left does not hold all of it'],
  ])
  expect([totals, pairs.sort()]).toEqual([
    ['a=4', 'b=2'],
    ['1+10', '2+20', '3+10'],
  ])
})

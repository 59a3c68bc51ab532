import { expect, test } from 'vitest'
import { examineLog, type LogReport } from '../../../log/embedded/examine.ts'
import { openEmbeddedLog } from '../../../log/embedded/index.ts'
import * as keys from '../../../log/embedded/keys.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { append, p0, p1 } from '../../conformance/log.ts'
import { environment } from './environment.ts'

const id = { topic: 1, partition: 0 }

/** Four batches of two records in one partition, one in the other; a group has read both. */
async function log(cleanup: 'delete' | 'compact' = 'delete'): Promise<MemoryDatabase> {
  const database = new MemoryDatabase()
  const embedded = await openEmbeddedLog(database, environment)
  await embedded.createTopic('orders', 2, { cleanup })
  for (let i = 0; i < 4; i++) await append(embedded, p0, `a=${i}`, `b=${i}`)
  await append(embedded, p1, 'c=1')
  const transaction = embedded.begin()
  const offsets = [
    { ...p0, offset: 8, metadata: '' },
    { ...p1, offset: 1, metadata: '' },
  ]
  await transaction.commit({ group: 'readers', offsets })
  await embedded.close()
  return database
}

async function change(database: MemoryDatabase, key: Buffer, to: (value: Buffer) => Buffer | null) {
  const [value] = await database.getMany([key])
  const batch = database.batch()
  const changed = to(Buffer.from(value!))
  if (changed === null) batch.delete(key)
  else batch.put(key, changed)
  await batch.commit()
}

const examine = (database: MemoryDatabase, recognize = () => undefined as never) =>
  examineLog(database, { onProgress: () => {}, recognize })
const first = ({ partitions }: LogReport) => partitions[0]!

const flip = (position: number) => (value: Buffer) => {
  value[position]! ^= 1
  return value
}

test('a log that is whole has no problems, and its bounds are those of its readers', async () => {
  const report = await examine(await log())
  expect(report.problems).toEqual([])
  expect(report.partitions.map(({ problems }) => problems)).toEqual([[], []])
  expect(first(report)).toMatchObject({ records: 8, startOffset: 0, endOffset: 8, soundTo: 8 })
})

test.each([
  ['a CRC that does not match', flip(70), 'its CRC does not match'],
  ['another base offset', flip(7), 'another batch is in its place'],
  ['another length', flip(11), 'it is cut off'],
  ['another format', flip(16), 'only version 2 is read'],
  ['half of it', (value: Buffer) => value.subarray(0, 50), 'it is cut off'],
])(
  'a batch with %s is named; the prefix before it is sound, what follows is read',
  async (_, to, reason) => {
    const database = await log()
    await change(database, keys.batchKey(id, 2), to)
    const { problems, ...report } = first(await examine(database))
    expect(problems[0]).toContain(`the batch at offset 2: `)
    expect(problems.join()).toContain(reason)
    expect(report).toMatchObject({ records: 6, soundTo: 2, endOffset: 8 })
  },
)

test('a batch that is not there is a gap, but where compaction has been', async () => {
  const database = await log()
  await change(database, keys.batchKey(id, 4), () => null)
  const { problems, soundTo } = first(await examine(database))
  expect([problems, soundTo]).toEqual([['nothing at offsets 4 to 5'], 4])
  const compacted = await log('compact')
  await change(compacted, keys.batchKey(id, 4), () => null)
  expect(first(await examine(compacted))).toMatchObject({ problems: [], soundTo: 8 })
})

test('a lost end is told by who has read further', async () => {
  const database = await log()
  await change(database, keys.batchKey(id, 6), () => null)
  const report = await examine(database)
  expect(first(report)).toMatchObject({ problems: [], endOffset: 6, soundTo: 6 })
  expect(report.problems).toEqual(['group readers is at offset 8 of orders-0, which ends at 6'])
})

test('rows that cannot be decoded are named, and what they hold counts as incomplete', async () => {
  const database = await log()
  await change(database, keys.topicKey('orders'), () => Buffer.from('nothing'))
  await change(database, keys.groupKey('readers', id), value => value.fill(9, 0, 1))
  await change(database, keys.incarnationKey, value => value.fill(1, 0, 1).subarray(0, 3))
  const report = await examine(database)
  expect([report.topicsWhole, report.groupsWhole]).toEqual([false, false])
  expect(report.problems.length).toBeGreaterThanOrEqual(3)
})

test('a topic whose name is lost is found by its records, if somebody knows them', async () => {
  const database = await log()
  await change(database, keys.topicKey('orders'), () => Buffer.from('nothing'))
  const recognize = (batch: Buffer) =>
    batch.includes('a') ? { name: 'orders', partitions: 1, id: 'new' } : undefined
  const { topics, partitions } = await examineLog(database, { onProgress: () => {}, recognize })
  expect(topics).toMatchObject([{ name: 'orders', row: { topic: 1, partitions: 2, id: 'new' } }])
  expect(partitions.map(({ records }) => records)).toEqual([8, 1])
})

/** Reads of these keys fail, as those of a damaged block do. */
function unreadable(database: MemoryDatabase, from: Buffer, to: Buffer): MemoryDatabase {
  const hits = (key: Buffer) => Buffer.compare(key, from) >= 0 && Buffer.compare(key, to) < 0
  return Object.create(database, {
    getMany: { value: database.getMany.bind(database) },
    scan: {
      value: async function* (range: Parameters<MemoryDatabase['scan']>[0]) {
        for await (const entries of database.scan(range)) {
          for (const entry of entries) {
            if (hits(entry.key)) throw new Error('block checksum mismatch')
            yield [entry]
          }
        }
      },
    },
  }) as MemoryDatabase
}

test('a stretch that cannot be read is named, and reading goes on behind it', async () => {
  const database = await log()
  const damaged = unreadable(database, keys.batchKey(id, 2), keys.batchKey(id, 6))
  const { problems, ...report } = first(await examine(damaged))
  expect(problems).toEqual(['unreadable from offset 2 to 5: block checksum mismatch'])
  expect(report).toMatchObject({ records: 4, soundTo: 2, endOffset: 8 })
  expect(report.unreadable).toEqual([{ from: 2, to: 6 }])
  const tail = unreadable(database, keys.batchKey(id, 6), keys.batchKey(id, 1e9))
  expect(first(await examine(tail))).toMatchObject({
    problems: ['unreadable from offset 6 on: block checksum mismatch'],
    records: 6,
    soundTo: 6,
  })
})

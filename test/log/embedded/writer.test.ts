import { beforeEach, describe, expect, test } from 'vitest'
import { type EmbeddedLog, openEmbeddedLog } from '../../../log/embedded/index.ts'
import { append, codeOf, p0, p1, readAll } from '../../conformance/log.ts'
import { batchOf } from '../batches.ts'
import { environment } from './environment.ts'
import { RecordingDatabase } from './recording-database.ts'

let database: RecordingDatabase
let log: EmbeddedLog

beforeEach(async () => {
  database = new RecordingDatabase()
  log = await openEmbeddedLog(database, environment)
  await log.createTopic('orders', 2)
})

const commits = async (run: () => Promise<unknown>) => {
  const before = database.committed.length
  await run()
  return database.committed.length - before
}

describe('group commit', () => {
  test('transactions that wait together are one write', async () => {
    const all = () => Promise.all(Array.from({ length: 50 }, (_, i) => append(log, p0, `k=${i}`)))
    expect(await commits(all)).toBe(1)
  })

  test('each of them fails alone', async () => {
    const missing = { topic: 'absent', partition: 0 }
    const results = await Promise.allSettled([
      append(log, p0, 'a=1'),
      append(log, missing, 'b=2'),
      append(log, p0, 'c=3'),
    ])
    expect(results.map(result => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(await readAll(log, p0)).toEqual(['0 a=1', '1 c=3'])
  })

  test('one write is bounded in bytes', async () => {
    const value = 'v'.repeat(1_500_000)
    const all = () =>
      Promise.all(Array.from({ length: 20 }, (_, i) => append(log, p0, `${i}=${value}`)))
    expect(await commits(all)).toBe(4)
  })
})

describe('the state of a transaction', () => {
  const key = Buffer.from('M1')

  test('is in the same write as its records', async () => {
    const write = async () => {
      const transaction = log.begin()
      transaction.append(p0, batchOf('a=1'))
      await transaction.commit({ state: (_, batch) => batch.put(key, Buffer.from('1')) })
    }
    expect(await commits(write)).toBe(1)
    expect(await database.getMany([key])).toEqual([Buffer.from('1')])
  })

  test('that throws takes its own transaction along and no other', async () => {
    const first = append(log, p0, 'a=1')
    const bad = log.begin()
    bad.append(p0, batchOf('b=2'))
    let calls = 0
    const commit = bad.commit({
      state: (_, batch) => {
        calls++
        batch.put(key, Buffer.from('half'))
        throw new Error('state is broken')
      },
    })
    const after = [append(log, p0, 'c=3'), append(log, p1, 'd=4')]
    await expect(commit).rejects.toThrow('state is broken')
    await Promise.all([first, ...after])
    expect(calls).toBe(1)
    expect(await readAll(log, p0)).toEqual(['0 a=1', '1 c=3'])
    expect(await database.getMany([key])).toEqual([null])
    expect(database.openHandles).toBe(0)
  })
})

describe('a write that the database refuses', () => {
  const refuseOnce = () => {
    database.refuse = () => {
      database.refuse = undefined
      return new Error('disk full')
    }
  }

  test('fails all its transactions, and their offsets are given again', async () => {
    await append(log, p0, 'a=1')
    refuseOnce()
    const both = [append(log, p0, 'b=2'), append(log, p1, 'c=3')]
    for (const each of both) expect(await codeOf(() => each)).toBe('LOG_WRITE_FAILED')
    expect(await log.offsets([p0, p1])).toMatchObject([
      { startOffset: 0, endOffset: 1 },
      { startOffset: 0, endOffset: 0 },
    ])
    expect(await append(log, p0, 'd=4')).toMatchObject({ baseOffset: 1 })
    expect(await readAll(log, p0)).toEqual(['0 a=1', '1 d=4'])
    expect(database.openHandles).toBe(0)
  })

  test('leaves nothing of it for a waiting fetch', async () => {
    const waiting = log.fetch([{ ...p0, offset: 0, bytesMax: 1000 }], { waitMsMax: 30 })
    refuseOnce()
    expect(await codeOf(() => append(log, p0, 'a=1'))).toBe('LOG_WRITE_FAILED')
    expect((await waiting)[0].bytes).toHaveLength(0)
  })

  test('stops the log when the data cannot be read either', async () => {
    refuseOnce()
    database.failReads = true
    expect(await codeOf(() => append(log, p0, 'a=1'))).toBe('LOG_WRITE_FAILED')
    database.failReads = false
    expect(await codeOf(() => append(log, p0, 'b=2'))).toBe('LOG_STOPPED')
    expect(await codeOf(() => log.createTopic('new', 1))).toBe('LOG_STOPPED')
  })

  test('of a new topic leaves no topic', async () => {
    refuseOnce()
    await expect(log.createTopic('new', 1)).rejects.toThrow('disk full')
    expect(await log.describeTopic('new')).toBeUndefined()
    await log.createTopic('new', 1)
  })
})

test('too much that waits is refused, not collected', async () => {
  let release = () => {}
  database.hold = new Promise(resolve => (release = resolve))
  const value = 'v'.repeat(1_900_000)
  const results = Array.from({ length: 150 }, () =>
    append(log, p0, `k=${value}`).catch(error => error.code),
  )
  await new Promise(resolve => setImmediate(resolve))
  release()
  database.hold = undefined
  const codes = (await Promise.all(results)).filter(result => typeof result === 'string')
  expect(new Set(codes)).toEqual(new Set(['LOG_BUSY']))
  expect(codes.length).toBeGreaterThan(5)
  expect((await log.offsets([p0]))[0].endOffset).toBe(150 - codes.length)
})

test('batches are read by their base offset in one round trip', async () => {
  for (const texts of [['a=1', 'b=2'], ['c=3'], ['d=4']]) await append(log, p0, ...texts)
  const [third, none, first] = await log.readBatches(p0, [3, 1, 0])
  expect([third?.equals(rebased(batchOf('d=4'), 3)), none]).toEqual([true, null])
  expect(first?.equals(rebased(batchOf('a=1', 'b=2'), 0))).toBe(true)
})

function rebased(batch: Buffer, offset: number): Buffer {
  batch.writeUInt32BE(offset, 4)
  batch.writeInt32BE(0, 12)
  return batch
}

test('a database closed under the log stops the writer aloud, and tells every transaction', async () => {
  await append(log, p0, 'a=1')
  await database.close()
  const outcomes = await Promise.all([
    codeOf(() => append(log, p0, 'b=2')),
    codeOf(() => append(log, p1, 'c=3')),
  ])
  expect(outcomes).toEqual(['LOG_STOPPED', 'LOG_STOPPED'])
  expect(await codeOf(() => append(log, p0, 'd=4'))).toBe('LOG_STOPPED')
})

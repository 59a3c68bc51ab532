import { describe, expect, test } from 'vitest'
import { type EmbeddedLog, openEmbeddedLog } from '../../../log/embedded/index.ts'
import * as keys from '../../../log/embedded/keys.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { append, codeOf, p0, p1, readAll } from '../../conformance/log.ts'
import { batchOf } from '../batches.ts'
import { environment } from './environment.ts'
import { RecordingDatabase } from './recording-database.ts'

describe('the incarnation', () => {
  const incarnationAfter = async (
    database: RecordingDatabase | MemoryDatabase,
    bootId: string,
    clean: boolean,
  ) => {
    const log = await openEmbeddedLog(database, environment, { bootId })
    if (clean) await log.close()
    return log.incarnation
  }

  test('stays when a process was killed: the system has what was acknowledged', async () => {
    const database = new RecordingDatabase()
    const first = await incarnationAfter(database, 'one', false)
    expect(await incarnationAfter(database, 'one', false)).toBe(first)
  })

  test('stays over a clean end, also when the machine starts anew', async () => {
    const database = new RecordingDatabase()
    const first = await incarnationAfter(database, 'one', true)
    expect(await incarnationAfter(database, 'two', true)).toBe(first)
  })

  test('changes when the machine went down under it', async () => {
    const database = new RecordingDatabase()
    const first = await incarnationAfter(database, 'one', false)
    const second = await incarnationAfter(database, 'two', false)
    expect(second).not.toBe(first)
    expect(await incarnationAfter(database, 'two', false)).toBe(second)
  })

  test('changes with the machine when the database cannot sync', async () => {
    const database = new MemoryDatabase()
    const first = await incarnationAfter(database, 'one', true)
    expect(await incarnationAfter(database, 'two', true)).not.toBe(first)
  })
})

describe('a power cut', () => {
  /** Both partitions get the same record in each transaction; the group counts them. */
  async function work(log: EmbeddedLog, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const transaction = log.begin()
      transaction.append(p0, batchOf(`k=${i}`))
      transaction.append(p1, batchOf(`k=${i}`))
      const offsets = [{ ...p0, offset: i + 1, metadata: '' }]
      await transaction.commit({ group: 'g', offsets })
    }
  }

  test('at any moment leaves a consistent prefix and another incarnation', async () => {
    const database = new RecordingDatabase()
    const before = await openEmbeddedLog(database, environment, { bootId: 'one' })
    await before.createTopic('orders', 2)
    const fixed = database.committed.length
    await work(before, 12)
    for (let kept = fixed; kept <= database.committed.length; kept++) {
      const after = await database.afterPowerCut(kept)
      const log = await openEmbeddedLog(after, environment, { bootId: 'two' })
      expect(log.incarnation).not.toBe(before.incarnation)
      const lines = await readAll(log, p0)
      expect(lines).toEqual(Array.from({ length: kept - fixed }, (_, i) => `${i} k=${i}`))
      expect(await readAll(log, p1)).toEqual(lines)
      const [offset] = await log.committed('g', [p0])
      expect(offset?.offset ?? 0).toBe(lines.length)
      expect(await append(log, p0, 'new=1')).toMatchObject({ baseOffset: lines.length })
    }
  })

  test('that also takes the start after a clean end is still noticed', async () => {
    const database = new RecordingDatabase()
    const first = await openEmbeddedLog(database, environment, { bootId: 'one' })
    await first.createTopic('orders', 2)
    await first.close()
    // The system writes everything out by itself some time.
    await database.sync()
    const second = await openEmbeddedLog(database, environment, { bootId: 'one' })
    await work(second, 3)
    const after = await database.afterPowerCut(0)
    const third = await openEmbeddedLog(after, environment, { bootId: 'two' })
    expect(third.incarnation).not.toBe(second.incarnation)
  })
})

describe('damage', () => {
  async function damaged(change: (value: Buffer) => Buffer, base = 0) {
    const database = new MemoryDatabase()
    const log = await openEmbeddedLog(database, environment)
    await log.createTopic('orders', 1)
    await append(log, p0, 'a=1', 'b=2')
    await append(log, p0, 'c=3')
    await log.close()
    const key = keys.batchKey({ topic: 1, partition: 0 }, base)
    const [value] = await database.getMany([key])
    const batch = database.batch()
    batch.put(key, change(Buffer.from(value as Buffer)))
    await batch.commit()
    return database
  }

  test('of the last batch stops the start, naming the place', async () => {
    const database = await damaged(value => value.subarray(0, 69), 2)
    const open = openEmbeddedLog(database, environment)
    await expect(open).rejects.toMatchObject({
      code: 'LOG_CORRUPT',
      details: { where: 'orders-0 offset 2' },
    })
    expect(database.openHandles).toBe(0)
  })

  test('that puts a batch in the place of another is found', async () => {
    const database = await damaged(value => {
      value.writeInt32BE(9, 4)
      return value
    }, 2)
    expect(await codeOf(() => openEmbeddedLog(database, environment))).toBe('LOG_CORRUPT')
  })

  test('inside a batch is left to the reader, who checks the CRC', async () => {
    const database = await damaged(value => {
      value[65] ^= 1
      return value
    })
    const log = await openEmbeddedLog(database, environment)
    expect(await codeOf(() => readAll(log, p0))).toBe('BATCH_CORRUPT')
    expect(await readAll(log, p0, 2)).toEqual(['2 c=3'])
  })

  test.each(['topicKey', 'partitionRowKey', 'incarnation'])(
    'a row of another format version is refused (%s)',
    async which => {
      const database = new MemoryDatabase()
      const log = await openEmbeddedLog(database, environment)
      await log.createTopic('orders', 1)
      await append(log, p0, 'a=1')
      await log.deleteRecords(p0, 1)
      await log.close()
      const key = {
        topicKey: keys.topicKey('orders'),
        partitionRowKey: keys.partitionRowKey({ topic: 1, partition: 0 }),
        incarnation: keys.incarnationKey,
      }[which] as Buffer
      const [value] = await database.getMany([key])
      const batch = database.batch()
      const changed = Buffer.from(value as Buffer)
      changed[0] = 2
      batch.put(key, changed)
      await batch.commit()
      expect(await codeOf(() => openEmbeddedLog(database, environment))).toBe('LOG_FORMAT')
    },
  )
})

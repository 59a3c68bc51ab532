/**
 * What every event log does: the facts of the port, run against each driver. `log.groups.ts`
 * and `log.cleanup.ts` hold the rest of it.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { EventLog, TopicPartition } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { cleanupConformance } from './log.cleanup.ts'
import { groupConformance } from './log.groups.ts'

/** A log and what the suite needs around it. */
export interface LogUnderTest {
  readonly log: EventLog
  /** The same data again, after `log` was closed. */
  reopen(): Promise<LogUnderTest>
  /** Retention and compaction as of `nowMs`, everything that is due. */
  maintain(nowMs: number): Promise<void>
  /** Closes the log if it is open, and removes its data. */
  dispose(): Promise<void>
}

export const p0: TopicPartition = { topic: 'orders', partition: 0 }
export const p1: TopicPartition = { topic: 'orders', partition: 1 }

export async function append(log: EventLog, target: TopicPartition, ...texts: string[]) {
  const transaction = log.begin()
  transaction.append(target, batchOf(...texts))
  return (await transaction.commit())[0]
}

/** Everything from `offset` on, a fetch at a time. */
export async function readAll(log: EventLog, target: TopicPartition, offset = 0, bytesMax = 1e6) {
  const lines: string[] = []
  for (let from = offset; ; ) {
    const [response] = await log.fetch([{ ...target, offset: from, bytesMax }])
    expect(response.error).toBeUndefined()
    const { nextOffset } = decodeBatches(response.bytes, { fromOffset: from })
    lines.push(...pairs(response.bytes, { fromOffset: from }))
    if (nextOffset === from) return lines
    from = nextOffset
  }
}

export async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run()
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
  return 'nothing thrown'
}

export function logConformance(name: string, openLog: () => Promise<LogUnderTest>): void {
  describe(`${name} log`, () => {
    let subject: LogUnderTest
    let log: EventLog
    const reopen = async () => {
      await log.close()
      subject = await subject.reopen()
      log = subject.log
    }

    beforeEach(async () => {
      subject = await openLog()
      log = subject.log
      await log.createTopic('orders', 2)
    })
    afterEach(() => subject.dispose())

    topicFacts(() => log, reopen)
    transactionFacts(() => log, reopen)
    fetchFacts(() => log)
    waitFacts(() => log)
    groupConformance(() => log, reopen)
    cleanupConformance(
      () => log,
      nowMs => subject.maintain(nowMs),
      reopen,
    )
  })
}

function topicFacts(current: () => EventLog, reopen: () => Promise<void>): void {
  test('a topic is described as it was created, also after reopening', async () => {
    const config = { cleanup: 'compact', deleteRetentionMs: 5, batchBytesMax: 100_000 } as const
    const made = await current().createTopic('table', 3, config)
    expect(made).toMatchObject({ name: 'table', partitions: 3, config })
    expect(made.config.retentionMs).toBe(-1)
    await reopen()
    expect(await current().describeTopic('table')).toEqual(made)
    expect((await current().listTopics()).map(topic => topic.name)).toEqual(['orders', 'table'])
    expect(await current().describeTopic('absent')).toBeUndefined()
  })

  test.each(['', '.', '..', 'a b', 'ü', 'a/b', 'x'.repeat(250)])(
    'a topic cannot be named %j',
    async name => {
      expect(await codeOf(() => current().createTopic(name, 1))).toBe('TOPIC_INVALID')
    },
  )

  test.each(['x'.repeat(249), '__proto__', 'a.b_c-D9'])('a topic can be named %s', async name => {
    await current().createTopic(name, 1)
    await append(current(), { topic: name, partition: 0 }, 'a=1')
    expect(await readAll(current(), { topic: name, partition: 0 })).toEqual(['0 a=1'])
  })

  test('a topic is created once, with at least one partition', async () => {
    expect(await codeOf(() => current().createTopic('orders', 2))).toBe('TOPIC_EXISTS')
    for (const partitions of [0, -1, 1.5]) {
      expect(await codeOf(() => current().createTopic('new', partitions))).toBe('TOPIC_INVALID')
    }
  })

  test('a topic created anew is empty, has another id and begins at offset 0', async () => {
    const before = await current().describeTopic('orders')
    await append(current(), p0, 'a=1', 'b=2')
    await current().deleteTopic('orders')
    expect(await current().describeTopic('orders')).toBeUndefined()
    const [gone] = await current().fetch([{ ...p0, offset: 0, bytesMax: 1000 }])
    expect(gone.error).toBe('unknown-topic')
    const after = await current().createTopic('orders', 2)
    expect(after.id).not.toBe(before?.id)
    expect(await readAll(current(), p0)).toEqual([])
    await append(current(), p0, 'c=3')
    await reopen()
    expect(await readAll(current(), p0)).toEqual(['0 c=3'])
  })

  test('what is not there is named in the error', async () => {
    const nowhere = { topic: 'absent', partition: 0 }
    const beyond = { topic: 'orders', partition: 2 }
    const transaction = current().begin()
    transaction.append(nowhere, batchOf('a=1'))
    expect(await codeOf(() => transaction.commit())).toBe('TOPIC_MISSING')
    expect(await codeOf(() => append(current(), beyond, 'a=1'))).toBe('PARTITION_MISSING')
    expect(await codeOf(() => current().offsets([nowhere]))).toBe('TOPIC_MISSING')
    expect(await codeOf(() => current().deleteTopic('absent'))).toBe('TOPIC_MISSING')
    expect(await codeOf(() => current().offsetForTimestamp(beyond, 0))).toBe('PARTITION_MISSING')
  })
}

function transactionFacts(current: () => EventLog, reopen: () => Promise<void>): void {
  test('offsets are given in order and told to the committer', async () => {
    const transaction = current().begin()
    transaction.append(p0, batchOf('a=1', 'b=2'))
    transaction.append(p1, batchOf('c=3'))
    transaction.append(p0, Buffer.concat([batchOf('d=4'), batchOf('e=5', 'f=6')]))
    expect(await transaction.commit()).toEqual([
      { ...p0, baseOffset: 0, nextOffset: 2 },
      { ...p1, baseOffset: 0, nextOffset: 1 },
      { ...p0, baseOffset: 2, nextOffset: 5 },
    ])
    const expected = ['0 a=1', '1 b=2', '2 d=4', '3 e=5', '4 f=6']
    expect(await readAll(current(), p0)).toEqual(expected)
    await reopen()
    expect(await readAll(current(), p0)).toEqual(expected)
    expect(await append(current(), p0, 'g=7')).toMatchObject({ baseOffset: 5 })
  })

  test('a transaction is seen whole or not at all, over all its partitions', async () => {
    let writing = true
    const writer = (async () => {
      for (let i = 0; i < 200; i++) {
        const transaction = current().begin()
        transaction.append(p0, batchOf(`k=${i}`))
        transaction.append(p1, batchOf(`k=${i}`))
        await transaction.commit()
        if (i % 10 === 0) await new Promise(resolve => setImmediate(resolve))
      }
      writing = false
    })()
    let seen = 0
    while (writing) {
      const requests = [p0, p1].map(target => ({ ...target, offset: 0, bytesMax: 1e6 }))
      const [a, b] = await current().fetch(requests)
      expect(pairs(a.bytes)).toEqual(pairs(b.bytes))
      expect(a.endOffset).toBe(b.endOffset)
      const [c, d] = await current().offsets([p0, p1])
      expect(c.endOffset).toBe(d.endOffset)
      seen++
      if (seen % 5 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    await writer
    expect(seen).toBeGreaterThan(5)
  })

  test('nothing of an aborted transaction is ever seen', async () => {
    const transaction = current().begin()
    transaction.append(p0, batchOf('a=1'))
    await transaction.abort()
    await append(current(), p0, 'b=2')
    await reopen()
    expect(await readAll(current(), p0)).toEqual(['0 b=2'])
  })

  test('one bad append spoils its transaction and no other', async () => {
    const good = append(current(), p0, 'a=1')
    const bad = current().begin()
    bad.append(p0, batchOf('b=2'))
    bad.append({ topic: 'absent', partition: 0 }, batchOf('c=3'))
    const commit = codeOf(() => bad.commit())
    const after = append(current(), p0, 'd=4')
    expect(await commit).toBe('TOPIC_MISSING')
    await Promise.all([good, after])
    expect(await readAll(current(), p0)).toEqual(['0 a=1', '1 d=4'])
  })

  test('bytes that are no whole batch are refused', async () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from('x'), batchOf('a=1').subarray(0, 65)]) {
      const transaction = current().begin()
      transaction.append(p0, bytes)
      expect(await codeOf(() => transaction.commit())).toBe('BATCH_CORRUPT')
    }
    expect(await readAll(current(), p0)).toEqual([])
  })

  test('a batch at the limit is taken, one byte more is refused', async () => {
    const batch = makeBatch([{ key: 'k', value: 'v'.repeat(5000) }])
    await current().createTopic('fits', 1, { batchBytesMax: batch.length })
    await current().createTopic('small', 1, { batchBytesMax: batch.length - 1 })
    const commit = (topic: string) => {
      const transaction = current().begin()
      transaction.append({ topic, partition: 0 }, Buffer.from(batch))
      return transaction.commit()
    }
    await commit('fits')
    expect(await codeOf(() => commit('small'))).toBe('BATCH_TOO_LARGE')
  })

  test('a record of 1 MiB with key and headers passes by default', async () => {
    const transaction = current().begin()
    const record = { key: 'k'.repeat(100), value: 'v'.repeat(1 << 20) }
    transaction.append(p0, makeBatch([record]))
    await transaction.commit()
    expect(await readAll(current(), p0, 0, 10)).toHaveLength(1)
  })

  test('a hundred appends at once get dense offsets, in the order they were called', async () => {
    const receipts = await Promise.all(
      Array.from({ length: 100 }, (_, i) => append(current(), p0, `k=${i}`, `l=${i}`)),
    )
    expect(receipts.map(receipt => receipt.baseOffset)).toEqual(
      Array.from({ length: 100 }, (_, i) => 2 * i),
    )
    const lines = await readAll(current(), p0)
    expect(lines).toEqual(
      Array.from({ length: 200 }, (_, i) => `${i} ${i % 2 ? 'l' : 'k'}=${i >> 1}`),
    )
  })

  test('what was acknowledged is visible at once', async () => {
    for (let i = 0; i < 20; i++) {
      const { nextOffset } = await append(current(), p0, `k=${i}`)
      expect(await current().offsets([p0])).toEqual([{ startOffset: 0, endOffset: nextOffset }])
      expect(await readAll(current(), p0, i)).toEqual([`${i} k=${i}`])
    }
  })
}

function fetchFacts(current: () => EventLog): void {
  test('a fetch from inside a batch begins with that batch', async () => {
    await append(current(), p0, 'a=1', 'b=2', 'c=3')
    await append(current(), p0, 'd=4')
    expect(await readAll(current(), p0, 1)).toEqual(['1 b=2', '2 c=3', '3 d=4'])
    expect(await readAll(current(), p0, 3)).toEqual(['3 d=4'])
  })

  test('at the end there is nothing, beyond it and before the start is an error', async () => {
    await append(current(), p0, 'a=1', 'b=2')
    const at = async (offset: number) =>
      (await current().fetch([{ ...p0, offset, bytesMax: 1000 }]))[0]
    expect(await at(2)).toMatchObject({ endOffset: 2, startOffset: 0, bytes: Buffer.alloc(0) })
    expect((await at(2)).error).toBeUndefined()
    expect((await at(3)).error).toBe('offset-out-of-range')
    expect((await at(-1)).error).toBe('offset-out-of-range')
    await current().deleteRecords(p0, 1)
    expect((await at(0)).error).toBe('offset-out-of-range')
    expect((await at(1)).error).toBeUndefined()
  })

  test('bytesMax bounds an answer to whole batches, at least one', async () => {
    for (let i = 0; i < 10; i++) await append(current(), p0, `k=${i}`)
    const size = batchOf('k=0').length
    const count = async (bytesMax: number) => {
      const [{ bytes }] = await current().fetch([{ ...p0, offset: 2, bytesMax }])
      return decodeBatches(bytes).batches.length
    }
    expect([await count(1), await count(size), await count(3 * size)]).toEqual([1, 1, 3])
    expect(await count(1e6)).toBe(8)
    expect(await readAll(current(), p0, 0, 2 * size)).toHaveLength(10)
  })

  test('several partitions and an unknown one are answered in order', async () => {
    await append(current(), p1, 'a=1')
    const unknown = { topic: 'absent', partition: 0 }
    const requests = [p1, unknown, p0].map(target => ({ ...target, offset: 0, bytesMax: 1000 }))
    const [first, second, third] = await current().fetch(requests)
    expect(pairs(first.bytes)).toEqual(['0 a=1'])
    expect(second).toMatchObject({ ...unknown, error: 'unknown-topic' })
    expect(third).toMatchObject({ ...p0, endOffset: 0 })
  })

  test('an offset is found by timestamp, also among records out of order', async () => {
    const add = async (...times: number[]) => {
      const transaction = current().begin()
      transaction.append(p0, makeBatch(times.map(timestampMs => ({ timestampMs, key: 'k' }))))
      await transaction.commit()
    }
    await add(100, 90, 300)
    await add(50)
    await add(200, 400)
    await add(350)
    const at = (timestampMs: number) => current().offsetForTimestamp(p0, timestampMs)
    const wanted = [0, 100, 101, 300, 301, 400, 401]
    expect(await Promise.all(wanted.map(at))).toEqual([0, 0, 2, 2, 5, 5, 7])
    await current().deleteRecords(p0, 3)
    expect(await Promise.all(wanted.map(at))).toEqual([3, 4, 4, 5, 5, 5, 7])
    expect(await current().offsetForTimestamp(p1, 5)).toBe(0)
  })
}

function waitFacts(current: () => EventLog): void {
  const request = { ...p0, offset: 0, bytesMax: 1000 }

  test('a waiting fetch wakes when its partition gets data', async () => {
    const other = { ...p1, offset: 0, bytesMax: 1000 }
    const waiting = current().fetch([other, request], { waitMsMax: 30_000 })
    await append(current(), p0, 'a=1')
    const [empty, full] = await waiting
    expect([pairs(empty.bytes), pairs(full.bytes)]).toEqual([[], ['0 a=1']])
  })

  test('a waiting fetch does not wake for another partition', async () => {
    let woken = false
    const stop = new AbortController()
    const options = { waitMsMax: 30_000, signal: stop.signal }
    const waiting = current()
      .fetch([request], options)
      .then(answer => {
        woken = true
        return answer
      })
    await append(current(), p1, 'a=1')
    await append(current(), p1, 'b=2')
    expect(woken).toBe(false)
    stop.abort()
    expect((await waiting)[0].bytes).toHaveLength(0)
  })

  test('a waiting fetch answers empty when its time is over', async () => {
    const [answer] = await current().fetch([request], { waitMsMax: 20 })
    expect(answer).toMatchObject({ endOffset: 0, bytes: Buffer.alloc(0) })
  })

  test('a signal that is aborted already does not wait', async () => {
    const options = { waitMsMax: 30_000, signal: AbortSignal.abort() }
    expect((await current().fetch([request], options))[0].bytes).toHaveLength(0)
  })

  test('a waiting fetch tells when its topic is deleted', async () => {
    const waiting = current().fetch([request], { waitMsMax: 30_000 })
    await current().deleteTopic('orders')
    expect((await waiting)[0].error).toBe('unknown-topic')
  })

  test('close ends a waiting fetch and refuses what comes after', async () => {
    const waiting = codeOf(() => current().fetch([request], { waitMsMax: 30_000 }))
    const written = append(current(), p0, 'a=1')
    await Promise.all([written, current().close()])
    expect(['nothing thrown', 'LOG_CLOSED']).toContain(await waiting)
    expect(await codeOf(() => current().fetch([request]))).toBe('LOG_CLOSED')
    expect(await codeOf(() => append(current(), p0, 'b=2'))).toBe('LOG_CLOSED')
    expect(await codeOf(() => current().offsets([p0]))).toBe('LOG_CLOSED')
    await current().close()
  })
}

/** Fetching: from any offset or time, waiting where there is nothing yet. */
import { expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { append, codeOf, p0, p1, readAll } from './log.ts'

export function fetchConformance(current: () => EventLog): void {
  readFacts(current)
  waitFacts(current)
  closeFacts(current)
}

function readFacts(current: () => EventLog): void {
  test('a fetch from inside a batch begins with that batch', async () => {
    await append(current(), p0, 'a=1', 'b=2', 'c=3')
    await append(current(), p0, 'd=4')
    expect(await readAll(current(), p0, 1)).toEqual(['1 b=2', '2 c=3', '3 d=4'])
    expect(await readAll(current(), p0, 3)).toEqual(['3 d=4'])
    await append(current(), p0, 'e=5', 'f=6')
    expect(await readAll(current(), p0, 5)).toEqual(['5 f=6'])
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

const request = { topic: 'orders', partition: 0, offset: 0, bytesMax: 1000 }

function waitFacts(current: () => EventLog): void {
  test('a waiting fetch wakes when its partition gets data', async () => {
    const other = { ...p1, offset: 0, bytesMax: 1000 }
    const waiting = current().fetch([other, request], { waitMsMax: 30_000 })
    await append(current(), p0, 'a=1')
    const [empty, full] = await waiting
    expect([pairs(empty.bytes), pairs(full.bytes)]).toEqual([[], ['0 a=1']])
  })

  test('data that comes while a fetch begins to wait is not slept over', async () => {
    for (let turns = 0; turns < 40; turns++) {
      const written = append(current(), p0, `k=${turns}`)
      for (let turn = 0; turn < turns; turn++) await undefined
      const wanted = { ...p0, offset: turns, bytesMax: 1000 }
      const [answer] = await current().fetch([wanted], { waitMsMax: 30_000 })
      expect(pairs(answer.bytes)).toEqual([`${turns} k=${turns}`])
      await written
    }
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
}

function closeFacts(current: () => EventLog): void {
  test('close waits for reads under way', async () => {
    for (let i = 0; i < 20; i++) await append(current(), p0, `k=${i}`)
    let done = 0
    const reads = [
      ...Array.from({ length: 10 }, (_, i) => current().fetch([{ ...request, offset: i }])),
      current().offsetForTimestamp(p0, 0),
      current().listGroups(),
    ].map(read => Promise.resolve(read).finally(() => done++))
    await current().close()
    expect(done).toBe(reads.length)
    await Promise.allSettled(reads)
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

/** Fetching: from any offset or time, waiting where there is nothing yet. */
import { expect, test } from 'vitest'
import type { AppendReceipt, EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { append, codeOf, linesOf, p0, p1, readAll, settled } from './log.ts'

export function fetchConformance(current: () => EventLog): void {
  readFacts(current)
  answerFacts(current)
  waitFacts(current)
  closeFacts(current)
}

function readFacts(current: () => EventLog): void {
  test('a fetch from inside a batch begins with that batch', async () => {
    const first = await append(current(), p0, 'a=1', 'b=2', 'c=3')
    const second = await append(current(), p0, 'd=4')
    const [, b, c] = linesOf(first, 'a=1', 'b=2', 'c=3')
    expect(await readAll(current(), p0, 1)).toEqual([b, c, ...linesOf(second, 'd=4')])
    expect(await readAll(current(), p0, 3)).toEqual(linesOf(second, 'd=4'))
    const third = await append(current(), p0, 'e=5', 'f=6')
    const [, f] = linesOf(third, 'e=5', 'f=6')
    expect(await readAll(current(), p0, third.baseOffset + 1)).toEqual([f])
  })

  test('at the end there is nothing, beyond it and before the start is an error', async () => {
    await append(current(), p0, 'a=1', 'b=2')
    const [{ endOffset }] = await settled(current(), p0)
    const at = async (offset: number) =>
      (await current().fetch([{ ...p0, offset, bytesMax: 1000 }]))[0]
    const last = await at(endOffset)
    const bytes = Buffer.alloc(0)
    expect(last).toMatchObject({ endOffset, startOffset: 0, bytes, nextOffset: endOffset })
    expect(last.error).toBeUndefined()
    expect(await at(endOffset + 1)).toMatchObject({ error: 'offset-out-of-range', endOffset })
    expect((await at(-1)).error).toBe('offset-out-of-range')
    await current().deleteRecords(p0, 1)
    expect(await at(0)).toMatchObject({ error: 'offset-out-of-range', startOffset: 1, endOffset })
    expect((await at(1)).error).toBeUndefined()
  })

  test('an answer says where to read on, also from inside its last batch', async () => {
    const { nextOffset } = await append(current(), p0, 'a=1', 'b=2')
    const [{ endOffset }] = await settled(current(), p0)
    for (const offset of [0, 1]) {
      const [answer] = await current().fetch([{ ...p0, offset, bytesMax: 1 }])
      expect(answer.nextOffset).toBeGreaterThanOrEqual(nextOffset)
      expect(answer.nextOffset).toBeLessThanOrEqual(endOffset)
    }
    await append(current(), p0, 'c=3')
    const texts: string[] = []
    for (let offset = 0, end = (await settled(current(), p0))[0].endOffset; offset < end; ) {
      const [answer] = await current().fetch([{ ...p0, offset, bytesMax: 1 }])
      texts.push(...pairs(answer.bytes, { fromOffset: offset }).map(line => line.split(' ')[1]))
      expect(answer.nextOffset).toBeGreaterThan(offset)
      offset = answer.nextOffset
    }
    expect(texts).toEqual(['a=1', 'b=2', 'c=3'])
  })
}

function answerFacts(current: () => EventLog): void {
  test('bytesMax bounds an answer to whole batches, at least one', async () => {
    const receipts: AppendReceipt[] = []
    for (let i = 0; i < 10; i++) receipts.push(await append(current(), p0, `k=${i}`))
    await settled(current(), p0)
    const size = batchOf('k=0').length
    const third = { ...p0, offset: receipts[2].baseOffset }
    for (const bytesMax of [1, size, 3 * size, 5 * size]) {
      const [{ bytes }] = await current().fetch([{ ...third, bytesMax }])
      const { batches, consumed } = decodeBatches(bytes)
      expect(consumed).toBe(bytes.length)
      expect(batches.length).toBeGreaterThan(0)
      expect(batches.length).toBeLessThanOrEqual(Math.max(1, bytesMax / size))
    }
    const [whole] = await current().fetch([{ ...third, bytesMax: 1e6 }])
    expect(decodeBatches(whole.bytes).batches).toHaveLength(8)
    expect(await readAll(current(), p0, 0, 2 * size)).toHaveLength(10)
  })

  test('several partitions and an unknown one are answered in order', async () => {
    await append(current(), p1, 'a=1')
    await settled(current(), p1)
    const unknown = { topic: 'absent', partition: 0 }
    const requests = [p1, unknown, p0].map(target => ({ ...target, offset: 0, bytesMax: 1000 }))
    const [first, second, third] = await current().fetch(requests)
    expect(pairs(first.bytes)).toEqual(['0 a=1'])
    expect(second).toMatchObject({ ...unknown, error: 'unknown-topic' })
    expect(third).toMatchObject({ ...p0, endOffset: 0 })
  })

  test('an offset is found by timestamp, also among records out of order', async () => {
    const offsets: number[] = []
    const add = async (...times: number[]) => {
      const transaction = current().begin()
      transaction.append(p0, makeBatch(times.map(timestampMs => ({ timestampMs, key: 'k' }))))
      const [{ baseOffset }] = await transaction.commit()
      offsets.push(...times.map((_, i) => baseOffset + i))
    }
    await add(100, 90, 300)
    await add(50)
    await add(200, 400)
    await add(350)
    offsets.push((await settled(current(), p0))[0].endOffset)
    const at = (timestampMs: number) => current().offsetForTimestamp(p0, timestampMs)
    const wanted = [0, 100, 101, 300, 301, 400, 401]
    const found = async () => (await Promise.all(wanted.map(at))).map(each => offsets.indexOf(each))
    expect(await found()).toEqual([0, 0, 2, 2, 5, 5, 7])
    await current().deleteRecords(p0, offsets[3])
    expect(await found()).toEqual([3, 4, 4, 5, 5, 5, 7])
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
    let offset = 0
    for (let turns = 0; turns < 40; turns++) {
      const written = append(current(), p0, `k=${turns}`)
      for (let turn = 0; turn < turns; turn++) await undefined
      const lines: string[] = []
      while (lines.length === 0) {
        const wanted = { ...p0, offset, bytesMax: 1000 }
        const [answer] = await current().fetch([wanted], { waitMsMax: 30_000 })
        lines.push(...pairs(answer.bytes))
        expect(answer.nextOffset).toBeGreaterThan(offset)
        offset = answer.nextOffset
      }
      expect(lines).toEqual(linesOf(await written, `k=${turns}`))
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
    const answer = async () => (await current().fetch([request], { waitMsMax: 20 }))[0]
    // A broker that is slow to answer is told of as pending first.
    await expect.poll(answer).toMatchObject({ endOffset: 0, bytes: Buffer.alloc(0) })
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

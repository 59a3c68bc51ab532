/** Transactions: all or nothing, over all their partitions, in the order they were committed. */
import { expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { append, codeOf, p0, p1, readAll } from './log.ts'

export function transactionConformance(current: () => EventLog, reopen: () => Promise<void>): void {
  atomicityFacts(current, reopen)
  failureFacts(current, reopen)
  refusalFacts(current)
  orderFacts(current)
}

function atomicityFacts(current: () => EventLog, reopen: () => Promise<void>): void {
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
}

function failureFacts(current: () => EventLog, reopen: () => Promise<void>): void {
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
}

function refusalFacts(current: () => EventLog): void {
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
}

function orderFacts(current: () => EventLog): void {
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
      expect(await current().offsets([p0])).toMatchObject([
        { startOffset: 0, endOffset: nextOffset },
      ])
      expect(await readAll(current(), p0, i)).toEqual([`${i} k=${i}`])
    }
  })
}

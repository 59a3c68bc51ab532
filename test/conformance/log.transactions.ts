/** Transactions: all or nothing, over all their partitions, in the order they were committed. */
import { expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { append, codeOf, linesOf, p0, p1, readAll, settled } from './log.ts'

export function transactionConformance(
  current: () => EventLog,
  reopen: () => Promise<void>,
  isExact: () => boolean,
): void {
  orderFacts(current, reopen, isExact)
  atomicityFacts(current, isExact)
  failureFacts(current, reopen)
  refusalFacts(current)
  exclusiveFacts(current)
}

function exclusiveFacts(current: () => EventLog): void {
  test('who writes under a name is replaced by the next, and all it committed is there', async () => {
    const first = await current().exclusive('conformance-writer')
    const transaction = first.begin()
    transaction.append(p0, batchOf('a=1'))
    const [receipt] = await transaction.commit()
    const second = await current().exclusive('conformance-writer')
    const [{ highWatermark }] = await current().offsets([p0])
    expect(highWatermark).toBeGreaterThanOrEqual(receipt!.nextOffset)
    for (let attempt = 0; attempt < 2; attempt++) {
      const late = first.begin()
      late.append(p0, batchOf('b=2'))
      expect(await codeOf(() => late.commit())).toBe('WRITER_REPLACED')
    }
    const other = await current().exclusive('conformance-other')
    for (const writer of [other, second]) {
      const own = writer.begin()
      own.append(p0, batchOf('c=3'))
      await own.commit()
    }
    const lines = await readAll(current(), p0)
    expect(lines.map(line => line.replace(/^\d+ /, ''))).toEqual(['a=1', 'c=3', 'c=3'])
    for (const writer of [first, second, other]) await writer.close()
  })
}

function atomicityFacts(current: () => EventLog, isExact: () => boolean): void {
  test('a transaction is seen whole or not at all, over all its partitions', async () => {
    let writing = true
    const writer = (async () => {
      for (let i = 0; i < 200; i++) {
        const transaction = current().begin()
        transaction.append(p0, batchOf(`k=${i}`, `l=${i}`))
        transaction.append(p1, batchOf(`k=${i}`, `l=${i}`))
        await transaction.commit()
        if (i % 10 === 0) await new Promise(resolve => setImmediate(resolve))
      }
      writing = false
    })()
    let seen = 0
    while (writing) {
      const requests = [p0, p1].map(target => ({ ...target, offset: 0, bytesMax: 1e6 }))
      const [a, b] = await current().fetch(requests)
      for (const { bytes } of [a, b]) expect(pairs(bytes).length % 2).toBe(0)
      if (isExact()) {
        expect(pairs(a.bytes)).toEqual(pairs(b.bytes))
        expect(a.endOffset).toBe(b.endOffset)
        const [c, d] = await current().offsets([p0, p1])
        expect(c.endOffset).toBe(d.endOffset)
      }
      seen++
      if (seen % 5 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    await writer
    expect(seen).toBeGreaterThan(5)
    const texts = (lines: readonly string[]) => lines.map(line => line.replace(/^\d+ /, ''))
    const [a, b] = [await readAll(current(), p0), await readAll(current(), p1)]
    expect(texts(a)).toEqual(texts(b))
    expect(a).toHaveLength(400)
  })
}

function failureFacts(current: () => EventLog, reopen: () => Promise<void>): void {
  test('nothing of an aborted transaction is ever seen', async () => {
    const transaction = current().begin()
    transaction.append(p0, batchOf('a=1'))
    await transaction.abort()
    const receipt = await append(current(), p0, 'b=2')
    await reopen()
    expect(await readAll(current(), p0)).toEqual(linesOf(receipt, 'b=2'))
  })

  test('one bad append spoils its transaction and no other', async () => {
    const good = append(current(), p0, 'a=1')
    const bad = current().begin()
    bad.append(p0, batchOf('b=2'))
    bad.append({ topic: 'absent', partition: 0 }, batchOf('c=3'))
    const commit = codeOf(() => bad.commit())
    const after = append(current(), p0, 'd=4')
    expect(await commit).toBe('TOPIC_MISSING')
    const [first, second] = await Promise.all([good, after])
    const expected = [...linesOf(first, 'a=1'), ...linesOf(second, 'd=4')]
    expect(await readAll(current(), p0)).toEqual(expected)
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

function orderFacts(
  current: () => EventLog,
  reopen: () => Promise<void>,
  isExact: () => boolean,
): void {
  test('offsets are given in order and told to the committer', async () => {
    const transaction = current().begin()
    transaction.append(p0, batchOf('a=1', 'b=2'))
    transaction.append(p1, batchOf('c=3'))
    transaction.append(p0, Buffer.concat([batchOf('d=4'), batchOf('e=5', 'f=6')]))
    expect(await transaction.commit()).toMatchObject([
      { ...p0, baseOffset: 0, nextOffset: 2 },
      { ...p1, baseOffset: 0, nextOffset: 1 },
      { ...p0, baseOffset: 2, nextOffset: 5 },
    ])
    const expected = ['0 a=1', '1 b=2', '2 d=4', '3 e=5', '4 f=6']
    expect(await readAll(current(), p0)).toEqual(expected)
    await reopen()
    expect(await readAll(current(), p0)).toEqual(expected)
    const receipt = await append(current(), p0, 'g=7')
    expect(receipt.nextOffset).toBe(receipt.baseOffset + 1)
    expect(receipt.baseOffset).toBeGreaterThanOrEqual(5)
    if (isExact()) expect(receipt.baseOffset).toBe(5)
    expect(await readAll(current(), p0)).toEqual([...expected, ...linesOf(receipt, 'g=7')])
  })

  test('a hundred appends at once get offsets in the order they were called', async () => {
    const receipts = await Promise.all(
      Array.from({ length: 100 }, (_, i) => append(current(), p0, `k=${i}`, `l=${i}`)),
    )
    const bases = receipts.map(receipt => receipt.baseOffset)
    expect(bases).toEqual(bases.toSorted((a, b) => a - b))
    if (isExact()) expect(bases).toEqual(Array.from({ length: 100 }, (_, i) => 2 * i))
    const expected = receipts.flatMap((receipt, i) => linesOf(receipt, `k=${i}`, `l=${i}`))
    expect(await readAll(current(), p0)).toEqual(expected)
  })

  test('commits at once keep the order of the calls, whatever each of them writes to', async () => {
    const receipts = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const transaction = current().begin()
        // Those that are looked into longer must not be overtaken.
        for (let j = i % 4; j > 0; j--) transaction.append(p1, batchOf(`p=${i}`))
        transaction.append(p0, batchOf(`k=${i}`))
        return (await transaction.commit()).at(-1)!
      }),
    )
    const expected = receipts.flatMap((receipt, i) => linesOf(receipt, `k=${i}`))
    expect(await readAll(current(), p0)).toEqual(expected)
  })

  test('what was acknowledged is visible', async () => {
    for (let i = 0; i < 20; i++) {
      const receipt = await append(current(), p0, `k=${i}`)
      const ranges = isExact() ? await current().offsets([p0]) : await settled(current(), p0)
      const [{ startOffset, endOffset, highWatermark }] = ranges
      expect([startOffset, highWatermark]).toEqual([0, endOffset])
      expect(endOffset).toBeGreaterThanOrEqual(receipt.nextOffset)
      if (isExact()) expect(endOffset).toBe(receipt.nextOffset)
      const lines = await readAll(current(), p0, receipt.baseOffset)
      expect(lines).toEqual(linesOf(receipt, `k=${i}`))
    }
  })
}

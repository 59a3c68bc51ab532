/** Groups, their offsets, and the state that a transaction carries. */
import { expect, test } from 'vitest'
import type { EventLog } from '../../log/port.ts'
import { batchOf } from '../log/batches.ts'
import { append, codeOf, p0, p1, readAll } from './log.ts'

/** Kafka's coordinator learns of a topic's end after its leaders. */
const eventually = { timeout: 30_000 }

const at = (offset: number, metadata = '') => ({ topic: 'orders', partition: 0, offset, metadata })

export function groupConformance(current: () => EventLog, reopen: () => Promise<void>): void {
  offsetFacts(current, reopen)
  groupFacts(current)
}

function offsetFacts(current: () => EventLog, reopen: () => Promise<void>): void {
  test('offsets are committed with their transaction and survive', async () => {
    const transaction = current().begin()
    transaction.append(p1, batchOf('a=1'))
    await transaction.commit({ group: 'g', offsets: [at(7, 'ü'.repeat(2048))] })
    expect(await current().committed('g', [p1, p0])).toEqual([null, at(7, 'ü'.repeat(2048))])
    await reopen()
    expect(await current().committed('g', [p0])).toEqual([at(7, 'ü'.repeat(2048))])
    expect(await current().committed('other', [p0])).toEqual([null])
  })

  test('offsets alone are a transaction, and the last one counts', async () => {
    for (const offset of [5, 9, 2]) {
      await current()
        .begin()
        .commit({ group: 'g', offsets: [at(offset)] })
    }
    expect(await current().committed('g', [p0])).toEqual([at(2)])
  })

  test('neither offsets nor records of a failed transaction are kept', async () => {
    const transaction = current().begin()
    transaction.append({ topic: 'absent', partition: 0 }, batchOf('a=1'))
    await codeOf(() => transaction.commit({ group: 'g', offsets: [at(1)] }))
    const missing = { topic: 'absent', partition: 0, offset: 1, metadata: '' }
    const second = current().begin()
    second.append(p0, batchOf('a=1'))
    const commit = () => second.commit({ group: 'g', offsets: [missing] })
    expect(await codeOf(commit)).toBe('TOPIC_MISSING')
    expect(await current().committed('g', [p0])).toEqual([null])
    expect(await readAll(current(), p0)).toEqual([])
  })
}

function groupFacts(current: () => EventLog): void {
  test('groups are listed, by name', async () => {
    const names = ['zeta', 'a', 'alpha', 'ü']
    for (const group of names)
      await current()
        .begin()
        .commit({ group, offsets: [at(1)] })
    await expect.poll(() => current().listGroups()).toEqual(['a', 'alpha', 'zeta', 'ü'])
    expect(await current().committed('a', [p0])).toEqual([at(1)])
  })

  test('a group needs a name', async () => {
    const commit = () =>
      current()
        .begin()
        .commit({ group: '', offsets: [at(1)] })
    expect(await codeOf(commit)).toBe('GROUP_INVALID')
  })

  test('the offsets of a topic go with it', async () => {
    await current()
      .begin()
      .commit({ group: 'g', offsets: [at(1)] })
    await current().deleteTopic('orders')
    await current().createTopic('orders', 2)
    await expect.poll(() => current().committed('g', [p0]), eventually).toEqual([null])
    await expect.poll(() => current().listGroups(), eventually).toEqual([])
  })

  test('the state of a transaction is written once, with the offsets it was given', async () => {
    await append(current(), p0, 'a=1')
    const seen: unknown[] = []
    const transaction = current().begin()
    transaction.append(p0, batchOf('b=2', 'c=3'))
    transaction.append(p1, batchOf('d=4'))
    const receipts = await transaction.commit({ state: given => seen.push(given) })
    expect(seen).toEqual([receipts])
    expect(receipts.map(({ topic, partition }) => ({ topic, partition }))).toEqual([p0, p1])
    expect(receipts[0].baseOffset).toBeGreaterThan(0)
    expect(receipts[1].baseOffset).toBe(0)
  })
}

/** What a log forgets: deleted records, retention, compaction. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { EventLog, TopicPartition } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { batchOf, makeBatch, pairs } from '../log/batches.ts'
import { append, codeOf, linesOf, p0, readAll, settled } from './log.ts'

type Maintain = (nowMs: number) => Promise<void>
const table: TopicPartition = { topic: 'table', partition: 0 }

/** The table that a reader folds out of `0 a=1` lines. */
function fold(lines: readonly string[]): Record<string, string> {
  const rows = new Map<string, string>()
  for (const line of lines) {
    const [key, value] = line.slice(line.indexOf(' ') + 1).split('=')
    if (value === '') rows.delete(key)
    else rows.set(key, value)
  }
  return Object.fromEntries([...rows].sort())
}

/** Retention and compaction as of a time that the caller says. */
export function cleaningConformance(
  current: () => EventLog,
  reopen: () => Promise<void>,
  maintain: Maintain,
): void {
  describe('cleaning by the clock', () => {
    retentionFacts(current, maintain, reopen)
    compactionFacts(current, maintain, reopen)
    compactionLaw(current, maintain)
  })
}

export function deletionConformance(current: () => EventLog, reopen: () => Promise<void>): void {
  test('deleted records are gone, those after them keep their offsets', async () => {
    await append(current(), p0, 'a=1', 'b=2')
    const second = await append(current(), p0, 'c=3', 'd=4')
    const third = await append(current(), p0, 'e=5')
    const [, d] = linesOf(second, 'c=3', 'd=4')
    const [{ endOffset }] = await settled(current(), p0)
    const startOffset = second.baseOffset + 1
    await current().deleteRecords(p0, startOffset)
    expect(await current().offsets([p0])).toMatchObject([{ startOffset, endOffset }])
    expect(await readAll(current(), p0, startOffset)).toEqual([d, ...linesOf(third, 'e=5')])
    await current().deleteRecords(p0, 1)
    await reopen()
    expect(await current().offsets([p0])).toMatchObject([{ startOffset, endOffset }])
    expect(await readAll(current(), p0, third.baseOffset)).toEqual(linesOf(third, 'e=5'))
  })

  test('a partition emptied whole goes on where it ended, also after reopening', async () => {
    await append(current(), p0, 'a=1', 'b=2')
    const [{ endOffset }] = await settled(current(), p0)
    await current().deleteRecords(p0, endOffset)
    await reopen()
    expect(await current().offsets([p0])).toMatchObject([{ startOffset: endOffset, endOffset }])
    const receipt = await append(current(), p0, 'c=3')
    expect(receipt.baseOffset).toBe(endOffset)
    expect(await readAll(current(), p0, endOffset)).toEqual(linesOf(receipt, 'c=3'))
  })

  test('more than there is cannot be deleted', async () => {
    await append(current(), p0, 'a=1')
    const [{ endOffset }] = await settled(current(), p0)
    for (const offset of [endOffset + 1, -1]) {
      expect(await codeOf(() => current().deleteRecords(p0, offset))).toBe('OFFSET_OUT_OF_RANGE')
    }
    expect(await readAll(current(), p0)).toEqual(['0 a=1'])
  })
}

function retentionFacts(
  current: () => EventLog,
  maintain: Maintain,
  reopen: () => Promise<void>,
): void {
  const fill = async (topic: string, retentionMs?: number) => {
    await current().createTopic(topic, 1, { retentionMs })
    for (const timestampMs of [1000, 2000, 1500, 3000]) {
      const transaction = current().begin()
      transaction.append({ topic, partition: 0 }, makeBatch([{ timestampMs, key: 'k' }]))
      await transaction.commit()
    }
  }

  test('records leave by their own time, from the start on, never past a younger one', async () => {
    await fill('short', 1000)
    const short = { topic: 'short', partition: 0 }
    const start = async () => (await current().offsets([short]))[0].startOffset
    await maintain(2000)
    expect(await start()).toBe(0)
    await maintain(2001)
    expect(await start()).toBe(1)
    await maintain(3001)
    expect(await start()).toBe(3)
    await maintain(9000)
    expect(await current().offsets([short])).toMatchObject([{ startOffset: 4, endOffset: 4 }])
    await reopen()
    expect(await append(current(), short, 'k=5')).toMatchObject({ baseOffset: 4 })
  })

  test('by default nothing ever leaves', async () => {
    await fill('kept')
    await maintain(Number.MAX_SAFE_INTEGER)
    const kept = { topic: 'kept', partition: 0 }
    expect(await current().offsets([kept])).toMatchObject([{ startOffset: 0, endOffset: 4 }])
  })
}

function compactionFacts(
  current: () => EventLog,
  maintain: Maintain,
  reopen: () => Promise<void>,
): void {
  const fill = async (...batches: string[][]) => {
    await current().createTopic('table', 1, { cleanup: 'compact', deleteRetentionMs: 1000 })
    for (const batch of batches) await append(current(), table, ...batch)
  }

  test('the last record of each key stays, with its offset', async () => {
    await fill(['a=1', 'b=1'], ['a=2'], ['c=1', 'a=3'], ['z=9'])
    await maintain(0)
    expect(await readAll(current(), table)).toEqual(['1 b=1', '3 c=1', '4 a=3', '5 z=9'])
    await reopen()
    expect(await readAll(current(), table)).toEqual(['1 b=1', '3 c=1', '4 a=3', '5 z=9'])
    expect(await current().offsets([table])).toMatchObject([{ startOffset: 0, endOffset: 6 }])
  })

  test('a reader passes over what is gone, at every offset', async () => {
    await fill(['a=1'], ['a=2'], ['a=3', 'b=1', 'a=4'], ['z=9'])
    await maintain(0)
    const expected = ['3 b=1', '4 a=4', '5 z=9']
    for (let offset = 0; offset < 6; offset++) {
      const rest = expected.filter(line => Number(line[0]) >= offset)
      expect(await readAll(current(), table, offset, 1)).toEqual(rest)
    }
  })

  test('the newest batch is not touched', async () => {
    await fill(['a=1', 'a=2', 'a=3'])
    await maintain(0)
    expect(await readAll(current(), table)).toHaveLength(3)
  })

  test('a tombstone is seen for its time after the first pass, then goes', async () => {
    await fill(['a=1', 'b=1'], ['a='], ['z=9'])
    await maintain(5000)
    expect(await readAll(current(), table)).toEqual(['1 b=1', '2 a=', '3 z=9'])
    await append(current(), table, 'y=1', 'x=1')
    await append(current(), table, 'y=2', 'x=2')
    await append(current(), table, 'z=10')
    await maintain(5999)
    expect(await readAll(current(), table)).toContain('2 a=')
    for (const value of ['3', '4', '5', '6']) await append(current(), table, `y=${value}`)
    await append(current(), table, 'z=11')
    await maintain(6000)
    expect(await readAll(current(), table)).not.toContain('2 a=')
    expect(fold(await readAll(current(), table))).toMatchObject({ b: '1', y: '6', z: '11' })
  })

  test('records without a key stay', async () => {
    await fill(['a=1'])
    const transaction = current().begin()
    transaction.append(table, makeBatch([{ value: 'n' }, { value: 'm' }]))
    await transaction.commit()
    await append(current(), table, 'a=2')
    await append(current(), table, 'z=9')
    await maintain(0)
    const [{ bytes }] = await current().fetch([{ ...table, offset: 0, bytesMax: 1e6 }])
    const offsets = decodeBatches(bytes).runs.flatMap(run => [...run.offsets])
    expect(offsets).toEqual([1, 2, 3, 4])
  })
}

function compactionLaw(current: () => EventLog, maintain: Maintain): void {
  const pair = fc
    .tuple(
      fc.constantFrom('a', 'b', 'c', 'd', 'e', '__proto__'),
      fc.constantFrom('', '1', '2', '3'),
    )
    .map(([key, value]) => `${key}=${value}`)
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.array(pair, { minLength: 1, maxLength: 5 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 5000 }) },
  )

  test('the folded log is the same whatever is compacted when', async () => {
    let run = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), async steps => {
        const topic = `folded-${run++}`
        const target = { topic, partition: 0 }
        await current().createTopic(topic, 1, { cleanup: 'compact', deleteRetentionMs: 1000 })
        const all: string[] = []
        let nowMs = 0
        for (const each of steps) {
          if (typeof each === 'number') {
            await maintain((nowMs += each))
            continue
          }
          const { baseOffset } = await append(current(), target, ...each)
          all.push(
            ...pairs(batchOf(...each)).map(line => line.replace(/^\d+/, n => `${+n + baseOffset}`)),
          )
        }
        await maintain(nowMs)
        const left = await readAll(current(), target)
        expect(fold(left)).toEqual(fold(all))
        // Nothing is moved, made up or reordered.
        expect(all.filter(line => left.includes(line))).toEqual(left)
        expect((await current().offsets([target]))[0].endOffset).toBe(all.length)
        await current().deleteTopic(topic)
      }),
      { seed: 7, numRuns: 40 },
    )
  }, 60_000)
}

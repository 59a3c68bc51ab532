/**
 * What every event log does: the facts of the port, run against each driver. Here are those of
 * topics; the `log.*.ts` beside it hold the others.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AppendReceipt, EventLog, OffsetRange, TopicPartition } from '../../log/port.ts'
import { batchOf, pairs } from '../log/batches.ts'
import { cleaningConformance, deletionConformance } from './log.cleanup.ts'
import { fetchConformance } from './log.fetch.ts'
import { groupConformance } from './log.groups.ts'
import { transactionConformance } from './log.transactions.ts'

/** A log and what the suite needs around it. */
export interface LogUnderTest {
  readonly log: EventLog
  /** The same data again, after `log` was closed. */
  reopen(): Promise<LogUnderTest>
  /**
   * What a log of one process can promise: no offset is left out, a commit is visible once it is
   * acknowledged, and all partitions are read at one moment. Kafka spends offsets on markers and
   * writes them after the acknowledgement, each partition for itself.
   */
  readonly isExact: boolean
  /** Retention and compaction as of `nowMs`, where the caller's clock rules them. */
  readonly maintain?: (nowMs: number) => Promise<void>
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

/** The lines that `readAll` gives for an append. */
export function linesOf({ baseOffset }: AppendReceipt, ...texts: readonly string[]): string[] {
  return texts.map((text, i) => `${baseOffset + i} ${text}`)
}

/** Everything from `offset` to the high watermark, a fetch at a time. */
export async function readAll(log: EventLog, target: TopicPartition, offset = 0, bytesMax = 1e6) {
  const lines: string[] = []
  const [{ highWatermark }] = await log.offsets([target])
  for (let from = offset; from < highWatermark; ) {
    const request = { ...target, offset: from, bytesMax }
    const [response] = await log.fetch([request], { waitMsMax: 30_000 })
    expect(response.error).toBeUndefined()
    lines.push(...pairs(response.bytes, { fromOffset: from }))
    expect(response.nextOffset).toBeGreaterThan(from)
    from = response.nextOffset
  }
  return lines
}

/** The bounds of partitions once no transaction is open any more. */
export async function settled(
  log: EventLog,
  ...targets: readonly TopicPartition[]
): Promise<readonly OffsetRange[]> {
  for (;;) {
    const ranges = await log.offsets(targets)
    if (ranges.every(({ endOffset, highWatermark }) => endOffset === highWatermark)) return ranges
    await new Promise(resolve => setImmediate(resolve))
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

/** Without `cleansByClock` a log cleans by its own clock, and what is due when is not asserted. */
export function logConformance(
  name: string,
  openLog: () => Promise<LogUnderTest>,
  { cleansByClock = true }: { cleansByClock?: boolean } = {},
): void {
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

    const current = () => log
    topicFacts(current, reopen)
    transactionConformance(current, reopen, () => subject.isExact)
    fetchConformance(current)
    groupConformance(current, reopen)
    deletionConformance(current, reopen)
    if (cleansByClock) cleaningConformance(current, reopen, nowMs => subject.maintain!(nowMs))
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

  test('topics created before and after reopening do not mix', async () => {
    await reopen()
    await current().createTopic('second', 1)
    const second = { topic: 'second', partition: 0 }
    await append(current(), p0, 'a=1')
    await append(current(), second, 'b=2')
    expect(await readAll(current(), p0)).toEqual(['0 a=1'])
    expect(await readAll(current(), second)).toEqual(['0 b=2'])
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

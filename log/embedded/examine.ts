/**
 * Reads everything of an embedded log and says what is wrong with it: every batch's frame, CRC
 * and records, the offsets from one batch to the next, the rows beside them. Changes nothing, and
 * goes on behind what cannot be read.
 */
import type { Database, Entry } from '../database.ts'
import { reasonOf } from '../errors.ts'
import type { TopicConfig } from '../port.ts'
import { batchEnd } from '../record-batch.ts'
import { decodeBatches } from '../record-columns.ts'
import { topicConfig } from '../topics.ts'
import * as keys from './keys.ts'

export interface ExaminedTopic {
  readonly name: string
  readonly row: keys.TopicRow
}

export interface PartitionReport {
  readonly topic: string
  readonly partition: number
  readonly id: keys.PartitionId
  readonly config: TopicConfig
  /** Records that could be read. */
  records: number
  /** Bounds as readers of the log see them. */
  startOffset: number
  endOffset: number
  /** Where the part ends that is whole from the start on; the end offset when all is. */
  soundTo: number
  readonly problems: string[]
  /** Stretches that the database could not read; the last may go on to the end. */
  readonly unreadable: { readonly from: number; readonly to: number | undefined }[]
}

export interface GroupReport {
  readonly group: string
  readonly id: keys.PartitionId
  readonly offset: number
  readonly metadata: string
}

export interface LogReport {
  readonly topics: readonly ExaminedTopic[]
  readonly partitions: readonly PartitionReport[]
  readonly groups: readonly GroupReport[]
  /** Damage of rows that belong to no partition. */
  readonly problems: readonly string[]
  /** False when topics may be missing here: the rows that name them could not all be read. */
  readonly topicsWhole: boolean
  /** Likewise for `groups`. */
  readonly groupsWhole: boolean
  /** False where no embedded log ever was: its database holds the state of a log elsewhere. */
  readonly isThere: boolean
}

type ExamineProgress = (topic: string, partition: number, records: number) => void

export interface ExamineOptions {
  readonly onProgress: ExamineProgress
  /**
   * Which topic a batch belongs to, if it tells: asked for batches of topics whose names could not
   * be read. A topic that nobody knows is left out of the report.
   */
  readonly recognize: (batch: Buffer) => RecognizedTopic | undefined
}

export interface RecognizedTopic {
  readonly name: string
  /** At least so many. */
  readonly partitions: number
  readonly id: string
}

export async function examineLog(
  database: Database,
  { onProgress, recognize }: ExamineOptions,
): Promise<LogReport> {
  const problems: string[] = []
  const topics: ExaminedTopic[] = []
  const topicsWhole = await readAll(database, keys.topicRange, problems, ({ key, value }) => {
    const name = keys.topicKeyName(key)
    topics.push({ name, row: keys.decodeJson<keys.TopicRow>(value, `topic ${name}`) })
  })
  if (!topicsWhole) topics.push(...(await findTopics(database, topics, recognize)))
  const groups: GroupReport[] = []
  const groupsWhole = await readAll(database, keys.groupRange, problems, ({ key, value }) => {
    const { group, ...id } = keys.parseGroupKey(key)
    groups.push({ group, id, ...keys.decodeGroupOffset(value) })
  })
  const isThere = await readIncarnation(database, problems)
  const partitions: PartitionReport[] = []
  for (const topic of topics) {
    for (let partition = 0; partition < topic.row.partitions; partition++) {
      partitions.push(await examinePartition(database, topic, partition, onProgress))
    }
  }
  problems.push(...groupProblems(groups, topics, partitions))
  return { topics, partitions, groups, problems, topicsWhole, groupsWhole, isThere }
}

const UNREADABLE_TOPICS_MAX = 64

/** Records are stored by the number of their topic: those of no known topic may tell its name. */
async function findTopics(
  database: Database,
  known: readonly ExaminedTopic[],
  recognize: ExamineOptions['recognize'],
): Promise<ExaminedTopic[]> {
  const found: ExaminedTopic[] = []
  const lt = keys.batchKey({ topic: 0xffff_ffff, partition: 0 }, 0)
  let failures = 0
  for (let topic = 1; failures < UNREADABLE_TOPICS_MAX; topic++) {
    try {
      const gte = keys.batchKey({ topic, partition: 0 }, 0)
      let entry: Entry | undefined
      for await (const entries of database.scan({ gte, lt, limit: 1 })) [entry] = entries
      if (entry === undefined) break
      topic = keys.batchKeyId(entry.key).topic
      if ([...known, ...found].some(({ row }) => row.topic === topic)) continue
      const named = recognize(entry.value)
      if (named === undefined || [...known, ...found].some(t => t.name === named.name)) continue
      const partitions = Math.max(named.partitions, await partitionsOf(database, topic))
      const config = topicConfig({ retentionMs: -1 })
      found.push({ name: named.name, row: { topic, id: named.id, partitions, config } })
    } catch {
      failures++
    }
  }
  return found
}

async function partitionsOf(database: Database, topic: number): Promise<number> {
  const gte = keys.batchKey({ topic, partition: 0 }, 0)
  const lt = keys.batchKey({ topic: topic + 1, partition: 0 }, 0)
  for await (const [last] of database.scan({ gte, lt, limit: 1, reverse: true })) {
    return keys.batchKeyId(last!.key).partition + 1
  }
  return 0
}

/** Hands over a range's entries. False, with the reason noted, when some are unreadable. */
async function readAll(
  database: Database,
  range: keys.KeyRange,
  problems: string[],
  take: (entry: Entry) => void,
): Promise<boolean> {
  let whole = true
  try {
    for await (const entries of database.scan(range)) {
      for (const entry of entries) whole = attempt(problems, () => take(entry)) && whole
    }
    return whole
  } catch (error) {
    problems.push(reasonOf(error))
    return false
  }
}

function attempt(problems: string[], work: () => void): boolean {
  try {
    work()
    return true
  } catch (error) {
    problems.push(reasonOf(error))
    return false
  }
}

async function readIncarnation(database: Database, problems: string[]): Promise<boolean> {
  try {
    const [value] = await database.getMany([keys.incarnationKey])
    if (!value) return false
    keys.decodeJson<keys.IncarnationRow>(value, 'the incarnation')
    const [counter] = await database.getMany([keys.topicCounterKey])
    if (counter) keys.decodeCounter(counter)
  } catch (error) {
    problems.push(reasonOf(error))
  }
  return true
}

async function examinePartition(
  database: Database,
  { name, row }: ExaminedTopic,
  partition: number,
  onProgress: ExamineProgress,
): Promise<PartitionReport> {
  const id = { topic: row.topic, partition }
  const problems: string[] = []
  const start = { startOffset: 0 }
  await readRow(database, keys.partitionRowKey(id), problems, value => {
    start.startOffset = keys.decodePartition(value).startOffset
  })
  const { startOffset } = start
  const report: PartitionReport = {
    topic: name,
    partition,
    id,
    config: row.config,
    records: 0,
    startOffset,
    endOffset: startOffset,
    soundTo: startOffset,
    problems,
    unreadable: [],
  }
  const walk = new BatchWalk(report)
  for (let gte = keys.batchKey(id, 0); ; ) {
    const failed = await walk.read(database, gte, () => onProgress(name, partition, report.records))
    if (failed === undefined) break
    const next = await nextReadable(database, id, walk.expected ?? startOffset)
    walk.unreadable(failed, next)
    if (next === undefined) break
    gte = keys.batchKey(id, next)
  }
  walk.end()
  await readAll(database, keys.timeRange(id), problems, ({ key, value }) => {
    keys.timeKeyTimestamp(key)
    value.readBigInt64BE(0)
  })
  return report
}

async function readRow(
  database: Database,
  key: Buffer,
  problems: string[],
  take: (value: Buffer | null) => void,
): Promise<void> {
  try {
    const [value] = await database.getMany([key])
    take(value ?? null)
  } catch (error) {
    problems.push(reasonOf(error))
  }
}

/** Follows the batches of a partition in order, and notes what does not fit. */
class BatchWalk {
  readonly #report: PartitionReport
  /** Where the next batch begins; undefined before the first. */
  expected: number | undefined
  #sound = true

  constructor(report: PartitionReport) {
    this.#report = report
  }

  /** Reads on to the end. Resolves with the error that stopped it, if one did. */
  async read(database: Database, gte: Buffer, progress: () => void): Promise<unknown> {
    const lt = keys.batchKey(this.#report.id, keys.OFFSET_END)
    try {
      for await (const entries of database.scan({ gte, lt })) {
        for (const entry of entries) this.#take(entry)
        progress()
      }
      return undefined
    } catch (error) {
      return error
    }
  }

  #take({ key, value }: Entry): void {
    const report = this.#report
    const offset = keys.batchKeyOffset(key)
    const expected = this.expected ?? report.startOffset
    const isFirst = this.expected === undefined
    // Compaction leaves gaps; the first batch may begin before what retention has left.
    const isGap = offset > expected && report.config.cleanup !== 'compact'
    if (isGap) this.#problem(expected, `nothing at offsets ${expected} to ${offset - 1}`)
    if (!isFirst && offset < expected) {
      this.#problem(offset, `offset ${offset} is there twice`)
    }
    try {
      if (batchEnd(value, 0) !== value.length) throw new Error('it is cut off')
      const { batches, runs } = decodeBatches(value)
      const [header] = batches
      if (header!.baseOffset !== offset) throw new Error('another batch is in its place')
      for (const { length } of runs) report.records += length
      this.expected = Math.max(expected, header!.nextOffset)
    } catch (error) {
      this.#problem(offset, `the batch at offset ${offset}: ${reasonOf(error)}`)
      this.expected = Math.max(expected, offset + 1)
    }
    if (this.#sound) report.soundTo = Math.max(this.expected, report.startOffset)
  }

  #problem(offset: number, text: string): void {
    this.#report.problems.push(text)
    if (this.#sound) this.#report.soundTo = Math.max(offset, this.#report.startOffset)
    this.#sound = false
  }

  unreadable(error: unknown, next: number | undefined): void {
    const from = this.expected ?? this.#report.startOffset
    this.#report.unreadable.push({ from, to: next })
    const to = next === undefined ? 'on' : `to ${next - 1}`
    this.#problem(from, `unreadable from offset ${from} ${to}: ${reasonOf(error)}`)
    if (next !== undefined) this.expected = next
  }

  end(): void {
    const report = this.#report
    report.endOffset = Math.max(this.expected ?? 0, report.startOffset)
    if (this.#sound) report.soundTo = report.endOffset
  }
}

/** A batch behind `from` from which on the partition can be read again, if there is one. */
async function nextReadable(
  database: Database,
  id: keys.PartitionId,
  from: number,
): Promise<number | undefined> {
  const lt = keys.batchKey(id, keys.OFFSET_END)
  const at = async (offset: number): Promise<number | undefined> => {
    for await (const [entry] of database.scan({ gte: keys.batchKey(id, offset), lt, limit: 1 })) {
      return keys.batchKeyOffset(entry!.key)
    }
    return undefined
  }
  let bad = from
  for (let step = 1; from + step < keys.OFFSET_END; step *= 2) {
    try {
      let found = await at(from + step)
      for (let good = from + step; good - bad > 1; ) {
        const middle = bad + Math.floor((good - bad) / 2)
        try {
          found = await at(middle)
          good = middle
        } catch {
          bad = middle
        }
      }
      return found
    } catch {
      bad = from + step
    }
  }
  return undefined
}

function groupProblems(
  groups: readonly GroupReport[],
  topics: readonly ExaminedTopic[],
  partitions: readonly PartitionReport[],
): string[] {
  const problems: string[] = []
  for (const { group, id, offset } of groups) {
    const name = topics.find(({ row }) => row.topic === id.topic)?.name
    const partition = partitions.find(
      report => report.id.topic === id.topic && report.partition === id.partition,
    )
    if (partition === undefined) {
      problems.push(`group ${group} has an offset of a partition that is not there`)
    } else if (offset > partition.endOffset) {
      problems.push(
        `group ${group} is at offset ${offset} of ${name}-${id.partition}, which ends at ${partition.endOffset}`,
      )
    }
  }
  return problems
}

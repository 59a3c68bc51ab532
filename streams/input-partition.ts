/**
 * One partition of a topic that a task reads: fetched columns waiting and the position reached.
 * What a record means is the subclass's: a source (`source-partition.ts`) or the far end of an
 * exchange (`exchange-partition.ts`).
 */
import type { ErrorDetails } from '../log/errors.ts'
import type { TopicPartition } from '../log/port.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import type { Batch } from './batch.ts'
import { type MillraceError, streamsError } from './errors.ts'
import type { StepsTowards } from './replay-steps.ts'
import type { RecordOrigin, Retries } from './retries.ts'
import type { Spans } from './spans.ts'
import type { NodeRuntime } from './task.ts'

/** Records at most in one batch: one task's turn, so that no partition starves the others. */
export const BATCH_RECORDS_MAX = 2000

export interface RejectedRecord {
  readonly columns: RecordColumns
  readonly row: number
  /** Of a replayed record that of the one that failed. */
  readonly offset: number
  readonly detail: string
  readonly error?: unknown
  readonly attempts?: number
  /** What it is for, where that is not the source: it was on its way there, replayed. */
  readonly step?: string | undefined
}

/** A batch of the log that cannot be read. */
export interface BrokenBatch {
  readonly bytes: Buffer
  readonly offset: number
  readonly detail: string
  readonly error: unknown
}

export interface TakeOptions {
  /** Records with a later timestamp stay for a later round. */
  readonly untilMs: number
  /** A timestamp beyond this is refused: it would close every window. */
  readonly latestMs: number
}

interface Waiting {
  readonly columns: RecordColumns | undefined
  readonly broken?: BrokenBatch
  readonly bytes: number
  nextOffset: number
}

export interface InputPartitionOptions extends TopicPartition {
  /** The node that takes the records. */
  readonly runtime: NodeRuntime
  readonly retries: Retries
  /** Steps that a replayed record passes, by the step that it is for. */
  readonly towards: StepsTowards
  /** Absent: nothing is traced. */
  readonly spans?: Spans | undefined
}

export abstract class InputPartition {
  readonly topic: string
  /** The topic for whose partition of the same number the position is committed. */
  readonly positions: string
  readonly partition: number
  /** The node that takes the records. */
  readonly runtime: NodeRuntime
  /** Offset of the next record to process: what an epoch commits. */
  position = 0
  /** What the last sealed epoch committed; undefined before the first. */
  committedOffset: number | undefined
  /** Up to where the last sealed epoch covers it; where it began before the first. */
  coveredOffset = 0
  /** Offset of the next record to fetch. */
  fetchOffset = 0
  endOffset = 0
  /** Wall time at which the log last said that there is nothing more. */
  confirmedMs = Number.NEGATIVE_INFINITY
  bufferedBytes = 0
  recordsRead = 0
  readonly retries: Retries
  protected readonly towards: StepsTowards
  readonly #spans: Spans | undefined
  readonly #queue: Waiting[] = []
  #cursor = 0

  constructor(options: InputPartitionOptions) {
    const { topic, partition, runtime, retries, towards, spans } = options
    const { node } = runtime
    this.topic = topic
    this.retries = retries
    this.towards = towards
    this.positions = (node.kind === 'source' ? node.positions : undefined) ?? topic
    this.partition = partition
    this.runtime = runtime
    // A copy's records are traced where they run themselves.
    if (node.copy !== true) this.#spans = spans
  }

  /** An empty batch for records of these columns. */
  protected abstract batchOf(columns: RecordColumns): Batch

  /** Adds record `row` of the batch's columns, or what it says. False: it is not for this batch. */
  protected abstract decode(batch: Batch, row: number, options: TakeOptions): boolean

  /** What a record is known by in `retries`; undefined of what is no record. */
  protected abstract originOf(columns: RecordColumns, row: number): RecordOrigin | undefined

  /** Tells of a batch that cannot be read. */
  protected abstract refuse(broken: BrokenBatch): void

  /** What to say when the log no longer has, or never had, the offset to fetch. */
  lost(details: ErrorDetails): MillraceError {
    return streamsError('OFFSET_LOST', details)
  }

  /** The branch that reads it. */
  get branch(): number {
    return this.runtime.node.branch ?? 0
  }

  /** Goes on at the log's start, its offset being gone; false where that would lose records. */
  beginAgain(_startOffset: number): boolean {
    return false
  }

  /** Hands the node a batch that `take` returned. */
  deliver(batch: Batch): void {
    this.runtime.receive(batch, 0)
  }

  get hasRecords(): boolean {
    return this.#queue.length > 0
  }

  /** How long the next record is not to be taken yet, as it has failed before, ms. */
  get heldMs(): number {
    const columns = this.#queue[0]?.columns
    return columns === undefined ? 0 : this.#heldMs(columns, this.#cursor)
  }

  #heldMs(columns: RecordColumns, row: number): number {
    if (!this.retries.any) return 0
    const origin = this.originOf(columns, row)
    return origin === undefined ? 0 : this.retries.heldMs(origin.source, origin.offset)
  }

  /** Everything in the log has been processed. */
  get atEnd(): boolean {
    return this.#queue.length === 0 && this.position >= this.endOffset
  }

  /** Offsets up to `nextOffset` hold no record for us: markers, aborted or broken batches. */
  skipTo(nextOffset: number): void {
    this.fetchOffset = nextOffset
    const last = this.#queue.at(-1)
    if (last === undefined) this.position = nextOffset
    else last.nextOffset = nextOffset
  }

  /** Takes fetched records; `nextOffset` is where the fetch goes on. */
  offer(columns: RecordColumns, nextOffset: number): void {
    this.fetchOffset = nextOffset
    const bytes = columns.bytes.length
    this.bufferedBytes += bytes
    this.#queue.push({ columns, nextOffset, bytes })
  }

  /** Takes a batch that cannot be read: it is refused when its turn comes. */
  offerBroken(broken: BrokenBatch, nextOffset: number): void {
    this.fetchOffset = nextOffset
    this.#queue.push({ columns: undefined, broken, nextOffset, bytes: 0 })
  }

  /** Drops what was fetched and goes back to an offset. */
  seek(offset: number): void {
    this.#queue.length = 0
    this.#cursor = 0
    this.bufferedBytes = 0
    this.position = offset
    this.fetchOffset = offset
  }

  /** Timestamp of the next record, or Infinity; a broken batch is due at once. */
  nextTimeMs(): number {
    const head = this.#queue[0]
    if (head === undefined) return Number.POSITIVE_INFINITY
    return head.columns?.timestamps[this.#cursor] ?? Number.NEGATIVE_INFINITY
  }

  /** The next records up to `untilMs`, decoded; undefined when there is none. */
  take(options: TakeOptions): Batch | undefined {
    const head = this.#queue[0]
    if (head === undefined || this.nextTimeMs() > options.untilMs) return undefined
    const { columns } = head
    if (columns === undefined) {
      this.refuse(head.broken!)
      this.#next(head)
      return undefined
    }
    const batch = this.batchOf(columns)
    const end = Math.min(columns.length, this.#cursor + BATCH_RECORDS_MAX)
    let row = this.#cursor
    const watches = this.retries.any
    for (; row < end && columns.timestamps[row]! <= options.untilMs; row++) {
      if (watches && this.#heldMs(columns, row) > 0) break
      if (!this.decode(batch, row, options)) break
      if (watches) this.#note(columns, row)
    }
    this.recordsRead += row - this.#cursor
    this.#cursor = row
    if (row < columns.length) this.position = columns.offsets[row]!
    else this.#next(head)
    const { topic, partition, endOffset, position } = this
    this.#spans?.read(batch, { topic, partition, lag: Math.max(endOffset - position, 0) })
    return batch
  }

  /** Batches of replayed records are for one step. False when this batch is not for it. */
  protected aim(batch: Batch, target: string | undefined): boolean {
    if (batch.target === target) return true
    if (batch.length > 0) return false
    batch.target = target
    return true
  }

  #note(columns: RecordColumns, row: number): void {
    const origin = this.originOf(columns, row)
    if (origin !== undefined) this.retries.take(origin.source, origin.offset)
  }

  #next(head: Waiting): void {
    this.position = head.nextOffset
    this.bufferedBytes -= head.bytes
    this.#queue.shift()
    this.#cursor = 0
  }
}

/**
 * One partition of a source topic, as this instance reads it: fetched columns waiting, the
 * position reached, its stream time and whether it is idle. A record that cannot be used is
 * dropped here with its reason: poison bytes, a missing, negative or far-future timestamp.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import { Batch } from './batch.ts'
import type { SourceNode } from './topology.ts'

/** Records at most in one batch: one task's turn, so that no partition starves the others. */
export const BATCH_RECORDS_MAX = 2000

export interface RejectedRecord {
  readonly columns: RecordColumns
  readonly row: number
  readonly detail: string
}

/** A batch of the log that cannot be read. */
export interface BrokenBatch {
  readonly bytes: Buffer
  readonly offset: number
  readonly detail: string
}

export interface TakeOptions {
  /** Records with a later timestamp stay for a later round. */
  readonly untilMs: number
  /** A timestamp beyond this is refused: it would close every window. */
  readonly latestMs: number
  readonly reject: (record: RejectedRecord) => void
  readonly rejectBatch: (batch: BrokenBatch) => void
}

interface Waiting {
  readonly columns: RecordColumns | undefined
  readonly broken?: BrokenBatch
  readonly bytes: number
  nextOffset: number
}

export class SourcePartition {
  /** Index in the engine's list: the `sources` column of batches. */
  readonly index: number
  readonly node: SourceNode
  readonly partition: number
  /** Offset of the next record to process: what an epoch commits. */
  position = 0
  /** Offset of the next record to fetch. */
  fetchOffset = 0
  endOffset = 0
  streamTimeMs = Number.NEGATIVE_INFINITY
  idle = false
  /** Wall time since which everything has been read; undefined while there is more. */
  atEndSinceMs: number | undefined
  /** Wall time at which the log last said that there is nothing more. */
  confirmedMs = Number.NEGATIVE_INFINITY
  bufferedBytes = 0
  recordsRead = 0
  readonly #queue: Waiting[] = []
  #cursor = 0

  constructor(index: number, node: SourceNode, partition: number) {
    this.index = index
    this.node = node
    this.partition = partition
  }

  get topic(): string {
    return this.node.topic
  }

  get hasRecords(): boolean {
    return this.#queue.length > 0
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

  /** Takes a batch that cannot be read: it is rejected when its turn comes. */
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
      options.rejectBatch(head.broken!)
      this.#next(head)
      return undefined
    }
    const batch = new Batch(columns, true)
    const end = Math.min(columns.length, this.#cursor + BATCH_RECORDS_MAX)
    let row = this.#cursor
    for (; row < end && columns.timestamps[row]! <= options.untilMs; row++) {
      this.#decode(batch, row, options)
    }
    this.recordsRead += row - this.#cursor
    this.#cursor = row
    if (row < columns.length) this.position = columns.offsets[row]!
    else this.#next(head)
    return batch
  }

  #next(head: Waiting): void {
    this.position = head.nextOffset
    this.bufferedBytes -= head.bytes
    this.#queue.shift()
    this.#cursor = 0
  }

  #decode(batch: Batch, row: number, { latestMs, reject }: TakeOptions): void {
    const { columns } = batch as { columns: RecordColumns }
    const timeMs = columns.timestamps[row]!
    if (timeMs < 0) {
      reject({ columns, row, detail: `timestamp ${timeMs} is missing or negative` })
      return
    }
    if (timeMs > latestMs) {
      reject({ columns, row, detail: `timestamp ${timeMs} is more than a day ahead of the clock` })
      return
    }
    let key: unknown
    let value: unknown
    try {
      const start = columns.keyStart[row]!
      key =
        start < 0
          ? null
          : this.node.key.decode(columns.bytes.latin1Slice(start, columns.keyEnd[row]!))
      const valueStart = columns.valueStart[row]!
      value =
        valueStart < 0
          ? null
          : this.node.value.decode(columns.bytes, valueStart, columns.valueEnd[row]!)
    } catch (error) {
      reject({ columns, row, detail: error instanceof Error ? error.message : String(error) })
      return
    }
    if (timeMs > this.streamTimeMs) this.streamTimeMs = timeMs
    batch.keys.push(key)
    batch.values.push(value)
    batch.times.push(timeMs)
    batch.streamTimes.push(this.streamTimeMs)
    batch.sources.push(this.index)
    batch.offsets.push(columns.offsets[row]!)
    batch.rows.push(row)
  }
}

/**
 * One partition of a source topic, as this instance reads it: its stream time and whether it is
 * idle. A record that cannot be used is refused here with its reason: poison bytes, a missing,
 * negative or far-future timestamp.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import { Batch } from './batch.ts'
import {
  type BrokenBatch,
  InputPartition,
  type RejectedRecord,
  type TakeOptions,
} from './input-partition.ts'
import type { NodeRuntime } from './task.ts'
import type { SourceNode } from './topology.ts'

/** What becomes of input that cannot be used. */
export interface Refusals {
  reject(source: SourcePartition, record: RejectedRecord): void
  rejectBatch(source: SourcePartition, batch: BrokenBatch): void
}

export interface SourcePartitionOptions {
  /** Place in the plan's list of origins: the `sources` column of batches. */
  readonly index: number
  readonly node: SourceNode
  readonly partition: number
  readonly runtime: NodeRuntime
  readonly refusals: Refusals
}

export class SourcePartition extends InputPartition {
  readonly index: number
  readonly node: SourceNode
  streamTimeMs = Number.NEGATIVE_INFINITY
  idle = false
  /** Wall time since which everything has been read; undefined while there is more. */
  atEndSinceMs: number | undefined
  readonly #refusals: Refusals

  constructor({ index, node, partition, runtime, refusals }: SourcePartitionOptions) {
    super(node.topic, partition, runtime)
    this.index = index
    this.node = node
    this.#refusals = refusals
  }

  /** Goes on at the committed event time (law 1). */
  resumeEventTime(): void {
    const { timeMs, idle } = this.runtime.watermark.input(0)
    this.streamTimeMs = timeMs
    this.idle = idle
  }

  override deliver(batch: Batch): void {
    this.idle = false
    this.atEndSinceMs = undefined
    super.deliver(batch)
    this.runtime.watermark.set(0, { timeMs: this.streamTimeMs, idle: false })
  }

  /** Nothing was ever read: what was deleted just now is as what was deleted before. */
  override beginAgain(startOffset: number): boolean {
    const isFresh = this.committedOffset === undefined && this.recordsRead === 0
    if (!isFresh || this.hasRecords || startOffset <= this.position) return false
    this.seek(startOffset)
    return true
  }

  becomeIdle(): void {
    this.idle = true
    this.runtime.watermark.set(0, { timeMs: this.streamTimeMs, idle: true })
  }

  protected override batchOf(columns: RecordColumns): Batch {
    return new Batch(columns, { rawKeys: this.node.key.name, rawValues: true })
  }

  protected override refuse(broken: BrokenBatch): void {
    if (this.node.copy !== true) this.#refusals.rejectBatch(this, broken)
  }

  protected override decode(batch: Batch, row: number, { latestMs }: TakeOptions): void {
    const { columns } = batch as { columns: RecordColumns }
    const timeMs = columns.timestamps[row]!
    if (timeMs < 0) {
      this.#reject(columns, row, `timestamp ${timeMs} is missing or negative`)
      return
    }
    if (timeMs > latestMs) {
      this.#reject(columns, row, `timestamp ${timeMs} is more than a day ahead of the clock`)
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
      this.#reject(columns, row, error instanceof Error ? error.message : String(error))
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

  #reject(columns: RecordColumns, row: number, detail: string): void {
    if (this.node.copy !== true) this.#refusals.reject(this, { columns, row, detail })
  }
}

/**
 * One partition of a source topic, as this instance reads it: its stream time and whether it is
 * idle. A record that cannot be used is refused here with its reason: poison bytes, a missing,
 * negative or far-future timestamp.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import type { Aside } from './aside.ts'
import { Batch } from './batch.ts'
import {
  type BrokenBatch,
  InputPartition,
  type RejectedRecord,
  type TakeOptions,
} from './input-partition.ts'
import { mayBeReplay, type ReplayTarget, replayTargetOf } from './replay-header.ts'
import { type StepsTowards, stepId, stepName, tells } from './replay-steps.ts'
import { type RecordOrigin, type Retries, RetryLater } from './retries.ts'
import type { Spans } from './spans.ts'
import type { NodeRuntime } from './task.ts'
import type { SourceNode } from './topology.ts'

interface SourceFailure {
  readonly error: unknown
  readonly timeMs: number
}

/** What becomes of input that cannot be used. */
export interface Refusals {
  /** Gives the number of attempts. Throws RetryLater when the record is to be tried again. */
  failed(source: SourcePartition, failure: RecordOrigin & SourceFailure): number
  reject(source: SourcePartition, record: RejectedRecord): void
  rejectBatch(source: SourcePartition, batch: BrokenBatch): void
}

interface UndecodedRecord {
  readonly error: unknown
  /** Of a replayed record the step that it is for. */
  readonly step: string | undefined
}

export interface SourcePartitionOptions {
  /** Place in the plan's list of origins: the `sources` column of batches. */
  readonly index: number
  readonly node: SourceNode
  readonly partition: number
  readonly runtime: NodeRuntime
  readonly refusals: Refusals
  readonly retries: Retries
  readonly towards: StepsTowards
  readonly aside: Aside
  /** Replayed records are for one application. */
  readonly application: string
  readonly spans?: Spans | undefined
}

export class SourcePartition extends InputPartition {
  readonly index: number
  readonly node: SourceNode
  streamTimeMs = Number.NEGATIVE_INFINITY
  idle = false
  /** Wall time since which everything has been read; undefined while there is more. */
  atEndSinceMs: number | undefined
  readonly #refusals: Refusals
  readonly #application: string
  readonly #aside: Aside

  constructor(options: SourcePartitionOptions) {
    const { index, node, refusals, application, aside } = options
    super({ topic: node.topic, ...options })
    this.#aside = aside
    this.index = index
    this.node = node
    this.#refusals = refusals
    this.#application = application
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
    this.runtime.beganAt = startOffset
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

  protected override originOf(columns: RecordColumns, row: number): RecordOrigin {
    const offset = this.#standsAt(columns.offsets[row]!, replayTargetOf(columns, row))
    return { source: this.index, offset }
  }

  /** Where the record is that it stands for: that which failed, if this branch has read that. */
  #standsAt(offset: number, replay: ReplayTarget | undefined): number {
    const { offset: original } = replay?.original ?? { offset }
    return original < (this.runtime.beganAt ?? 0) ? offset : original
  }

  protected override decode(batch: Batch, row: number, { latestMs }: TakeOptions): boolean {
    const { columns } = batch as { columns: RecordColumns }
    let target: string | undefined
    let offset = columns.offsets[row]!
    if (mayBeReplay(columns, row)) {
      const replay = replayTargetOf(columns, row)
      if (replay !== undefined && replay.application !== this.#application) return true
      // Older releases name a source as a step: nobody has had what it could not decode.
      const isOfSource = replay?.original === undefined && replay?.step === stepName(this.node)
      target = isOfSource ? undefined : replay?.step
      offset = this.#standsAt(offset, replay)
      if (target !== undefined && this.towards(target).nodes.size === 0) {
        const detail = 'the step that had put the record aside is not there any more'
        this.#reject({ columns, row, offset, detail, step: target })
        return true
      }
    }
    if (batch.target !== target && !this.aim(batch, target)) return false
    const timeMs = columns.timestamps[row]!
    if (timeMs < 0) {
      const detail = `timestamp ${timeMs} is missing or negative`
      this.#reject({ columns, row, offset, detail, step: target })
      return true
    }
    if (timeMs > latestMs) {
      const detail = `timestamp ${timeMs} is more than a day ahead of the clock`
      this.#reject({ columns, row, offset, detail, step: target })
      return true
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
      return this.#fail(columns, row, { error, step: target })
    }
    if (timeMs > this.streamTimeMs) this.streamTimeMs = timeMs
    batch.keys.push(key)
    batch.values.push(value)
    batch.times.push(timeMs)
    batch.streamTimes.push(this.streamTimeMs)
    batch.sources.push(this.index)
    batch.offsets.push(offset)
    batch.rows.push(row)
    return true
  }

  #reject(record: RejectedRecord): void {
    const { step } = record
    const own = stepId(this.node)
    if ((step ?? own) === own) this.#aside.put(own, { ...record, source: this.index })
    if (tells(this.node, this.towards, step)) this.#refusals.reject(this, record)
  }

  /** Nothing of the record has been processed: the partition waits, and its epoch goes on. */
  #fail(columns: RecordColumns, row: number, { error, step }: UndecodedRecord): boolean {
    const origin = this.originOf(columns, row)
    let attempts: number
    try {
      const timeMs = columns.timestamps[row]!
      attempts = this.#refusals.failed(this, { ...origin, timeMs, error })
    } catch (later) {
      if (later instanceof RetryLater) return false
      throw later
    }
    const detail = error instanceof Error ? error.message : String(error)
    this.#reject({ columns, row, offset: origin.offset, detail, error, attempts, step })
    return true
  }
}

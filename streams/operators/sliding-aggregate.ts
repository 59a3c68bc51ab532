/**
 * Aggregates the records of each key in sliding windows: those within a time difference.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   event time; windows `[t − d, t]` and, unless empty, `[t + 1, t + 1 + d]` of each record t
 * state  one row a (window start, key); the records that open windows need, a row a stretch of d
 * out    on update: the changed rows of a batch, once each; on close: each row once, final
 * late   when its own window's end + grace ≤ its stream time; later windows may still take it
 *
 * In `[start, end)` a window is `[s, s + d + 1)`. Which windows there are, and which records are
 * in them, follows from the records and their stream times alone: a record counts in every window
 * of its reach that was not closed at its own stream time, whoever defines it and when. Windows
 * are folded anew in the order of order keys, but for a record behind all others of its window.
 */

import { rowKeyOfWindow, windowKey, windowStartOf } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import { ChangedRows } from '../changed-rows.ts'
import { advanceInTurn, type Closing } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import {
  type OrderedRecord,
  orderedRecord,
  orderedRecordsCodec,
  recordsBetween,
  withRecord,
} from '../ordered-records.ts'
import { detach, type KeySerde, type Timed, timedCodec, type ValueSerde } from '../serde.ts'
import { WindowEnds } from '../window-ends.ts'
import { WindowExpiry } from '../window-expiry.ts'
import { lastWindowEnded, type SlidingWindows, windowed } from '../windows.ts'

export interface SlidingAggregateSpec {
  readonly name: string
  readonly windows: SlidingWindows
  readonly key: KeySerde<unknown>
  /** How records wait in the store until their windows are closed. */
  readonly value: ValueSerde<unknown>
  readonly initial: () => unknown
  readonly add: (aggregate: unknown, value: unknown, key: unknown) => unknown
  readonly codec: Codec<unknown>
  readonly emit: 'update' | 'close'
  /** How long after its end a window stays in the store, ms of event time; Infinity for ever. */
  readonly retentionMs: number
}

const recordStore = (spec: SlidingAggregateSpec) => `${spec.name}-records`

export function slidingAggregateStores(spec: SlidingAggregateSpec): StoreSpec[] {
  return [
    { kind: 'rows', name: spec.name, codec: timedCodec(spec.codec) },
    { kind: 'rows', name: recordStore(spec), codec: orderedRecordsCodec as Codec<unknown> },
  ]
}

export function slidingAggregate(spec: SlidingAggregateSpec, context: OperatorContext): Operator {
  return new SlidingAggregate(spec, context)
}

/** A record that may count; the note of `kept` is the first start of a window that takes it. */
interface Accepted {
  readonly record: number
  readonly key: RowKey
  readonly kept: OrderedRecord
}

class SlidingAggregate implements Operator {
  readonly #spec: SlidingAggregateSpec
  readonly #context: OperatorContext
  readonly #store: RowStore<Timed<unknown>>
  readonly #records: RowStore<readonly OrderedRecord[]>
  /** Windows as `[start, end)`, and stretches of records, have this size. */
  readonly #sizeMs: number
  #accepted: Accepted[] = []
  #late: number[] = []
  #unwritable: { record: number; error: unknown }[] = []
  readonly #ends: WindowEnds
  readonly #expiry: WindowExpiry

  constructor(spec: SlidingAggregateSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#store = context.rowStore(spec.name)
    this.#records = context.rowStore(recordStore(spec))
    this.#sizeMs = spec.windows.differenceMs + 1
    const { retentionMs } = spec
    const windows = { sizeMs: this.#sizeMs, advanceMs: 1, graceMs: spec.windows.graceMs }
    const collects = spec.emit === 'close'
    this.#ends = new WindowEnds({ store: this.#store, context, windows, retentionMs, collects })
    // An open window has records from its start on, and may be defined by one just before it.
    const stretch = { sizeMs: this.#sizeMs, advanceMs: this.#sizeMs }
    const afterMs = this.#sizeMs + spec.windows.graceMs
    const last = (watermarkMs: number) => lastWindowEnded(stretch, watermarkMs, afterMs)
    this.#expiry = new WindowExpiry({ store: this.#records, context, last })
  }

  resume(watermarkMs: number, closing?: Closing): undefined {
    this.#ends.resume(watermarkMs, closing)
    this.#expiry.resume(watermarkMs, closing)
  }

  prepare(input: Batch): Promise<void> | undefined {
    this.#accepted = []
    this.#late = []
    this.#unwritable = []
    const stretches = new Set<RowKey>()
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i]) || isNull(input.values[i])) continue
      this.#accept(input, i)
    }
    for (const { key, kept } of this.#accepted) {
      for (const row of this.#stretchesAround(key, kept.timeMs)) stretches.add(row)
    }
    const reading = this.#records.prefetch(stretches)
    return reading === undefined
      ? this.#prepareWindows()
      : reading.then(() => this.#prepareWindows())
  }

  #accept(input: Batch, i: number): void {
    const { windows, key, value: serde } = this.#spec
    const timeMs = input.times[i]!
    const bound = Math.max(input.streamTimes[i]!, this.#context.watermarkMs())
    const own = this.#ownStart(timeMs)
    const note = Math.max(own, bound - windows.graceMs - this.#sizeMs + 1)
    if (note > own) this.#late.push(i)
    if (note > timeMs) return
    try {
      const kept = orderedRecord(input, i, { note, value: serde.encode(input.values[i]) })
      this.#accepted.push({ record: i, key: key.encode(input.keys[i]), kept })
    } catch (error) {
      this.#unwritable.push({ record: i, error })
    }
  }

  /** Start of the window that ends with a record; the first ones all begin at 0. */
  #ownStart(timeMs: number): number {
    return Math.max(timeMs - this.#spec.windows.differenceMs, 0)
  }

  #stretch(key: RowKey, timeMs: number): RowKey {
    return windowKey(timeMs - (timeMs % this.#sizeMs), key)
  }

  /** Rows with all records that define the windows of a record or are in them, by time. */
  #stretchesAround(key: RowKey, timeMs: number): RowKey[] {
    const rows = [this.#stretch(key, timeMs), this.#stretch(key, timeMs + this.#sizeMs)]
    if (timeMs >= this.#sizeMs) rows.unshift(this.#stretch(key, timeMs - this.#sizeMs))
    return rows
  }

  #around(key: RowKey, timeMs: number): OrderedRecord[] {
    return this.#stretchesAround(key, timeMs).flatMap(row => this.#records.get(row) ?? [])
  }

  /** The windows of all records of the batch, also of those that it makes together. */
  #prepareWindows(): Promise<void> | undefined {
    const byKey = new Map<RowKey, OrderedRecord[]>()
    for (const { key, kept } of this.#accepted) {
      const list = byKey.get(key)
      if (list === undefined) byKey.set(key, [kept])
      else list.push(kept)
    }
    const wanted = new Set<RowKey>()
    for (const [key, batch] of byKey) {
      const stretches = new Set(batch.flatMap(r => this.#stretchesAround(key, r.timeMs)))
      const stored = [...stretches].flatMap(row => this.#records.get(row) ?? [])
      const all = [...stored, ...batch].sort((a, b) => a.timeMs - b.timeMs)
      for (const record of batch) {
        for (const start of this.#startsChanged(record, all)) wanted.add(windowKey(start, key))
      }
    }
    return this.#store.prefetch(wanted)
  }

  /** Where the windows begin that a record is in or makes; some of them may be empty. */
  #startsChanged(record: OrderedRecord, all: readonly OrderedRecord[]): Set<number> {
    const { timeMs, note } = record
    const starts = new Set<number>()
    for (const other of recordsBetween(all, timeMs - this.#sizeMs, timeMs + this.#sizeMs)) {
      const own = this.#ownStart(other.timeMs)
      if (other.note <= own && own >= note && own <= timeMs) starts.add(own)
      const next = other.timeMs + 1
      if (next >= note && next <= timeMs) starts.add(next)
    }
    return starts.add(timeMs + 1)
  }

  process(input: Batch, _port: number, out: Outputs): void {
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) out.drop(input, i, 'null-key')
      else if (isNull(input.values[i])) {
        out.drop(input, i, 'poison', 'a null value adds nothing to an aggregate')
      }
    }
    for (const { record, error } of this.#unwritable)
      out.fail(input, record, error, { reason: 'poison' })
    const changed = new ChangedRows()
    for (const accepted of this.#accepted) {
      try {
        this.#add(input, accepted, changed)
      } catch (error) {
        out.fail(input, accepted.record, error)
      }
    }
    if (this.#late.length > 0) this.#dropLate(input, out)
    if (this.#follows) out.main = this.#changes(changed)
  }

  /** Later windows may have taken it, or it has a letter already. */
  #dropLate(input: Batch, out: Outputs): void {
    const others = new Set([...this.#accepted, ...this.#unwritable].map(({ record }) => record))
    for (const record of this.#late) {
      const start = this.#ownStart(input.times[record]!)
      const detail = `window [${start}, ${start + this.#sizeMs}) of ${this.#spec.name} is closed`
      if (others.has(record)) out.dropPart(input, record, 'late', detail)
      else out.drop(input, record, 'late', detail)
    }
  }

  get #follows(): boolean {
    return this.#spec.emit === 'update' && this.#context.observed
  }

  /** Changes nothing when it throws. */
  #add(input: Batch, { record, key, kept }: Accepted, changed: ChangedRows): void {
    const all = withRecord(this.#around(key, kept.timeMs), kept)
    const decoded = input.keys[record]
    const changes: { row: RowKey; before: Timed<unknown> | undefined; now: Timed<unknown> }[] = []
    for (const start of this.#startsChanged(kept, all)) {
      const inside = recordsBetween(all, start, start + this.#sizeMs - 1).filter(
        ({ note }) => note <= start,
      )
      const last = inside.at(-1)
      if (last === undefined) continue
      const row = windowKey(start, key)
      const before = this.#store.get(row)
      // The window right after the record does not hold it.
      if (before !== undefined && start > kept.timeMs) continue
      const appends = before !== undefined && last === kept
      const value = appends
        ? this.#append(before, input.values[record], decoded)
        : this.#fold(inside, decoded)
      changes.push({ row, before, now: { value, timeMs: last.timeMs } })
    }
    const stretch = this.#stretch(key, kept.timeMs)
    this.#records.put(stretch, withRecord(this.#records.get(stretch) ?? [], kept))
    for (const { row, before, now } of changes) {
      if (this.#follows) changed.note(row, input, record, before?.value)
      this.#store.put(row, now)
    }
  }

  /** A copy where `add` changes in place: another window may still refuse the record. */
  #append({ value }: Timed<unknown>, more: unknown, key: unknown): unknown {
    return this.#spec.add(detach(this.#spec.codec, value), more, key)
  }

  #fold(records: readonly OrderedRecord[], key: unknown): unknown {
    const { initial, add, value: serde } = this.#spec
    let aggregate = initial()
    for (const { value } of records) {
      aggregate = add(aggregate, serde.decode(value, 0, value.length), key)
    }
    return aggregate
  }

  #changes(changed: ChangedRows): Batch {
    const batch = new Batch()
    for (const [row, { key, previous, span }] of changed) {
      const { value, timeMs } = this.#store.get(row)!
      batch.change(result(windowed(key, windowStartOf(row), this.#sizeMs), value, timeMs), previous)
      batch.trace(span)
    }
    return batch
  }

  prepareClose(watermarkMs: number, from?: Closing): Promise<Closing | undefined> | undefined {
    return advanceInTurn([this.#ends, this.#expiry], watermarkMs, from)
  }

  close(_watermarkMs: number, out: Outputs): void {
    const { key } = this.#spec
    out.main = this.#ends.results(row =>
      windowed(key.decode(rowKeyOfWindow(row)), windowStartOf(row), this.#sizeMs),
    )
  }

  forwardedWatermark(watermarkMs: number): number {
    if (this.#spec.emit === 'update') return watermarkMs
    return watermarkMs - this.#sizeMs - this.#spec.windows.graceMs
  }
}

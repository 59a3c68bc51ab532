/**
 * Aggregates the records of each key in tumbling or hopping windows.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   event time; windows `[start, end)`; closes when the watermark reaches end + grace
 * state  one row a (window start, key): aggregate and latest event time; kept for the retention
 * out    on update: the changed rows of a batch, once each; on close: each row once, final
 * late   end + grace ≤ the record's own stream time (or the watermark, after idleness), per window
 */

import type { Span } from '@opentelemetry/api'
import { rowKeyOfWindow, windowKey, windowStartOf } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import type { Closing } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import { detach, type KeySerde, type Timed, timedCodec } from '../serde.ts'
import { joined } from '../trace-context.ts'
import { WindowEnds } from '../window-ends.ts'
import { firstWindowStart, type TimeWindows, windowed } from '../windows.ts'

export interface WindowAggregateSpec {
  readonly name: string
  readonly windows: TimeWindows
  readonly key: KeySerde<unknown>
  readonly initial: () => unknown
  readonly add: (aggregate: unknown, value: unknown, key: unknown) => unknown
  readonly codec: Codec<unknown>
  readonly emit: 'update' | 'close'
  /** How long after its end a window stays in the store, ms of event time; Infinity for ever. */
  readonly retentionMs: number
}

export function windowAggregateStores(spec: WindowAggregateSpec): StoreSpec[] {
  return [{ kind: 'rows', name: spec.name, codec: timedCodec(spec.codec) }]
}

/** A row that a batch adds to, read and written once. */
interface Slot {
  readonly row: RowKey
  readonly key: unknown
  readonly start: number
  /** Set with the first record that was added. */
  isChanged: boolean
  previous: unknown
  value: unknown
  timeMs: number
  span: Span | undefined
}

export function windowAggregate(spec: WindowAggregateSpec, context: OperatorContext): Operator {
  return new WindowAggregate(spec, context)
}

class WindowAggregate implements Operator {
  readonly #spec: WindowAggregateSpec
  readonly #context: OperatorContext
  readonly #store: RowStore<Timed<unknown>>
  /** Where the batch's records belong, a column each: record and slot. */
  readonly #records: number[] = []
  readonly #recordSlots: Slot[] = []
  /** The slots of the batch by key, then by window start. */
  #slots = new Map<RowKey, Map<number, Slot>>()
  #rows: RowKey[] = []
  #late: { record: number; start: number }[] = []
  readonly #ends: WindowEnds

  constructor(spec: WindowAggregateSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#store = context.rowStore(spec.name)
    const { windows, retentionMs } = spec
    const collects = spec.emit === 'close'
    this.#ends = new WindowEnds({ store: this.#store, context, windows, retentionMs, collects })
  }

  resume(watermarkMs: number, closing?: Closing): undefined {
    this.#ends.resume(watermarkMs, closing)
  }

  prepare(input: Batch): Promise<void> | undefined {
    const { windows, key } = this.#spec
    const watermarkMs = this.#context.watermarkMs()
    this.#records.length = 0
    this.#recordSlots.length = 0
    this.#slots = new Map()
    this.#rows = []
    this.#late = []
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i]) || isNull(input.values[i])) continue
      const time = input.times[i]!
      const bound = Math.max(input.streamTimes[i]!, watermarkMs)
      const encoded = key.encode(input.keys[i])
      let slots = this.#slots.get(encoded)
      if (slots === undefined) {
        slots = new Map()
        this.#slots.set(encoded, slots)
      }
      for (let s = firstWindowStart(windows, time); s <= time; s += windows.advanceMs) {
        if (s + windows.sizeMs + windows.graceMs <= bound) {
          this.#late.push({ record: i, start: s })
          continue
        }
        let slot = slots.get(s)
        if (slot === undefined) {
          slot = newSlot(windowKey(s, encoded), input.keys[i], s)
          slots.set(s, slot)
          this.#rows.push(slot.row)
        }
        this.#records.push(i)
        this.#recordSlots.push(slot)
      }
    }
    return this.#store.prefetch(this.#rows)
  }

  process(input: Batch, _port: number, out: Outputs): void {
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) out.drop(input, i, 'null-key')
      else if (isNull(input.values[i])) {
        out.drop(input, i, 'poison', 'a null value adds nothing to an aggregate')
      }
    }
    const changed: Slot[] = []
    const failed = new Map<number, unknown>()
    for (let at = 0; at < this.#records.length; at++) {
      try {
        this.#add(input, at, changed)
      } catch (error) {
        failed.set(at, error)
      }
    }
    if (this.#late.length + failed.size > 0) this.#tell(input, failed, out)
    for (const { row, value, timeMs } of changed) this.#store.put(row, { value, timeMs })
    if (this.#follows) out.main = this.#changes(changed)
  }

  /** A record that one window refuses may be kept by another; of several letters one is whole. */
  #tell(input: Batch, failed: ReadonlyMap<number, unknown>, out: Outputs): void {
    const kept = new Set(this.#records.filter((_, at) => !failed.has(at)))
    for (const { record, start } of this.#late) {
      const end = start + this.#spec.windows.sizeMs
      const detail = `window [${start}, ${end}) of ${this.#spec.name} is closed`
      if (kept.has(record)) out.dropPart(input, record, 'late', detail)
      else out.drop(input, record, 'late', detail)
      kept.add(record)
    }
    for (const [at, error] of failed) {
      const record = this.#records[at]!
      out.fail(input, record, error, { isPart: kept.has(record) })
      kept.add(record)
    }
  }

  /** Somebody takes each change. */
  get #follows(): boolean {
    return this.#spec.emit === 'update' && this.#context.observed
  }

  #add(input: Batch, at: number, changed: Slot[]): void {
    const { initial, add, codec } = this.#spec
    const record = this.#records[at]!
    const slot = this.#recordSlots[at]!
    const key = input.keys[record]
    const timeMs = input.times[record]!
    if (slot.isChanged) {
      slot.value = add(slot.value, input.values[record], key)
      slot.timeMs = Math.max(slot.timeMs, timeMs)
      slot.span = joined(slot.span, input.traces?.get(record))
      return
    }
    const before = this.#store.get(slot.row)
    const previous = before && this.#follows ? detach(codec, before.value) : undefined
    slot.value = add(before === undefined ? initial() : before.value, input.values[record], key)
    slot.timeMs = Math.max(before?.timeMs ?? 0, timeMs)
    slot.previous = previous
    slot.isChanged = true
    slot.span = input.traces?.get(record)
    changed.push(slot)
  }

  #changes(changed: readonly Slot[]): Batch {
    const { sizeMs } = this.#spec.windows
    const batch = new Batch()
    for (const { key, start, previous, value, timeMs, span } of changed) {
      const now = detach(this.#spec.codec, value)
      batch.change(result(windowed(key, start, sizeMs), now, timeMs), previous)
      batch.trace(span)
    }
    return batch
  }

  prepareClose(watermarkMs: number, from?: Closing): Promise<Closing | undefined> | undefined {
    return this.#ends.due(watermarkMs) ? this.#ends.advance(watermarkMs, from) : undefined
  }

  close(_watermarkMs: number, out: Outputs): void {
    const { key, windows } = this.#spec
    out.main = this.#ends.results(row =>
      windowed(key.decode(rowKeyOfWindow(row)), windowStartOf(row), windows.sizeMs),
    )
  }

  forwardedWatermark(watermarkMs: number): number {
    if (this.#spec.emit === 'update') return watermarkMs
    return watermarkMs - this.#spec.windows.sizeMs - this.#spec.windows.graceMs
  }
}

function newSlot(row: RowKey, key: unknown, start: number): Slot {
  const nothing = { previous: undefined, value: undefined, timeMs: 0, span: undefined }
  return { row, key, start, isChanged: false, ...nothing }
}

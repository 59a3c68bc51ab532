/**
 * Finds records of a key that match the steps of a sequence, one after the other.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   event time; first and last record of a match at most `withinMs` apart
 * state  records waiting for the watermark, a row a (time, key); matches begun, a row a stretch
 * out    a match when the watermark is beyond its last record's time + grace; with that time
 * late   time + grace before the record's own stream time (or the watermark, after idleness)
 *
 * Order matters here (law 16), so records wait until no record that is on time can come before
 * them: those with time + grace < watermark, as later ones have time + grace ≥ stream time ≥
 * watermark. Then they are taken by order key (time, source partition, offset), which is the same
 * order however they arrived. What a record matches is judged when it comes, so that a predicate
 * that throws makes a dead letter of the record.
 */
import { rowKeyOfWindow, windowKey, windowStartOf } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import { advanceInTurn, type Closing, type ClosingPart, firstRows } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import {
  type OrderedRecord,
  orderedRecord,
  orderedRecordsCodec,
  withRecord,
} from '../ordered-records.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'
import { WindowExpiry } from '../window-expiry.ts'
import { lastWindowEnded } from '../windows.ts'

export interface MatchSequenceSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
  /** At most 30. */
  readonly steps: readonly SequenceStep[]
  readonly withinMs: number
  readonly graceMs: number
  /** `relaxed` passes over records that do not match; `strict` ends a match begun with them. */
  readonly contiguity: 'relaxed' | 'strict'
}

interface SequenceStep {
  readonly name: string
  readonly where: (value: unknown, key: unknown) => boolean
}

export interface SequenceMatch<V, S extends string> {
  /** The record of each step, and its time. */
  readonly events: Readonly<Record<S, V>>
  readonly times: Readonly<Record<S, number>>
}

const waitingStore = (spec: MatchSequenceSpec) => `${spec.name}-waiting`
const begunStore = (spec: MatchSequenceSpec) => `${spec.name}-begun`

export function matchSequenceStores(spec: MatchSequenceSpec): StoreSpec[] {
  const codec = orderedRecordsCodec as Codec<unknown>
  return [
    { kind: 'rows', name: waitingStore(spec), codec },
    { kind: 'rows', name: begunStore(spec), codec },
  ]
}

export function matchSequence(spec: MatchSequenceSpec, context: OperatorContext): Operator {
  return new MatchSequence(spec, context)
}

/** A record that waits; bit `i` of the note of `record` says that it matches step `i`. */
interface Accepted {
  readonly row: RowKey
  readonly record: OrderedRecord
}

/** The records of the first steps; the note of a stored one is its step, 0 begins a match. */
type Begun = readonly OrderedRecord[]

class MatchSequence implements Operator {
  readonly #spec: MatchSequenceSpec
  readonly #context: OperatorContext
  readonly #waiting: RowStore<readonly OrderedRecord[]>
  readonly #begun: RowStore<readonly OrderedRecord[]>
  /** Matches begun lie in rows by their start: a stretch is as long as a match may be. */
  readonly #stretchMs: number
  #accepted: Accepted[] = []
  #late: number[] = []
  #failed: { record: number; error: unknown }[] = []
  /** No record that waits is before this; −∞ until the first look. */
  #nextMs = Number.NEGATIVE_INFINITY
  readonly #releases: ClosingPart
  readonly #expiry: WindowExpiry
  #matches = new Batch()

  constructor(spec: MatchSequenceSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#waiting = context.rowStore(waitingStore(spec))
    this.#begun = context.rowStore(begunStore(spec))
    this.#stretchMs = spec.withinMs + 1
    this.#releases = {
      due: watermarkMs => this.#nextMs + spec.graceMs < watermarkMs,
      advance: watermarkMs => this.#release(watermarkMs),
    }
    // Matches that began before can have no further record, as all to come are later.
    const stretch = { sizeMs: this.#stretchMs, advanceMs: this.#stretchMs }
    const afterMs = spec.withinMs + spec.graceMs
    const last = (watermarkMs: number) => lastWindowEnded(stretch, watermarkMs, afterMs)
    this.#expiry = new WindowExpiry({ store: this.#begun, context, last })
  }

  resume(watermarkMs: number, closing?: Closing): undefined {
    this.#expiry.resume(watermarkMs, closing)
  }

  prepare(input: Batch): Promise<void> | undefined {
    const { graceMs } = this.#spec
    const watermarkMs = this.#context.watermarkMs()
    this.#accepted = []
    this.#late = []
    this.#failed = []
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i]) || isNull(input.values[i])) continue
      const bound = Math.max(input.streamTimes[i]!, watermarkMs)
      if (input.times[i]! + graceMs < bound) this.#late.push(i)
      else this.#accept(input, i)
    }
    return this.#waiting.prefetch(this.#accepted.map(({ row }) => row))
  }

  #accept(input: Batch, i: number): void {
    const { key: keySerde, value: serde, steps, contiguity } = this.#spec
    const key = input.keys[i]
    const value = input.values[i]
    try {
      let note = 0
      steps.forEach(({ where }, step) => {
        if (where(value, key)) note |= 1 << step
      })
      if (note === 0 && contiguity === 'relaxed') return
      const record = orderedRecord(input, i, { note, value: serde.encode(value) })
      this.#accepted.push({ row: windowKey(record.timeMs, keySerde.encode(key)), record })
    } catch (error) {
      this.#failed.push({ record: i, error })
    }
  }

  process(input: Batch, _port: number, out: Outputs): void {
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) out.drop(input, i, 'null-key')
      else if (isNull(input.values[i])) {
        out.drop(input, i, 'poison', 'a null value matches no step')
      }
    }
    for (const { record, error } of this.#failed) out.fail(input, record, error)
    for (const record of this.#late) {
      const detail = `${this.#spec.name} no longer takes records of its time`
      out.drop(input, record, 'late', detail)
    }
    for (const { row, record } of this.#accepted) {
      this.#waiting.put(row, withRecord(this.#waiting.get(row) ?? [], record))
      this.#nextMs = Math.min(this.#nextMs, record.timeMs)
    }
  }

  prepareClose(watermarkMs: number, from?: Closing): Promise<Closing | undefined> | undefined {
    return advanceInTurn([this.#releases, this.#expiry], watermarkMs, from)
  }

  /** Takes the records that wait for no other any more, in their order. */
  async #release(watermarkMs: number): Promise<Closing | undefined> {
    const { graceMs } = this.#spec
    // Records of that time and later wait, those before have been taken.
    const beforeMs = watermarkMs - graceMs
    const range = { gte: windowKey(0, ''), lt: windowKey(Math.max(beforeMs, 0), '') }
    const { closeRowsMax } = this.#context
    const { rows: released, left } = await firstRows(this.#waiting, range, closeRowsMax)
    if (released.length > 0) await this.#waiting.deleteRange(range.gte, left?.key ?? range.lt)
    this.#context.reached('close-mid')
    const begun = new Set<RowKey>()
    for (const { key: row } of released) {
      for (const stretch of this.#stretches(rowKeyOfWindow(row), windowStartOf(row))) {
        begun.add(stretch)
      }
    }
    await this.#begun.prefetch(begun)
    for (const { key: row, value: records } of released) {
      for (const record of records) this.#take(rowKeyOfWindow(row), record)
    }
    let next = left
    if (next === undefined) {
      for await (const [first] of this.#waiting.scan({ gte: range.lt, limit: 1 })) next = first
    }
    this.#nextMs = next === undefined ? Number.POSITIVE_INFINITY : windowStartOf(next.key)
    return left && { closedMs: this.#nextMs + graceMs, row: '' }
  }

  /** Rows of the matches that a record of this time may go on with, by their start. */
  #stretches(key: RowKey, timeMs: number): RowKey[] {
    const start = timeMs - (timeMs % this.#stretchMs)
    const row = windowKey(start, key)
    return start === 0 ? [row] : [windowKey(start - this.#stretchMs, key), row]
  }

  #take(key: RowKey, record: OrderedRecord): void {
    const { steps, withinMs, contiguity } = this.#spec
    const rows = this.#stretches(key, record.timeMs)
    const before = rows.map(row => matchesBegun(this.#begun.get(row) ?? []))
    const fits = (step: number) => (record.note & (1 << step)) !== 0
    const goesOn = ([first]: Begun) => first!.timeMs + withinMs >= record.timeMs
    // Those that began first come first: of several that end here, one is the match.
    const last = steps.length - 1
    const ended = [...before.flat(), []].find(
      match => match.length === last && fits(last) && (last === 0 || goesOn(match)),
    )
    if (ended !== undefined) {
      this.#found(key, [...ended, record])
      return
    }
    const after = before.map(matches =>
      matches
        .filter(match => goesOn(match) && (contiguity === 'relaxed' || fits(match.length)))
        .map(match => (fits(match.length) ? [...match, { ...record, note: match.length }] : match)),
    )
    if (fits(0)) after.at(-1)!.push([{ ...record, note: 0 }])
    rows.forEach((row, i) => {
      this.#keep(row, before[i]!, after[i]!)
    })
  }

  #keep(row: RowKey, before: readonly Begun[], after: readonly Begun[]): void {
    const same = before.length === after.length && before.every((match, i) => match === after[i])
    if (same) return
    if (after.length === 0) this.#begun.delete(row)
    else this.#begun.put(row, after.flat())
  }

  /** Emits a match; the next one begins behind it. */
  #found(key: RowKey, records: Begun): void {
    const { key: keySerde, value: serde, steps } = this.#spec
    const timeMs = records.at(-1)!.timeMs
    for (const row of this.#stretches(key, timeMs)) {
      if (this.#begun.get(row) !== undefined) this.#begun.delete(row)
    }
    const byStep = (of: (record: OrderedRecord) => unknown) =>
      Object.fromEntries(steps.map(({ name }, i) => [name, of(records[i]!)]))
    const value: SequenceMatch<unknown, string> = {
      events: byStep(record => serde.decode(record.value, 0, record.value.length)),
      times: byStep(record => record.timeMs) as Record<string, number>,
    }
    this.#matches.emit(result(keySerde.decode(key), value, timeMs))
  }

  close(_watermarkMs: number, out: Outputs): void {
    if (this.#matches.length === 0) return
    out.main = this.#matches
    this.#matches = new Batch()
  }

  /** A match comes when the watermark has passed its time by the grace. */
  forwardedWatermark(watermarkMs: number): number {
    return watermarkMs - this.#spec.graceMs
  }
}

function matchesBegun(records: readonly OrderedRecord[]): Begun[] {
  const matches: OrderedRecord[][] = []
  for (const record of records) {
    if (record.note === 0) matches.push([record])
    else matches.at(-1)!.push(record)
  }
  return matches
}

/**
 * Adds to each record of a stream the row that a table had at the record's own time: inner, left.
 *
 * in     a stream (port 0) and what a co-partitioned table is made of (port 1; null deletes);
 *        of the stream null keys leave by `null-key`, null values by `poison`
 * time   a record waits until the watermark of both is beyond its time + grace, unless told not to;
 *        results keep the record's time and stream time
 * state  one row a key with its versions, those that no record can ask for left out; records that
 *        wait, a row a (time, key)
 * out    one result a record that finds a row; with `left` one for every record
 * late   records of the stream with time + grace before their stream time; nothing of the table
 *
 * A version holds from its time on; one that comes later than the grace holds from its stream time
 * - grace. Of the versions that hold at a time the one with the largest order key counts (law 16).
 * Versions to come hold from their stream time - grace on, and so from watermark - grace: a record
 * with time + grace < watermark sees all that it will ever see, however the partitions interleave.
 */
import { rowKeyOfWindow, windowKey, windowStartOf } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull } from '../batch.ts'
import { type Closing, firstRows } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import {
  type OrderedRecord,
  orderedRecord,
  orderedRecordsCodec,
  withRecord,
} from '../ordered-records.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'

export interface AsOfJoinSpec {
  readonly name: string
  readonly kind: 'inner' | 'left'
  readonly key: KeySerde<unknown>
  /** Of the stream and of the table. */
  readonly values: readonly [ValueSerde<unknown>, ValueSerde<unknown>]
  readonly graceMs: number
  /** Records wait for the table; else they see it as far as it has been read. */
  readonly waits: boolean
  readonly joiner: (value: unknown, row: unknown, key: unknown) => unknown
}

const versionStore = (spec: AsOfJoinSpec) => `${spec.name}-versions`
const waitingStore = (spec: AsOfJoinSpec) => `${spec.name}-waiting`

export function asOfJoinStores(spec: AsOfJoinSpec): StoreSpec[] {
  const codec = orderedRecordsCodec as Codec<unknown>
  const stores = [versionStore(spec), ...(spec.waits ? [waitingStore(spec)] : [])]
  return stores.map(name => ({ kind: 'rows', name, codec }))
}

export function asOfJoin(spec: AsOfJoinSpec, context: OperatorContext): Operator {
  return new AsOfJoin(spec, context)
}

type Rows = RowStore<readonly OrderedRecord[]>

const NO_BYTES = Buffer.alloc(0)

/** The note of a version: since when it holds, as -1 - time where it has no value. */
function noteOf(sinceMs: number, hasValue: boolean): number {
  return hasValue ? sinceMs : -1 - sinceMs
}

const hasValue = ({ note }: OrderedRecord) => note >= 0
const sinceOf = ({ note }: OrderedRecord) => (note >= 0 ? note : -1 - note)

const inForce = (versions: readonly OrderedRecord[], timeMs: number) =>
  versions.findLastIndex(version => sinceOf(version) <= timeMs)

/** Those that somebody may ask for who asks for a time from `horizonMs` on. */
function since(versions: readonly OrderedRecord[], horizonMs: number): readonly OrderedRecord[] {
  const first = inForce(versions, horizonMs)
  if (first < 0) return versions
  // A deletion, too: it overrules older versions that are still to come.
  return versions.slice(first)
}

class AsOfJoin implements Operator {
  readonly #spec: AsOfJoinSpec
  readonly #context: OperatorContext
  readonly #versions: Rows
  readonly #waiting: Rows | undefined
  /** Row keys of the batch at hand; of the waiting store where its records wait. */
  #rows: (RowKey | undefined)[] = []
  /** No record that waits is before this; −∞ until the first look. */
  #nextMs: number
  #released = new Batch()

  constructor(spec: AsOfJoinSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#versions = context.rowStore(versionStore(spec))
    if (spec.waits) this.#waiting = context.rowStore(waitingStore(spec))
    this.#nextMs = spec.waits ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY
  }

  prepare(input: Batch, port: number): Promise<void> | undefined {
    const store = (port === 0 && this.#waiting) || this.#versions
    this.#rows = input.keys.map((key, i) => {
      if (isNull(key)) return undefined
      const row = this.#spec.key.encode(key)
      return store === this.#waiting ? windowKey(input.times[i]!, row) : row
    })
    return store.prefetch(this.#rows.filter(row => row !== undefined))
  }

  /** The stream time that a record is judged by: after idleness it may be behind the watermark. */
  #boundMs(input: Batch, i: number): number {
    return Math.max(input.streamTimes[i]!, this.#context.watermarkMs())
  }

  process(input: Batch, port: number, out: Outputs): void {
    const results = input.successor({ keys: true })
    for (let i = 0; i < input.length; i++) {
      const row = this.#rows[i]
      if (row === undefined) {
        // The table has dropped its own.
        if (port === 0) out.drop(input, i, 'null-key')
      } else if (port === 1) this.#keep(input, i, row)
      else if (isNull(input.values[i])) {
        out.drop(input, i, 'poison', 'a null value joins nothing')
      } else if (input.times[i]! + this.#spec.graceMs < this.#boundMs(input, i)) {
        out.drop(input, i, 'late', `${this.#spec.name} no longer takes records of its time`)
      } else {
        try {
          if (this.#waiting !== undefined) this.#wait(this.#waiting, input, i)
          else this.#join(results, input, i)
        } catch (error) {
          out.fail(input, i, error)
        }
      }
    }
    out.main = results
  }

  #keep(input: Batch, i: number, row: RowKey): void {
    const { graceMs, values } = this.#spec
    const value = input.values[i]
    const sinceMs = Math.max(input.times[i]!, this.#boundMs(input, i) - graceMs)
    const bytes = isNull(value) ? NO_BYTES : values[1].encode(value)
    const version = { note: noteOf(sinceMs, !isNull(value)), value: bytes }
    const before = this.#versions.get(row)
    const after = withRecord(before ?? [], orderedRecord(input, i, version))
    const watermarkMs = this.#context.watermarkMs()
    const kept = since(after, Math.min(watermarkMs - graceMs, this.#nextMs))
    if (kept.length > 0) this.#versions.put(row, kept)
    else if (before !== undefined) this.#versions.delete(row)
  }

  #wait(waiting: Rows, input: Batch, i: number): void {
    const value = this.#spec.values[0].encode(input.values[i])
    const record = orderedRecord(input, i, { note: input.streamTimes[i]!, value })
    const row = this.#rows[i]!
    waiting.put(row, withRecord(waiting.get(row) ?? [], record))
    this.#nextMs = Math.min(this.#nextMs, record.timeMs)
  }

  #join(results: Batch, input: Batch, i: number): void {
    const row = this.#rowAt(this.#rows[i]!, input.times[i]!)
    if (row === null && this.#spec.kind === 'inner') return
    const key = input.keys[i]
    results.derive(input, i, key, this.#spec.joiner(input.values[i], row, key))
  }

  /** The value that a key had, null where it had none. */
  #rowAt(row: RowKey, timeMs: number): unknown {
    const versions = this.#versions.get(row) ?? []
    const version = versions[inForce(versions, timeMs)]
    if (version === undefined || !hasValue(version)) return null
    return this.#spec.values[1].decode(version.value, 0, version.value.length)
  }

  prepareClose(watermarkMs: number): Promise<Closing | undefined> | undefined {
    const beforeMs = watermarkMs - this.#spec.graceMs
    if (this.#waiting === undefined || this.#nextMs >= beforeMs) return undefined
    return this.#release(this.#waiting, Math.max(beforeMs, 0))
  }

  /** Takes the records before a time, so many at most. */
  async #release(waiting: Rows, beforeMs: number): Promise<Closing | undefined> {
    const range = { gte: windowKey(0, ''), lt: windowKey(beforeMs, '') }
    const { rows, left } = await firstRows(waiting, range, this.#context.closeRowsMax)
    if (rows.length > 0) await waiting.deleteRange(range.gte, left?.key ?? range.lt)
    this.#context.reached('close-mid')
    await this.#versions.prefetch(new Set(rows.map(({ key }) => rowKeyOfWindow(key))))
    for (const { key: row, value: records } of rows) {
      const key = this.#spec.key.decode(rowKeyOfWindow(row))
      for (const { timeMs, note, source, offset, value: bytes } of records) {
        const value = this.#spec.values[0].decode(bytes, 0, bytes.length)
        this.#released.emit({ key, value, timeMs, streamTimeMs: note, source, offset })
      }
    }
    let next = left
    if (next === undefined) {
      for await (const [first] of waiting.scan({ gte: range.lt, limit: 1 })) next = first
    }
    this.#nextMs = next === undefined ? Number.POSITIVE_INFINITY : windowStartOf(next.key)
    // Records of that time and later wait, those before have been taken.
    return left && { closedMs: this.#nextMs + this.#spec.graceMs, row: '' }
  }

  close(_watermarkMs: number, out: Outputs): void {
    const released = this.#released
    if (released.length === 0) return
    for (let i = 0; i < released.length; i++) released.release(i)
    this.#released = new Batch()
    this.#rows = released.keys.map(key => this.#spec.key.encode(key))
    const results = new Batch()
    for (let i = 0; i < released.length; i++) {
      try {
        this.#join(results, released, i)
      } catch (error) {
        out.fail(released, i, error)
      }
    }
    out.main = results
  }

  /** A record that waits comes out when the watermark has passed its time by the grace. */
  forwardedWatermark(watermarkMs: number): number {
    return this.#waiting === undefined ? watermarkMs : watermarkMs - this.#spec.graceMs
  }
}

/**
 * Aggregates all records of each key: a table with one row a key.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   a row's time is its latest event; with a time to live, its end is by event time
 * state  one row a key: aggregate and time; with a time to live, one (expiry, key) row beside it
 * out    the changed rows of a batch, once each, with the value before; null deletes a row
 * late   nothing is late
 *
 * A record counts to a row that is no more than the time to live before the record's own stream
 * time. The watermark is never ahead of that, so the row is there whenever it counts, and whether
 * a dead row has been deleted yet makes no difference.
 */

import { decodeTime, encodeTime } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, result } from '../batch.ts'
import { ChangedRows } from '../changed-rows.ts'
import { type Closing, firstRows } from '../closing.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import { detach, type KeySerde, type Timed, timedCodec } from '../serde.ts'

export interface AggregateSpec {
  readonly name: string
  readonly key: KeySerde<unknown>
  /** The new aggregate; `aggregate` is undefined where the key has no row. Null deletes. */
  readonly fold: (aggregate: unknown, value: unknown, key: unknown) => unknown
  readonly codec: Codec<unknown>
  /** Absent: rows stay for ever. */
  readonly ttlMs: number | undefined
}

const MARK = Buffer.of(1)
const markCodec: Codec<unknown> = { encode: () => MARK, decode: () => MARK }

const expiryStore = (spec: AggregateSpec) => `${spec.name}-expiry`

export function aggregateStores(spec: AggregateSpec): StoreSpec[] {
  const codec = timedCodec(spec.codec)
  const rows: StoreSpec = { kind: 'rows', name: spec.name, codec, refusesLarge: true }
  if (spec.ttlMs === undefined) return [rows]
  return [rows, { kind: 'rows', name: expiryStore(spec), codec: markCodec }]
}

export function aggregate(spec: AggregateSpec, context: OperatorContext): Operator {
  return new Aggregate(spec, context)
}

class Aggregate implements Operator {
  readonly #spec: AggregateSpec
  readonly #context: OperatorContext
  readonly #store: RowStore<Timed<unknown>>
  /**
   * Every living row has a mark at or before its expiry. A mark that comes due before its row
   * does is put again, at the row's expiry: one mark a time to live, not one an update.
   */
  readonly #marks: RowStore<unknown> | undefined
  readonly #ttlMs: number
  /** No mark is due before this; −∞ until the first look. */
  #nextDueMs = Number.NEGATIVE_INFINITY
  #rows: (RowKey | undefined)[] = []
  #expired: { row: RowKey; value: Timed<unknown> }[] = []

  constructor(spec: AggregateSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#store = context.rowStore(spec.name)
    this.#ttlMs = spec.ttlMs ?? Number.POSITIVE_INFINITY
    if (spec.ttlMs !== undefined) this.#marks = context.rowStore(expiryStore(spec))
  }

  prepare(input: Batch): Promise<void> | undefined {
    const { key } = this.#spec
    const wanted = new Set<RowKey>()
    this.#rows = input.keys.map(k => (k === null || k === undefined ? undefined : key.encode(k)))
    for (const row of this.#rows) if (row !== undefined) wanted.add(row)
    return this.#store.prefetch(wanted)
  }

  process(input: Batch, _port: number, out: Outputs): void {
    const changed = new ChangedRows()
    for (let i = 0; i < input.length; i++) {
      const value = input.values[i]
      const row = this.#rows[i]
      if (row === undefined) out.drop(input, i, 'null-key')
      else if (value === null || value === undefined) {
        out.drop(input, i, 'poison', 'a null value adds nothing to an aggregate')
      } else {
        try {
          this.#add(input, i, row, changed)
        } catch (error) {
          out.fail(input, i, error)
        }
      }
    }
    if (this.#context.observed) out.main = this.#changes(changed)
  }

  #add(input: Batch, i: number, row: RowKey, changed: ChangedRows): void {
    const { fold, codec } = this.#spec
    const key = input.keys[i]
    const timeMs = input.times[i]!
    const stored = this.#store.get(row)
    const boundMs = Math.max(input.streamTimes[i]!, this.#context.watermarkMs())
    const before =
      stored !== undefined && stored.timeMs + this.#ttlMs < boundMs ? undefined : stored
    const { observed } = this.#context
    const keeps = stored !== undefined && observed && !changed.has(row)
    const previous = keeps ? detach(codec, stored.value) : undefined
    // A row that turns out too large must not have changed in place.
    const isMeasured = this.#store.rowBytesMax !== undefined
    const current = isMeasured && before ? detach(codec, before.value) : before?.value
    const value = fold(current, input.values[i], key)
    const latestMs = Math.max(before?.timeMs ?? 0, timeMs)
    const isGone = value === null || value === undefined
    if (!isGone) this.#store.put(row, { value, timeMs: latestMs })
    else if (stored !== undefined) this.#store.delete(row)
    if (observed) changed.note(row, input, i, previous).timeMs = latestMs
    if (!isGone && before === undefined) this.#mark(row, latestMs)
  }

  #mark(row: RowKey, timeMs: number): void {
    if (this.#marks === undefined) return
    const dueMs = timeMs + this.#ttlMs
    this.#marks.put(encodeTime(dueMs) + row, MARK)
    this.#nextDueMs = Math.min(this.#nextDueMs, dueMs)
  }

  #changes(changed: ChangedRows): Batch {
    const batch = new Batch()
    for (const [row, { key, previous, timeMs, span }] of changed) {
      const now = this.#store.get(row)
      if (now === undefined && previous === undefined) continue
      const value = now === undefined ? null : detach(this.#spec.codec, now.value)
      batch.change(result(key, value, timeMs), previous)
      batch.trace(span)
    }
    return batch
  }

  prepareClose(watermarkMs: number): Promise<Closing | undefined> | undefined {
    if (this.#marks === undefined || watermarkMs <= this.#nextDueMs) return undefined
    return this.#expire(this.#marks, watermarkMs)
  }

  async #expire(marks: RowStore<unknown>, watermarkMs: number): Promise<Closing | undefined> {
    const end = encodeTime(watermarkMs)
    const { rows, left } = await firstRows(marks, { lt: end }, this.#context.closeRowsMax)
    const due = new Set(rows.map(({ key }) => key.slice(8)))
    await this.#store.prefetch(due)
    if (due.size > 0) await marks.deleteRange('', left?.key ?? end)
    for (const row of due) {
      const value = this.#store.get(row)
      if (value === undefined) continue
      if (value.timeMs + this.#ttlMs >= watermarkMs) this.#mark(row, value.timeMs)
      else {
        this.#store.delete(row)
        this.#expired.push({ row, value })
      }
    }
    this.#nextDueMs = Number.POSITIVE_INFINITY
    for await (const [first] of marks.scan({ limit: 1 })) this.#nextDueMs = decodeTime(first!.key)
    // A row expires when the watermark is beyond its mark.
    return left && { closedMs: this.#nextDueMs, row: '' }
  }

  close(_watermarkMs: number, out: Outputs): void {
    if (this.#expired.length === 0) return
    const batch = new Batch()
    for (const { row, value } of this.#expired) {
      const expired = result(this.#spec.key.decode(row), null, value.timeMs + this.#ttlMs)
      batch.change(expired, value.value)
    }
    this.#expired = []
    out.main = batch
  }
}

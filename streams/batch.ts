/**
 * What flows along an edge: a batch of records as parallel columns, never an object a record.
 *
 * `times` is event time, `streamTimes` the stream time of the record's own source partition
 * when it was read (carried through every exchange: lateness is decided by it, docs/TIME.md).
 * `(times, sources, offsets)` is the order key of law 16.
 */
import type { Span } from '@opentelemetry/api'
import type { RecordColumns } from '../log/record-columns.ts'

type RawColumns = Pick<Batch, 'rawKeys' | 'rawValues'> & Partial<Pick<Batch, 'exchanged'>>

type Columns<K, V> = Pick<Batch<K, V>, 'keys' | 'values'> &
  Pick<Batch, 'times' | 'streamTimes' | 'sources' | 'offsets' | 'rows' | 'traces'>

const NOTHING_RAW: RawColumns = { rawKeys: undefined, rawValues: false }

export class Batch<K = unknown, V = unknown> {
  readonly keys: K[]
  readonly values: V[]
  readonly times: number[]
  readonly streamTimes: number[]
  /** Index of the source partition (in `origins` of the plan); -1 for results of closing. */
  readonly sources: number[]
  readonly offsets: number[]
  /** The value a table row had before this change; only in batches of table changes. */
  previous: (V | undefined)[] | undefined
  /** The records as read, for headers and for value bytes that need no second encoding. */
  readonly columns: RecordColumns | undefined
  /** Row of `columns` behind each record; in step with the other columns when it is set. */
  readonly rows: number[]
  /** Name of the key serde while `keys` still are what the bytes in `columns` say. */
  readonly rawKeys: string | undefined
  /** True while `values` still are what the bytes in `columns` say. */
  readonly rawValues: boolean
  /** `columns` are of a repartition topic: the record itself is only at its place. */
  readonly exchanged: boolean
  /**
   * Name of the step that a replayed record is for, until it has passed it: steps that lead
   * elsewhere had the record before (`replay-steps.ts`).
   */
  target: string | undefined
  /** The spans of the few records that are traced, by their place (`spans.ts`). */
  traces: Map<number, Span> | undefined
  /** Places of records that come of what had waited in a store: no partition stands at them. */
  released: Set<number> | undefined

  constructor(columns?: RecordColumns, raw: RawColumns = NOTHING_RAW, complete?: Columns<K, V>) {
    this.keys = complete?.keys ?? []
    this.values = complete?.values ?? []
    this.times = complete?.times ?? []
    this.streamTimes = complete?.streamTimes ?? []
    this.sources = complete?.sources ?? []
    this.offsets = complete?.offsets ?? []
    this.rows = complete?.rows ?? []
    this.traces = complete?.traces
    this.columns = columns
    this.rawKeys = raw.rawKeys
    this.rawValues = raw.rawValues
    this.exchanged = raw.exchanged === true
  }

  get length(): number {
    return this.keys.length
  }

  /**
   * The same records with other keys, values or both. What is not given is shared, so neither
   * batch may be appended to any more.
   */
  replaced({
    keys,
    values,
  }: {
    keys?: unknown[] | undefined
    values?: unknown[] | undefined
  }): Batch {
    const { columns, times, streamTimes, sources, offsets, rows, traces, exchanged } = this
    const rawKeys = keys === undefined ? this.rawKeys : undefined
    const rawValues = values === undefined && this.rawValues
    const own = { keys: keys ?? this.keys, values: values ?? this.values }
    const complete = { ...own, times, streamTimes, sources, offsets, rows, traces }
    const batch = new Batch<unknown, unknown>(columns, { rawKeys, rawValues, exchanged }, complete)
    batch.released = this.released
    return batch
  }

  /** An empty batch for results derived from this one's records, with their headers. */
  successor<K2 = K, V2 = V>(same: { keys?: boolean; values?: boolean }): Batch<K2, V2> {
    const rawKeys = same.keys ? this.rawKeys : undefined
    const rawValues = this.rawValues && same.values === true
    const { exchanged } = this
    return new Batch<K2, V2>(this.columns, { rawKeys, rawValues, exchanged })
  }

  /** Appends a record that keeps the time, origin and headers of record `i` of `input`. */
  derive(input: Batch, i: number, key: K, value: V): void {
    this.keys.push(key)
    this.values.push(value)
    this.times.push(input.times[i]!)
    this.streamTimes.push(input.streamTimes[i]!)
    this.sources.push(input.sources[i]!)
    this.offsets.push(input.offsets[i]!)
    if (this.columns !== undefined) this.rows.push(input.rows[i]!)
    if (input.traces !== undefined) this.trace(input.traces.get(i))
    if (input.isReleased(i)) this.release(this.length - 1)
  }

  /** No partition stands at that record. */
  release(i: number): void {
    this.released ??= new Set()
    this.released.add(i)
  }

  isReleased(i: number): boolean {
    return this.released?.has(i) === true
  }

  /** The record appended last follows from this span; from none where it is undefined. */
  trace(span: Span | undefined): void {
    if (span === undefined) return
    this.traces ??= new Map()
    this.traces.set(this.keys.length - 1, span)
  }

  /** Appends record `i` of `input` unchanged. */
  keep(input: Batch<K, V>, i: number): void {
    this.derive(input, i, input.keys[i]!, input.values[i]!)
    if (input.previous !== undefined) (this.previous ??= []).push(input.previous[i])
  }

  /** Appends a record with its own event time; for results made of several records. */
  emit(record: Emission<K, V>): void {
    this.keys.push(record.key)
    this.values.push(record.value)
    this.times.push(record.timeMs)
    this.streamTimes.push(record.streamTimeMs)
    this.sources.push(record.source)
    this.offsets.push(record.offset)
  }

  /** Appends a change of a table row: the new value (null deletes) and the one before. */
  change(record: Emission<K, V>, previous: V | undefined): void {
    this.emit(record)
    ;(this.previous ??= []).push(previous)
  }
}

export interface Emission<K, V> {
  key: K
  value: V
  timeMs: number
  streamTimeMs: number
  source: number
  offset: number
}

/** Order key of results that no single record made. */
export const NO_SOURCE = -1

/** What no single record made. */
export function result<K, V>(key: K, value: V, timeMs: number): Emission<K, V> {
  return { key, value, timeMs, streamTimeMs: timeMs, source: NO_SOURCE, offset: 0 }
}

/** Neither null nor undefined is a key or a value. */
export function isNull(value: unknown): value is null | undefined {
  return value === null || value === undefined
}

/**
 * Aggregates the records of each key in sessions: runs of events no more than a gap apart.
 *
 * in     records by key; null keys leave by `null-key`, null values by `poison`
 * time   event time; first and last event inclusive; closes when watermark > end + gap + grace
 * state  one row a session (start, key, end); the bounds of a key's live sessions in one row
 * out    on update: the changed sessions of a batch, a merge deleting the old ones; on close:
 *        each session once, final
 * late   ts + grace before the record's own stream time (or the watermark, after idleness)
 *
 * A record that is not late has ts + grace ≥ watermark, and a session it can join ends at
 * ts − gap or after: that session is still live. So sessions are the connected components of
 * the accepted records, in any order of arrival (law 10).
 */
import type { Span } from '@opentelemetry/api'
import { decodeTime, encodeTime, sessionKey, sessionOfRow } from '../../state/keys.ts'
import type { Codec, RowKey, RowStore } from '../../state/port.ts'
import { Batch, isNull, result } from '../batch.ts'
import { type Closing, firstRows } from '../closing.ts'
import {
  boundsRow,
  keyOfMark,
  liveSessionsCodec,
  markRow,
  marksBefore,
  type Session,
} from '../live-sessions.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import { detach, type KeySerde, type Timed, timedCodec } from '../serde.ts'
import { joined } from '../trace-context.ts'
import type { SessionWindows, Windowed } from '../windows.ts'

export interface SessionAggregateSpec {
  readonly name: string
  readonly windows: SessionWindows
  readonly key: KeySerde<unknown>
  readonly initial: () => unknown
  readonly add: (aggregate: unknown, value: unknown, key: unknown) => unknown
  readonly merge: (left: unknown, right: unknown, key: unknown) => unknown
  readonly codec: Codec<unknown>
  readonly emit: 'update' | 'close'
  /** How long after its last event a session stays in the store, ms; Infinity for ever. */
  readonly retentionMs: number
}

/** Sessions are dropped in steps of this part of their retention, so that few scans do it. */
const SWEEPS_A_RETENTION = 16

const liveStore = (spec: SessionAggregateSpec) => `${spec.name}-live`

export function sessionAggregateStores(spec: SessionAggregateSpec): StoreSpec[] {
  return [
    { kind: 'rows', name: spec.name, codec: timedCodec(spec.codec) },
    { kind: 'rows', name: liveStore(spec), codec: liveSessionsCodec as Codec<unknown> },
  ]
}

export function sessionAggregate(spec: SessionAggregateSpec, context: OperatorContext): Operator {
  return new SessionAggregate(spec, context)
}

interface DueSessions {
  readonly closes: boolean
  readonly closedMs: number
  readonly expires: boolean
  readonly expiredMs: number
}

/** A session row as it was before the batch. */
interface Touched {
  readonly previous: Timed<unknown> | undefined
  span: Span | undefined
}

class SessionAggregate implements Operator {
  readonly #spec: SessionAggregateSpec
  readonly #context: OperatorContext
  readonly #store: RowStore<Timed<unknown>>
  readonly #live: RowStore<readonly Session[]>
  /** Encoded key of each record that may be added. */
  #accepted: { record: number; key: RowKey }[] = []
  #late: number[] = []
  #touched = new Map<RowKey, Touched>()
  #closing: { row: RowKey; value: Timed<unknown> }[] = []
  /** No mark lies before this; −∞ until the first look. */
  #nextMarkMs = Number.NEGATIVE_INFINITY
  /** Nor before this row. */
  #marksFrom: RowKey = ''
  /** Rows before this have been looked at for expiry; those still kept are long sessions. */
  #sweptTo: RowKey = ''
  readonly #leftover = new Map<RowKey, number>()

  constructor(spec: SessionAggregateSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    this.#store = context.rowStore(spec.name)
    this.#live = context.rowStore(liveStore(spec))
  }

  prepare(input: Batch): Promise<void> | undefined {
    const { windows, key } = this.#spec
    const watermarkMs = this.#context.watermarkMs()
    this.#accepted = []
    this.#late = []
    const wanted = new Set<RowKey>()
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i]) || isNull(input.values[i])) continue
      if (input.times[i]! + windows.graceMs < Math.max(input.streamTimes[i]!, watermarkMs)) {
        this.#late.push(i)
        continue
      }
      const encoded = key.encode(input.keys[i])
      this.#accepted.push({ record: i, key: encoded })
      wanted.add(boundsRow(encoded))
    }
    const reading = this.#live.prefetch(wanted)
    return reading === undefined
      ? this.#prepareSessions(input)
      : reading.then(() => this.#prepareSessions(input))
  }

  /** Sessions never merge but by a record next to both: those next to a record are enough. */
  #prepareSessions(input: Batch): Promise<void> | undefined {
    const wanted = new Set<RowKey>()
    for (const { record, key } of this.#accepted) {
      for (const session of this.#live.get(boundsRow(key)) ?? []) {
        if (this.#meets(session, input.times[record]!)) wanted.add(rowOf(session, key))
      }
    }
    return this.#store.prefetch(wanted)
  }

  #meets(session: Session, timeMs: number): boolean {
    const { gapMs } = this.#spec.windows
    return timeMs >= session.start - gapMs && timeMs <= session.end + gapMs
  }

  process(input: Batch, _port: number, out: Outputs): void {
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) out.drop(input, i, 'null-key')
      else if (isNull(input.values[i])) {
        out.drop(input, i, 'poison', 'a null value adds nothing to an aggregate')
      }
    }
    for (const record of this.#late) {
      const detail = `${this.#spec.name} no longer takes records of its time`
      out.drop(input, record, 'late', detail)
    }
    this.#touched = new Map()
    for (const { record, key } of this.#accepted) {
      try {
        this.#add(input, record, key)
      } catch (error) {
        out.fail(input, record, error)
      }
    }
    if (this.#spec.emit === 'update' && this.#context.observed) out.main = this.#changes()
  }

  #add(input: Batch, record: number, key: RowKey): void {
    const timeMs = input.times[record]!
    const sessions = this.#live.get(boundsRow(key)) ?? []
    const met = sessions.filter(session => this.#meets(session, timeMs))
    for (const session of met) this.#touch(rowOf(session, key))
    const value = this.#fold(input, record, { met, key })
    const next = {
      start: Math.min(timeMs, ...met.map(({ start }) => start)),
      end: Math.max(timeMs, ...met.map(({ end }) => end)),
    }
    const row = rowOf(next, key)
    const [only] = met
    const moved = met.length !== 1 || next.start !== only!.start || next.end !== only!.end
    if (moved) {
      for (const session of met) this.#delete(rowOf(session, key))
      this.#live.put(boundsRow(key), replace(sessions, met, next))
      if (met.length === 0) this.#mark(next, key)
      if (row < this.#sweptTo) this.#leftover.set(row, next.end)
      if (this.#context.observed && !this.#touched.has(row)) {
        this.#touched.set(row, { previous: undefined, span: undefined })
      }
    }
    const span = input.traces?.get(record)
    for (const changed of span ? [row, ...met.map(session => rowOf(session, key))] : []) {
      const touched = this.#touched.get(changed)
      if (touched !== undefined) touched.span = joined(touched.span, span)
    }
    this.#store.put(row, { value, timeMs: next.end })
  }

  /** The record's value with those of the sessions it joins; changes nothing when it throws. */
  #fold(input: Batch, record: number, { met, key }: { met: Session[]; key: RowKey }): unknown {
    const { initial, add, merge } = this.#spec
    const decoded = input.keys[record]
    let aggregate: unknown
    met.forEach((session, i) => {
      const { value } = this.#store.get(rowOf(session, key))!
      aggregate = i === 0 ? value : merge(aggregate, value, decoded)
    })
    return add(met.length === 0 ? initial() : aggregate, input.values[record], decoded)
  }

  #touch(row: RowKey): void {
    if (!this.#context.observed || this.#touched.has(row)) return
    const { value, timeMs } = this.#store.get(row)!
    const previous = { value: detach(this.#spec.codec, value), timeMs }
    this.#touched.set(row, { previous, span: undefined })
  }

  #delete(row: RowKey): void {
    this.#store.delete(row)
    this.#leftover.delete(row)
  }

  #mark(session: Session, key: RowKey): void {
    const row = markRow(session.end, key)
    this.#live.put(row, [])
    this.#nextMarkMs = Math.min(this.#nextMarkMs, session.end)
    if (row < this.#marksFrom) this.#marksFrom = row
  }

  /** Deletions first, so that a key never seems to have overlapping sessions. */
  #changes(): Batch {
    const batch = new Batch()
    const { codec } = this.#spec
    for (const [row, { previous, span }] of this.#touched) {
      if (previous === undefined || this.#store.get(row) !== undefined) continue
      batch.change(this.#result(row, null), previous.value)
      batch.trace(span)
    }
    for (const [row, { previous, span }] of this.#touched) {
      const now = this.#store.get(row)
      if (now === undefined) continue
      batch.change(this.#result(row, detach(codec, now.value)), previous?.value)
      batch.trace(span)
    }
    return batch
  }

  #result(row: RowKey, value: unknown) {
    const { start, key, end } = sessionOfRow(row)
    const windowed: Windowed<unknown> = {
      key: this.#spec.key.decode(key),
      windowStart: start,
      windowEnd: end,
    }
    return result(windowed, value, end)
  }

  prepareClose(watermarkMs: number): Promise<Closing | undefined> | undefined {
    const { windows, retentionMs } = this.#spec
    const closedMs = watermarkMs - windows.gapMs - windows.graceMs
    const stepMs = Math.max(Math.floor(retentionMs / SWEEPS_A_RETENTION), 1)
    const aged = watermarkMs - retentionMs
    const expiredMs = aged > 0 ? aged - (aged % stepMs) : 0
    const closes = closedMs > 0 && closedMs > this.#nextMarkMs
    const expires = expiredMs > 0 && encodeTime(expiredMs) > this.#sweptTo
    if (!closes && !expires) return undefined
    return this.#close(watermarkMs, { closes, closedMs, expires, expiredMs })
  }

  async #close(watermarkMs: number, due: DueSessions): Promise<Closing | undefined> {
    const { gapMs, graceMs } = this.#spec.windows
    if (due.closes && (await this.#closeBefore(due.closedMs))) {
      // Every session that is left ends at that mark or later.
      return { closedMs: this.#nextMarkMs + gapMs + graceMs, row: '' }
    }
    const swept = !due.expires || (await this.#sweepTo(due.expiredMs))
    return swept ? undefined : { closedMs: watermarkMs, row: '' }
  }

  /**
   * Closes the sessions that end before a time, in the order of their marks. Each has one at its
   * end or before, so that no more close than marks are taken. True when some are left.
   */
  async #closeBefore(closedMs: number): Promise<boolean> {
    const { gte, lt } = marksBefore(closedMs)
    // Deleted rows are passed over one by one until the database has cleaned up.
    const range = { gte: this.#marksFrom > gte ? this.#marksFrom : gte, lt }
    const { rows, left: next } = await firstRows(this.#live, range, this.#context.closeRowsMax)
    const keys = new Set(rows.map(({ key }) => keyOfMark(key)))
    const end = next?.key ?? lt
    this.#marksFrom = end
    await this.#live.prefetch([...keys].map(boundsRow))
    for (const { key } of rows) this.#live.delete(key)
    const closed: RowKey[] = []
    for (const key of keys) {
      const sessions = this.#live.get(boundsRow(key)) ?? []
      const left = sessions.filter(session => markRow(session.end, key) >= end)
      for (const session of sessions) {
        if (markRow(session.end, key) < end) closed.push(rowOf(session, key))
      }
      for (const session of left) this.#mark(session, key)
      if (left.length > 0) this.#live.put(boundsRow(key), left)
      else this.#live.delete(boundsRow(key))
    }
    this.#nextMarkMs = Number.POSITIVE_INFINITY
    for await (const [first] of this.#live.scan({ gte: end, limit: 1 })) {
      this.#nextMarkMs = decodeTime(first!.key, 1)
    }
    await this.#collect(closed)
    return next !== undefined
  }

  async #collect(closed: readonly RowKey[]): Promise<void> {
    await this.#store.prefetch(closed)
    for (const row of closed) {
      const value = this.#store.get(row)!
      // Written once more, so that those who follow the view learn that it is final.
      this.#store.put(row, value)
      if (this.#spec.emit === 'close') this.#closing.push({ row, value })
    }
    this.#closing.sort((a, b) => a.value.timeMs - b.value.timeMs || (a.row < b.row ? -1 : 1))
  }

  /**
   * Drops the sessions that end before a time; rows lie by their start, so some are kept. False
   * when there are more than a step may drop.
   */
  async #sweepTo(expiredMs: number): Promise<boolean> {
    const { closeRowsMax } = this.#context
    const range = { gte: this.#sweptTo, lt: encodeTime(expiredMs) }
    const { rows, left } = await firstRows(this.#store, range, closeRowsMax)
    for (const { key, value } of rows) this.#leftover.set(key, value.timeMs)
    let dropped = 0
    for (const [row, endMs] of this.#leftover) {
      if (endMs >= expiredMs) continue
      if (++dropped > closeRowsMax) break
      this.#delete(row)
    }
    const done = left === undefined && dropped <= closeRowsMax
    if (done) this.#sweptTo = range.lt
    else if (left !== undefined) this.#sweptTo = left.key
    return done
  }

  close(_watermarkMs: number, out: Outputs): void {
    if (this.#closing.length === 0) return
    const batch = new Batch()
    for (const { row, value } of this.#closing) {
      batch.change(this.#result(row, value.value), undefined)
    }
    this.#closing = []
    out.main = batch
  }

  forwardedWatermark(watermarkMs: number): number {
    const { emit, windows } = this.#spec
    return emit === 'update' ? watermarkMs : watermarkMs - windows.gapMs - windows.graceMs
  }
}

function rowOf({ start, end }: Session, key: RowKey): RowKey {
  return sessionKey(start, key, end)
}

/** The sessions with `next` in place of those it joins, by start. */
function replace(sessions: readonly Session[], met: readonly Session[], next: Session): Session[] {
  const kept = sessions.filter(session => !met.includes(session))
  return [...kept, next].sort((a, b) => a.start - b.start)
}

/**
 * Joins two streams by key within a time distance: inner, left and outer.
 *
 * in     left and right by key, co-partitioned; null keys and values leave by their reason
 * time   right in [left - before, left + after]; a pair joins by law 9: the smaller of each
 *        side's time + reach + grace must not be before the larger of their stream times
 * state  a row a record and side until the watermark passes time + reach + grace; for outer
 *        results (and the hold below) one row for what has no partner yet
 * out    a result a pair, at once, in the trace of its later record, with a link to the other's;
 *        a left or right row without partner once, when it is dropped
 * late   time + reach + grace before the record's own stream time (or watermark, after idleness)
 *
 * A result has the later time of its pair, or with `time: 'right'` that of its right record
 * (and its stream time). A right record that waits for its left one then holds the forwarded
 * watermark at its own time, so that the windows below are still open when the left one comes.
 * With several left records for one right one, those after the first may come late below.
 */
import { hashedKey, KeyColumn } from '../../state/key-column.ts'
import { decodeTime, encodeTime } from '../../state/keys.ts'
import type {
  AppendRow,
  AppendStore,
  ByteRange,
  Codec,
  Probe,
  Row,
  RowKey,
  RowStore,
  StoredRow,
} from '../../state/port.ts'
import { Batch, type Emission, isNull } from '../batch.ts'
import { type Closing, firstRows } from '../closing.ts'
import { Joining, JoinScreening, readKeys, readValue, type Side } from '../joining.ts'
import type { Operator, OperatorContext, Outputs, StoreSpec } from '../operator.ts'
import { type PendingRow, pendingCodec } from '../pending-rows.ts'
import { PendingTimes } from '../pending-times.ts'
import type { KeySerde, ValueSerde } from '../serde.ts'
import { decodeContext, earlierSpan, encodeContext, joined } from '../trace-context.ts'

export interface StreamJoinSpec {
  readonly name: string
  readonly kind: 'inner' | 'left' | 'outer'
  readonly beforeMs: number
  readonly afterMs: number
  readonly graceMs: number
  readonly key: KeySerde<unknown>
  /** Left and right. */
  readonly values: readonly [ValueSerde<unknown>, ValueSerde<unknown>]
  readonly joiner: (left: unknown, right: unknown, key: unknown) => unknown
  readonly time: 'max' | 'right'
}

const SIDES = ['left', 'right'] as const

export function streamJoinStores(spec: StreamJoinSpec): StoreSpec[] {
  const segmentMs = Math.max(Math.ceil((spec.beforeMs + spec.afterMs + spec.graceMs) / 2), 1000)
  const stores: StoreSpec[] = SIDES.map(side => ({
    kind: 'blocks',
    name: `${spec.name}-${side}`,
    segmentMs,
  }))
  if (keepsPending(spec)) {
    const codec = pendingCodec as Codec<unknown>
    stores.push({ kind: 'rows', name: `${spec.name}-pending`, codec })
  }
  return stores
}

function keepsPending(spec: StreamJoinSpec): boolean {
  return spec.kind !== 'inner' || spec.time === 'right'
}

export function streamJoin(spec: StreamJoinSpec, context: OperatorContext): Operator {
  return new StreamJoin(spec, context)
}

type PendingRows = RowStore<readonly PendingRow[]>

class StreamJoin implements Operator {
  readonly #spec: StreamJoinSpec
  readonly #context: OperatorContext
  readonly #sides: readonly [Side, Side]
  readonly #pending: PendingRows | undefined
  /** Close times of pending rows of the side whose time results take. */
  readonly #held = new PendingTimes()
  readonly #now = new Joining()
  /** Keys of the batch at hand, and which of them may have a partner. */
  readonly #keys = new KeyColumn()
  readonly #screening = new JoinScreening()
  /** Pending rows that were read for this batch, or written by it. */
  #pendingRead = new Set<RowKey>()
  #closing: readonly Row<readonly PendingRow[]>[] = []

  constructor(spec: StreamJoinSpec, context: OperatorContext) {
    this.#spec = spec
    this.#context = context
    const side = (port: 0 | 1): Side => {
      const outer = spec.kind === 'outer' || (spec.kind === 'left' && port === 0)
      return {
        port,
        rows: context.appendStore(`${spec.name}-${SIDES[port]}`),
        value: spec.values[port],
        behindMs: port === 0 ? spec.beforeMs : spec.afterMs,
        reachMs: port === 0 ? spec.afterMs : spec.beforeMs,
        pending: outer || (spec.time === 'right' && port === 1),
        outer,
      }
    }
    this.#sides = [side(0), side(1)]
    if (keepsPending(spec)) this.#pending = context.rowStore(`${spec.name}-pending`)
  }

  async resume(): Promise<void> {
    if (this.#pending === undefined || this.#spec.time !== 'right') return
    for await (const rows of this.#pending.scan({})) {
      for (const { key, value } of rows) this.#hold(key, value.length)
    }
  }

  /** Notes or releases rows that hold the watermark: right rows, when results take their time. */
  #hold(row: RowKey, count: number): void {
    if (this.#spec.time !== 'right' || row.charCodeAt(8) !== 1) return
    this.#held.add(decodeTime(row), count)
  }

  /** Last watermark at which a row of this time is still kept. */
  #keptUntil(side: Side, timeMs: number): number {
    return timeMs + side.reachMs + this.#spec.graceMs
  }

  #pendingRow(side: Side, timeMs: number, key: RowKey): RowKey {
    return encodeTime(this.#keptUntil(side, timeMs)) + String.fromCharCode(side.port) + key
  }

  /** Aims at the possible partners of key `i`. */
  #aim(side: Side, input: Batch, i: number): void {
    this.#keys.read(i, key)
    probe.fromMs = input.times[i]! - side.behindMs
    probe.toMs = input.times[i]! + side.reachMs
  }

  prepare(input: Batch, port: number): Promise<void> | undefined {
    const side = this.#sides[port as 0 | 1]
    const { rows } = this.#sides[(1 - port) as 0 | 1]
    readKeys(this.#keys, input, this.#spec.key)
    const loading = rows.resident ? undefined : this.#load(input, side, rows)
    if (this.#pending === undefined) return loading
    return this.#preparePending(input, side, loading)
  }

  #load(input: Batch, side: Side, rows: AppendStore): Promise<void> | undefined {
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) continue
      this.#aim(side, input, i)
      rows.want(probe)
    }
    return rows.load()
  }

  /** Reads the pending rows that may get a partner, and those that a record may add to. */
  async #preparePending(input: Batch, side: Side, loading?: Promise<void>): Promise<void> {
    await loading
    const other = this.#sides[(1 - side.port) as 0 | 1]
    const rows = new Set<RowKey>()
    for (let i = 0; i < input.length; i++) {
      if (isNull(input.keys[i])) continue
      const encoded = this.#spec.key.encode(input.keys[i])
      if (side.pending && this.#hasTwin(side, input, i)) {
        rows.add(this.#pendingRow(side, input.times[i]!, encoded))
      }
      if (!other.pending) continue
      this.#aim(side, input, i)
      other.rows.lookup(probe, row => {
        rows.add(this.#pendingRow(other, row.timeMs, encoded))
      })
    }
    await this.#pending!.prefetch(rows)
    this.#pendingRead = rows
  }

  /**
   * A pending row is shared by records of one side, key and time: only such a twin can have made
   * one already, and it is found in memory, where asking the database would be a miss each time.
   */
  #hasTwin(side: Side, input: Batch, i: number): boolean {
    if (!side.rows.resident) return true
    this.#keys.read(i, key)
    probe.fromMs = input.times[i]!
    probe.toMs = input.times[i]!
    let found = false
    side.rows.lookup(probe, () => {
      found = true
    })
    return found
  }

  process(input: Batch, port: number, out: Outputs): void {
    const side = this.#sides[port as 0 | 1]
    const results = new Batch()
    const watermarkMs = this.#context.watermarkMs()
    const now = this.#now
    const other = this.#sides[(1 - port) as 0 | 1]
    now.begin({ input, side, other, results, out })
    let screened = 0
    for (let i = 0; i < input.length; i++) {
      if (i === screened) screened = this.#screening.screen(now, this.#keys, i)
      if (isNull(input.keys[i])) out.drop(input, i, 'null-key')
      else if (input.values[i] === null) out.drop(input, i, 'poison', 'a null value joins nothing')
      else {
        now.i = i
        now.boundMs = Math.max(input.streamTimes[i]!, watermarkMs)
        now.keptMs = this.#keptUntil(side, input.times[i]!)
        if (now.keptMs >= now.boundMs) this.#join(now)
        else
          out.drop(input, i, 'late', `${this.#spec.name} keeps no ${SIDES[side.port]} rows so old`)
      }
    }
    out.main = results
  }

  #join(now: Joining): void {
    const { input, i, side, other } = now
    now.matched = false
    this.#aim(side, input, i)
    if (this.#screening.hits[i] === 1) {
      if (other.pending) now.key = this.#spec.key.encode(input.keys[i])
      other.rows.lookup(probe, this.#visit)
    }
    readValue(value, input, i, side.value)
    appended.timeMs = input.times[i]!
    appended.streamTimeMs = input.streamTimes[i]!
    const span = input.traces?.get(i)
    appended.trace = span && encodeContext(span.spanContext())
    side.rows.append(appended)
    if (!now.matched && side.pending) this.#await(side, input, i)
  }

  /** Judges a row of the other side for the record in `#now`. */
  readonly #visit = (row: StoredRow): void => {
    const now = this.#now
    const { input, i, other, out } = now
    const earliest = Math.min(now.keptMs, this.#keptUntil(other, row.timeMs))
    if (earliest < Math.max(now.boundMs, row.streamTimeMs)) return
    now.matched = true
    if (other.pending) {
      this.#settle(this.#pendingRow(other, row.timeMs, now.key), row.streamTimeMs)
    }
    try {
      this.#emit(now, row)
    } catch (error) {
      // The record waits for its other partners.
      out.fail(input, i, error, { reason: 'poison', isPart: true })
    }
  }

  #emit({ input, i, side, other, results }: Joining, row: StoredRow): void {
    const timeMs = input.times[i]!
    const streamTimeMs = input.streamTimes[i]!
    const key = input.keys[i]
    const value = input.values[i]
    const ofRight = this.#spec.time === 'right'
    const ownIsRight = side.port === 1
    emission.timeMs = Math.max(timeMs, row.timeMs)
    emission.streamTimeMs = Math.max(streamTimeMs, row.streamTimeMs)
    if (ofRight) {
      emission.timeMs = ownIsRight ? timeMs : row.timeMs
      emission.streamTimeMs = ownIsRight ? streamTimeMs : row.streamTimeMs
    }
    const partner = other.value.decode(row.bytes, row.valueStart, row.valueEnd)
    emission.key = key
    emission.value = ownIsRight
      ? this.#spec.joiner(partner, value, key)
      : this.#spec.joiner(value, partner, key)
    emission.source = input.sources[i]!
    emission.offset = input.offsets[i]!
    results.emit(emission)
    if (input.isReleased(i)) results.release(results.length - 1)
    const stored = row.traceStart < 0 ? undefined : decodeContext(row.bytes, row.traceStart)
    results.trace(joined(stored && earlierSpan(stored), input.traces?.get(i)))
  }

  /** A record without a partner yet, whose value was just appended. */
  #await(side: Side, input: Batch, i: number): void {
    const row = this.#pendingRow(side, input.times[i]!, this.#spec.key.encode(input.keys[i]))
    const { bytes, start, end } = value
    // Only outer sides emit the value; the others just hold the watermark.
    const kept = side.outer ? Buffer.from(bytes.subarray(start, end)) : NO_VALUE
    const pending = { streamTimeMs: input.streamTimes[i]!, value: kept }
    const waiting = this.#pendingRead.has(row) ? this.#pending!.get(row) : undefined
    this.#pending!.put(row, [...(waiting ?? []), pending])
    this.#pendingRead.add(row)
    this.#hold(row, 1)
  }

  /** Rows of one key, time and stream time have the same partners: all leave at the first. */
  #settle(row: RowKey, streamTimeMs: number): void {
    const waiting = this.#pending!.get(row)
    if (waiting === undefined) return
    const left = waiting.filter(pending => pending.streamTimeMs !== streamTimeMs)
    if (left.length === waiting.length) return
    this.#hold(row, left.length - waiting.length)
    if (left.length === 0) this.#pending!.delete(row)
    else this.#pending!.put(row, left)
  }

  prepareClose(watermarkMs: number): Promise<Closing | undefined> | undefined {
    return this.#pending && this.#close(this.#pending, Math.max(watermarkMs, 0))
  }

  async #close(pending: PendingRows, watermarkMs: number): Promise<Closing | undefined> {
    const end = encodeTime(watermarkMs)
    const { rows, left } = await firstRows(pending, { lt: end }, this.#context.closeRowsMax)
    this.#closing = rows
    await pending.deleteRange('', left?.key ?? end)
    if (rows.length > 0) this.#context.reached('close-mid')
    // A row closes when the watermark is beyond its time.
    return left && { closedMs: decodeTime(left.key), row: '' }
  }

  close(watermarkMs: number, out: Outputs): void {
    for (const side of this.#sides) {
      side.rows.expire(watermarkMs - side.reachMs - this.#spec.graceMs)
    }
    if (this.#closing.length === 0) return
    const results = new Batch()
    for (const { key: row, value: pending } of this.#closing) {
      this.#hold(row, -pending.length)
      const side = this.#sides[row.charCodeAt(8) as 0 | 1]
      if (!side.outer) continue
      const timeMs = decodeTime(row) - side.reachMs - this.#spec.graceMs
      const key = this.#spec.key.decode(row.slice(9))
      for (const { value: bytes } of pending) {
        const value = side.value.decode(bytes, 0, bytes.length)
        emission.key = key
        emission.value =
          side.port === 0
            ? this.#spec.joiner(value, null, key)
            : this.#spec.joiner(null, value, key)
        emission.timeMs = timeMs
        emission.streamTimeMs = timeMs
        emission.source = -1
        emission.offset = 0
        results.emit(emission)
      }
    }
    this.#closing = []
    out.main = results
  }

  forwardedWatermark(watermarkMs: number): number {
    let holdMs = 0
    for (const side of this.#sides) {
      if (side.outer) holdMs = Math.max(holdMs, side.reachMs + this.#spec.graceMs)
    }
    const first = this.#held.first()
    const waiting = first - this.#spec.beforeMs - this.#spec.graceMs
    return Math.min(watermarkMs - holdMs, waiting)
  }
}

const NO_VALUE = Buffer.alloc(0)
const key = hashedKey('')
const value: ByteRange = { bytes: NO_VALUE, start: 0, end: 0 }
const probe: Probe = { key, fromMs: 0, toMs: 0 }
const appended: AppendRow = { key, value, timeMs: 0, streamTimeMs: 0, trace: undefined }
const emission: Emission<unknown, unknown> = {
  key: null,
  value: null,
  timeMs: 0,
  streamTimeMs: 0,
  source: 0,
  offset: 0,
}

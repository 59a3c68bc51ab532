/**
 * The row of a versioned step, version 2: the records of a key by their order keys (law 16), behind
 * what those before the kept history came to. As of a time, the value is what the records up to it
 * add up to: history and replay are one. Integers are big-endian.
 *
 *     row  = format:uint8 length:uint32 key base records      (`ordered-records.ts`)
 *     base = 00                                                 all records are kept
 *          | 03 last                                            the others came to nothing
 *          | 04 last length:uint32 state
 *     last = time:float64 source:int32 offset:float64
 *
 * `last` is the last record in the base: what was before its time is no longer known. Of rows of
 * version 1, 01 for 03 and 02 for 04, it has only the time. Rows without a base are of version 1.
 * The note of a record is 1 where it has no value.
 */
import type { Codec, RowKey } from '../state/port.ts'
import { streamsError } from './errors.ts'
import {
  compareOrder,
  type OrderedRecord,
  type OrderKey,
  orderedRecordsCodec,
  withRecord,
} from './ordered-records.ts'
import type { KeySerde, Timed, ValueSerde } from './serde.ts'

/** Version 1 is that of rows whose base, if any, has only its time. */
const FORMAT_VERSION = 2
/** Beside its value, about. */
const RECORD_BYTES = 32

/** The note of a record without value. */
export const NO_VALUE = 1

/** How the records of a key add up to its value. */
export interface Replay {
  readonly name: string
  readonly key: KeySerde<unknown>
  readonly value: ValueSerde<unknown>
  readonly state: Codec<unknown>
  /** `state` is undefined where there is none, `value` null in a deletion. Null: no state. */
  readonly add: (state: unknown, value: unknown, key: unknown) => unknown
  /** The last record alone makes the value. */
  readonly lastOnly: boolean
}

/** Behind all records of its time: what is not known to be later has no place behind it. */
const LAST = Number.POSITIVE_INFINITY

/** The order key of its last record, and what all came to. */
interface Base extends OrderKey {
  readonly state: Buffer | undefined
}

const UNKNOWN = Symbol('unknown')

export class VersionedRow implements Timed<unknown> {
  readonly key: RowKey
  readonly records: readonly OrderedRecord[]
  readonly #replay: Replay
  readonly #base: Base | undefined
  #value: unknown = UNKNOWN

  constructor(
    replay: Replay,
    key: RowKey,
    records: readonly OrderedRecord[] = [],
    base: Base | undefined = undefined,
  ) {
    this.#replay = replay
    this.key = key
    this.records = records
    this.#base = base
  }

  get base(): Base | undefined {
    return this.#base
  }

  get timeMs(): number {
    return this.records.at(-1)?.timeMs ?? this.#base?.timeMs ?? 0
  }

  /** The value as of now, null where there is none. */
  get value(): unknown {
    if (this.#value === UNKNOWN) this.#value = this.#after(this.records.length)
    return this.#value
  }

  /** The value as of a time, null where there was none. Throws HISTORY_GONE. */
  asOf(timeMs: number): unknown {
    if (this.#base !== undefined && timeMs < this.#base.timeMs) {
      const { name, key } = this.#replay
      const view = `${name}, key ${JSON.stringify(key.decode(this.key))},`
      throw streamsError('HISTORY_GONE', { view, historyFrom: this.#base.timeMs, asOf: timeMs })
    }
    const after = this.records.findLastIndex(record => record.timeMs <= timeMs) + 1
    return after === this.records.length ? this.value : this.#after(after)
  }

  /** Whether a record still has its place: behind those that are added up. */
  takes(record: OrderKey): boolean {
    return this.#base === undefined || compareOrder(record, this.#base) >= 0
  }

  /** The row with one more record. Throws what adding up throws. */
  with(record: OrderedRecord): VersionedRow {
    const { add, lastOnly, state } = this.#replay
    const records = withRecord(this.records, record)
    const row = new VersionedRow(this.#replay, this.key, records, this.#base)
    const isLast = records.at(-1) === record
    if (lastOnly) {
      if (!isLast) row.#value = this.#value
    } else if (isLast && this.#value !== UNKNOWN && !state.mutable) {
      const before = this.#value ?? undefined
      row.#value = add(before, this.#valueOf(record), this.#decodedKey()) ?? null
    } else row.#value = row.#after(records.length)
    return row
  }

  /** The row without the records before a time, and without the older half of too many bytes. */
  trimmed(horizonMs: number, bytesMax: number): VersionedRow {
    const { records } = this
    let folded = records.findIndex(({ timeMs }) => timeMs >= horizonMs)
    if (folded < 0) folded = records.length
    let bytes = 0
    for (const { value } of records) bytes += RECORD_BYTES + value.length
    if (bytes > bytesMax) {
      for (let i = 0; i < records.length && bytes > bytesMax / 2; i++) {
        bytes -= RECORD_BYTES + records[i]!.value.length
        folded = Math.max(folded, i + 1)
      }
    }
    if (folded === 0) return this
    const value = this.#after(folded)
    const state = value === null ? undefined : this.#replay.state.encode(value)
    const { timeMs, source, offset } = records[folded - 1]!
    const base = { timeMs, source, offset, state }
    const row = new VersionedRow(this.#replay, this.key, records.slice(folded), base)
    row.#value = this.#value
    return row
  }

  /** What the base and so many records add up to. */
  #after(count: number): unknown {
    const { add, lastOnly, state } = this.#replay
    if (lastOnly && count > 0) return this.#valueOf(this.records[count - 1]!)
    const stored = this.#base?.state
    let value: unknown = stored === undefined ? undefined : state.decode(stored)
    if (count === 0) return value ?? null
    const key = this.#decodedKey()
    for (let i = 0; i < count; i++) {
      value = add(value, this.#valueOf(this.records[i]!), key) ?? undefined
    }
    return value ?? null
  }

  #decodedKey(): unknown {
    return this.#replay.key.decode(this.key)
  }

  #valueOf({ note, value }: OrderedRecord): unknown {
    return note === NO_VALUE ? null : this.#replay.value.decode(value, 0, value.length)
  }
}

const HEAD_BYTES = 5
/** Without its state. */
const BASE_BYTES = 21
const OLD_BASE_BYTES = 9

export function versionedRowCodec(replay: Replay): Codec<VersionedRow> {
  return {
    encode({ key, base, records }) {
      const isOld = base?.source === LAST
      const baseBytes = base === undefined ? 1 : isOld ? OLD_BASE_BYTES : BASE_BYTES
      const head = Buffer.alloc(HEAD_BYTES + key.length + baseBytes)
      head[0] = base === undefined || isOld ? 1 : FORMAT_VERSION
      head.writeUInt32BE(key.length, 1)
      const p = HEAD_BYTES + head.latin1Write(key, HEAD_BYTES)
      const parts: Buffer[] = [head]
      if (base !== undefined) {
        head[p] = (isOld ? 1 : 3) + (base.state === undefined ? 0 : 1)
        head.writeDoubleBE(base.timeMs, p + 1)
        if (!isOld) {
          head.writeInt32BE(base.source, p + 9)
          head.writeDoubleBE(base.offset, p + 13)
        }
        if (base.state !== undefined) {
          const length = Buffer.allocUnsafe(4)
          length.writeUInt32BE(base.state.length)
          parts.push(length, base.state)
        }
      }
      return Buffer.concat([...parts, orderedRecordsCodec.encode(records)])
    },
    decode(bytes) {
      if (bytes[0]! < 1 || bytes[0]! > FORMAT_VERSION) {
        throw new RangeError(`a versioned row has format ${FORMAT_VERSION}, not ${bytes[0]}`)
      }
      let p = HEAD_BYTES + bytes.readUInt32BE(1)
      const key = bytes.latin1Slice(HEAD_BYTES, p)
      const kind = bytes.readUInt8(p++)
      let base: Base | undefined
      if (kind > 0) {
        const timeMs = bytes.readDoubleBE(p)
        const isOld = kind < 3
        const order = isOld
          ? { source: LAST, offset: LAST }
          : { source: bytes.readInt32BE(p + 8), offset: bytes.readDoubleBE(p + 12) }
        p += (isOld ? OLD_BASE_BYTES : BASE_BYTES) - 1
        const start = p + 4
        const hasState = kind % 2 === 0
        const end = hasState ? start + bytes.readUInt32BE(p) : p
        base = { timeMs, ...order, state: hasState ? bytes.subarray(start, end) : undefined }
        p = end
      }
      if (p > bytes.length) throw new RangeError('a versioned row ends early')
      return new VersionedRow(replay, key, orderedRecordsCodec.decode(bytes.subarray(p)), base)
    },
  }
}

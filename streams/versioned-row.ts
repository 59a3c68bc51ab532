/**
 * The row of a versioned step, version 1: the records of a key by their order keys (law 16), behind
 * what those before the kept history came to. As of a time, the value is what the records up to it
 * add up to: history and replay are one. Integers are big-endian.
 *
 *     row  = format:uint8=1 length:uint32 key base records      (`ordered-records.ts`)
 *     base = 00                                                 all records are kept
 *          | 01 time:float64                                    the others came to nothing
 *          | 02 time:float64 length:uint32 state
 *
 * `time` is that of the last record in the base: what was before it is no longer known. The note of
 * a record is 1 where it has no value.
 */
import type { Codec, RowKey } from '../state/port.ts'
import { streamsError } from './errors.ts'
import { type OrderedRecord, orderedRecordsCodec, withRecord } from './ordered-records.ts'
import type { KeySerde, Timed, ValueSerde } from './serde.ts'

const FORMAT_VERSION = 1
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

interface Base {
  readonly timeMs: number
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

  /** Whether a record of this time still has its place. */
  takes(timeMs: number): boolean {
    return this.#base === undefined || timeMs > this.#base.timeMs
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
    // Records of one time go together: as of it, all of them count.
    while (folded > 0 && records[folded]?.timeMs === records[folded - 1]!.timeMs) folded++
    if (folded === 0) return this
    const value = this.#after(folded)
    const state = value === null ? undefined : this.#replay.state.encode(value)
    const base = { timeMs: records[folded - 1]!.timeMs, state }
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

export function versionedRowCodec(replay: Replay): Codec<VersionedRow> {
  return {
    encode({ key, base, records }) {
      const head = Buffer.alloc(HEAD_BYTES + key.length + (base === undefined ? 1 : 9))
      head[0] = FORMAT_VERSION
      head.writeUInt32BE(key.length, 1)
      const p = HEAD_BYTES + head.latin1Write(key, HEAD_BYTES)
      const parts: Buffer[] = [head]
      if (base !== undefined) {
        head[p] = base.state === undefined ? 1 : 2
        head.writeDoubleBE(base.timeMs, p + 1)
        if (base.state !== undefined) {
          const length = Buffer.allocUnsafe(4)
          length.writeUInt32BE(base.state.length)
          parts.push(length, base.state)
        }
      }
      return Buffer.concat([...parts, orderedRecordsCodec.encode(records)])
    },
    decode(bytes) {
      if (bytes[0] !== FORMAT_VERSION) {
        throw new RangeError(`a versioned row has format ${FORMAT_VERSION}, not ${bytes[0]}`)
      }
      let p = HEAD_BYTES + bytes.readUInt32BE(1)
      const key = bytes.latin1Slice(HEAD_BYTES, p)
      const kind = bytes.readUInt8(p++)
      let base: Base | undefined
      if (kind > 0) {
        const timeMs = bytes.readDoubleBE(p)
        p += 8
        const start = p + 4
        const end = kind === 2 ? start + bytes.readUInt32BE(p) : p
        base = { timeMs, state: kind === 2 ? bytes.subarray(start, end) : undefined }
        p = end
      }
      if (p > bytes.length) throw new RangeError('a versioned row ends early')
      return new VersionedRow(replay, key, orderedRecordsCodec.decode(bytes.subarray(p)), base)
    },
  }
}

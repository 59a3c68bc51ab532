/**
 * Values with the time from which they hold, over a `RowStore`: what was the value of this key as
 * of that time? Versions may be put in any order, a tombstone is a version without value.
 *
 *     put k=v1@10, k=v3@30, k=v2@20     v1 [10, 20)  v2 [20, 30)  v3 [30, ∞)
 *
 * All versions of a key are one row, so that a lookup is a point get and a batch's lookups are
 * one multi-get; a row stays small because versions are dropped that ended before the horizon.
 * The changelog record carries the whole row, so compaction loses no version that is kept.
 *
 *     row     = format:uint8=1 version*                  (by time, ascending)
 *     version = time:varlong (first), delta:varlong (others)
 *               length:varint (-1: no value) bytes
 */
import {
  type Cursor,
  readVarint,
  readVarlong,
  varintSize,
  varlongSize,
  writeVarint,
  writeVarlong,
} from '../log/varint.ts'
import { assert } from './errors.ts'
import type { Codec, RowKey, RowStore } from './port.ts'

const FORMAT_VERSION = 1

export interface Version<V> {
  /** Undefined where the key was deleted. */
  readonly value: V | undefined
  /** It holds in `[fromMs, toMs)`; the newest version's `toMs` is infinite. */
  readonly fromMs: number
  readonly toMs: number
}

/** One version as stored: its value and the time from which it holds. */
export interface VersionRow<V> {
  readonly value: V | undefined
  readonly fromMs: number
}

export type VersionRows<V> = readonly VersionRow<V>[]

/** The codec of the row store under a `VersionedStore`. */
export function versionsCodec<V>(values: Codec<V>): Codec<VersionRows<V>> {
  return {
    encode: rows => encodeVersions(rows, values),
    decode: bytes => decodeVersions(bytes, values),
  }
}

function encodeVersions<V>(rows: VersionRows<V>, values: Codec<V>): Buffer {
  const encoded = rows.map(({ value }) => (value === undefined ? null : values.encode(value)))
  let size = 1
  rows.forEach(({ fromMs }, i) => {
    const length = encoded[i]?.length ?? -1
    size += varlongSize(fromMs - (rows[i - 1]?.fromMs ?? 0)) + varintSize(length)
    size += Math.max(length, 0)
  })
  const bytes = Buffer.allocUnsafe(size)
  bytes[0] = FORMAT_VERSION
  let p = 1
  rows.forEach(({ fromMs }, i) => {
    const value = encoded[i] ?? null
    p = writeVarlong(bytes, p, fromMs - (rows[i - 1]?.fromMs ?? 0))
    p = writeVarint(bytes, p, value?.length ?? -1)
    if (value !== null) p += value.copy(bytes, p)
  })
  return bytes
}

function decodeVersions<V>(bytes: Buffer, values: Codec<V>): VersionRows<V> {
  if (bytes[0] !== FORMAT_VERSION) {
    throw new RangeError(`a row of versions has format ${FORMAT_VERSION}, not ${bytes[0]}`)
  }
  const rows: VersionRow<V>[] = []
  const cursor: Cursor = { position: 1 }
  let fromMs = 0
  while (cursor.position < bytes.length) {
    fromMs += readVarlong(bytes, cursor)
    const length = readVarint(bytes, cursor)
    const start = cursor.position
    const end = start + Math.max(length, 0)
    if (!(length >= -1 && end <= bytes.length)) throw new RangeError('a version is cut off')
    rows.push({ fromMs, value: length < 0 ? undefined : values.decode(bytes.subarray(start, end)) })
    cursor.position = end
  }
  return rows
}

export class VersionedStore<V> {
  readonly #rows: RowStore<VersionRows<V>>

  /** The row store's codec is `versionsCodec`. */
  constructor(rows: RowStore<VersionRows<V>>) {
    this.#rows = rows
  }

  /** Makes calls for these keys possible without I/O until the next seal. */
  prefetch(keys: Iterable<RowKey>): Promise<void> | undefined {
    return this.#rows.prefetch(keys)
  }

  /** The version in force at a time; undefined where none was put at or before it. */
  asOf(key: RowKey, timeMs: number): Version<V> | undefined {
    return versionAt(this.#rows.get(key) ?? [], timeMs)
  }

  latest(key: RowKey): Version<V> | undefined {
    return this.asOf(key, Number.POSITIVE_INFINITY)
  }

  /** All versions that are kept, by time. */
  history(key: RowKey): Version<V>[] {
    const rows = this.#rows.get(key) ?? []
    return rows.map((_, i) => versionOf(rows, i))
  }

  /**
   * The key has this value from `fromMs` on, until the next version; undefined deletes it. A
   * second put of the same time replaces the first. Versions that ended at or before `horizonMs`
   * are dropped. A put before the horizon is late: it changes nothing, and the result is false.
   */
  put(key: RowKey, value: V | undefined, { fromMs, horizonMs }: PutTimes): boolean {
    assert(Number.isSafeInteger(fromMs), 'a version holds from a whole ms')
    // What was dropped might have ended it: nobody knows any more how long it held.
    if (fromMs < horizonMs) return false
    const before = this.#rows.get(key) ?? []
    const at = positionOf(before, fromMs)
    const replaced = before[at]?.fromMs === fromMs ? 1 : 0
    const after = before.toSpliced(at, replaced, { value, fromMs })
    const kept = after.filter((_, i) => (after[i + 1]?.fromMs ?? Infinity) > horizonMs)
    // A deletion that nothing older hides behind says no more than no version at all.
    while (kept.length > 0 && kept[0]!.value === undefined && kept[0]!.fromMs <= horizonMs) {
      kept.shift()
    }
    if (kept.length > 0) this.#rows.put(key, kept)
    else if (before.length > 0) this.#rows.delete(key)
    return true
  }
}

export interface PutTimes {
  readonly fromMs: number
  /** Nobody asks for a time before it, and it never goes back. */
  readonly horizonMs: number
}

/** Index of the first version at or after a time. */
function positionOf(rows: VersionRows<unknown>, timeMs: number): number {
  let low = 0
  let high = rows.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (rows[middle]!.fromMs < timeMs) low = middle + 1
    else high = middle
  }
  return low
}

function versionOf<V>(rows: VersionRows<V>, i: number): Version<V> {
  const { value, fromMs } = rows[i]!
  return { value, fromMs, toMs: rows[i + 1]?.fromMs ?? Number.POSITIVE_INFINITY }
}

/** The version in force at a time, of versions in their order: for readers of committed rows. */
export function versionAt<V>(rows: VersionRows<V>, timeMs: number): Version<V> | undefined {
  const at = positionOf(rows, timeMs)
  const index = rows[at]?.fromMs === timeMs ? at : at - 1
  return index < 0 ? undefined : versionOf(rows, index)
}

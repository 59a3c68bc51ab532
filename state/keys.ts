/**
 * Key encodings, version 1: order-preserving binary strings (`RowKey`, one latin1 unit a byte).
 *
 *     text       = UTF-8 bytes                        (a whole key: ordered as its code points)
 *     fields     = field*                             (compares field by field)
 *     field      = UTF-8 with 00 as 00 FF, then 00 01
 *     time       = int64 big-endian, sign bit flipped (ms since 1970; safe integers)
 *     window row = time(window start) key
 *     session row = time(first event) field(key) time(last event)
 *
 * In the database: 'S' rows, 'B' blocks, 'M' metadata; 'L', 'T', 'G' and 'I' are the log's.
 *
 *     row        = 'S' store 00 partition:uint16 key
 *     block      = 'B' store 00 partition:uint16 …    (see `append-format.ts`)
 *     metadata   = 'M' store 00 partition:uint16 name
 */
import { assert } from './errors.ts'
import type { RowKey } from './port.ts'

const scratch = Buffer.allocUnsafeSlow(4096)

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}

/** A text as UTF-8, a unit a byte. Lone surrogates become U+FFFD, as everywhere in Node. */
export function encodeText(text: string): RowKey {
  if (isAscii(text)) return text
  if (text.length * 3 > scratch.length) return Buffer.from(text).latin1Slice()
  return scratch.latin1Slice(0, scratch.utf8Write(text, 0))
}

export function decodeText(row: RowKey): string {
  return isAscii(row) ? row : Buffer.from(row, 'latin1').utf8Slice()
}

const FIELD_END = '\x00\x01'

/** Texts, one after the other, so that keys sort by the first, then the second, … */
export function encodeTextFields(fields: readonly string[]): RowKey {
  let row = ''
  for (const field of fields) {
    const text = encodeText(field)
    row += (text.includes('\0') ? text.replaceAll('\0', '\x00\xff') : text) + FIELD_END
  }
  return row
}

/** Throws when `row` does not hold exactly `count` fields. */
export function decodeTextFields(row: RowKey, count: number): string[] {
  const fields: string[] = []
  let start = 0
  while (start < row.length) {
    let end = row.indexOf('\0', start)
    while (end >= 0 && row.charCodeAt(end + 1) === 0xff) end = row.indexOf('\0', end + 2)
    if (end < 0 || row.charCodeAt(end + 1) !== 1) throw new RangeError('a key field has no end')
    fields.push(decodeText(row.slice(start, end).replaceAll('\x00\xff', '\0')))
    start = end + 2
  }
  if (fields.length !== count) {
    throw new RangeError(`a key of ${fields.length} fields where ${count} are expected`)
  }
  return fields
}

const TWO_32 = 0x1_0000_0000
/** Direct-mapped: hopping windows and those of several steps ask for the same times again. */
const timeSlots = 512
const knownTimes = new Float64Array(timeSlots).fill(Number.NaN)
const knownRows: RowKey[] = new Array(timeSlots).fill('')

/**
 * A safe integer of ms as 8 bytes that sort as it does. What is no safe integer can only bound a
 * range: fractions are rounded up, and times beyond the last safe integer become it.
 */
export function encodeTime(timeMs: number): RowKey {
  // Windows begin at round times, whose low digits tell nothing.
  const slot = Math.floor(timeMs / 60_000 + timeMs / 1000) & (timeSlots - 1)
  if (knownTimes[slot] === timeMs) return knownRows[slot]!
  if (Number.isNaN(timeMs)) throw new TypeError('a time is a number')
  const bounded = Math.min(
    Math.max(Math.ceil(timeMs), Number.MIN_SAFE_INTEGER),
    Number.MAX_SAFE_INTEGER,
  )
  const high = Math.floor(bounded / TWO_32)
  scratch.writeUInt32BE((high ^ 0x8000_0000) >>> 0, 0)
  scratch.writeUInt32BE(bounded - high * TWO_32, 4)
  const row = scratch.latin1Slice(0, 8)
  knownTimes[slot] = timeMs
  knownRows[slot] = row
  return row
}

/** The time at `position` of a row key. */
export function decodeTime(row: RowKey, position = 0): number {
  const unit = (i: number) => row.charCodeAt(position + i)
  const high = ((unit(0) << 24) | (unit(1) << 16) | (unit(2) << 8) | unit(3)) ^ 0x8000_0000
  const low = unit(4) * 0x100_0000 + ((unit(5) << 16) | (unit(6) << 8) | unit(7))
  return high * TWO_32 + low
}

/** Row of a window: rows sort by window start, then by key. */
export function windowKey(windowStartMs: number, key: RowKey): RowKey {
  return encodeTime(windowStartMs) + key
}

export function windowStartOf(row: RowKey): number {
  return decodeTime(row)
}

export function rowKeyOfWindow(row: RowKey): RowKey {
  return row.slice(8)
}

/** A key as a field: nothing that follows it changes its order, and its end can be found. */
export function keyField(key: RowKey): RowKey {
  return (key.includes('\0') ? key.replaceAll('\0', '\x00\xff') : key) + FIELD_END
}

/** The key whose field is `row[start, end)`. */
export function keyOfField(row: RowKey, start: number, end: number): RowKey {
  return row.slice(start, end - FIELD_END.length).replaceAll('\x00\xff', '\0')
}

/** Row of a session: rows sort by first event, then by key. */
export function sessionKey(startMs: number, key: RowKey, endMs: number): RowKey {
  return encodeTime(startMs) + keyField(key) + encodeTime(endMs)
}

export function sessionOfRow(row: RowKey): { start: number; key: RowKey; end: number } {
  const end = row.length - 8
  return { start: decodeTime(row), key: keyOfField(row, 8, end), end: decodeTime(row, end) }
}

function prefix(kind: 'S' | 'B' | 'M', store: string, partition: number): string {
  assert(!store.includes('\0'), 'a store name has no NUL')
  return `${kind}${store}\0${String.fromCharCode(partition >> 8, partition & 0xff)}`
}

/** Database prefix of a store's rows; the partition is a uint16. */
export function rowsPrefix(store: string, partition: number): string {
  return prefix('S', store, partition)
}

export function blocksPrefix(store: string, partition: number): string {
  return prefix('B', store, partition)
}

export function metadataKey(store: string, partition: number, name: string): Buffer {
  return Buffer.from(prefix('M', store, partition) + name, 'latin1')
}

/** The first key after all that begin with `row`; undefined when there is none. */
export function afterPrefix(row: RowKey): RowKey | undefined {
  let end = row.length
  while (end > 0 && row.charCodeAt(end - 1) === 0xff) end--
  if (end === 0) return undefined
  return row.slice(0, end - 1) + String.fromCharCode(row.charCodeAt(end - 1) + 1)
}

const KEY_BYTES_SHOWN = 64

/** Printable bytes as they are, others as `\\x00`. */
export function keyText(key: Uint8Array): string {
  const shown = Buffer.from(key.subarray(0, KEY_BYTES_SHOWN)).latin1Slice()
  const text = shown.replace(/[^ -[\]-~]/g, unit => {
    return `\\x${unit.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
  return key.length > KEY_BYTES_SHOWN ? `${text}…` : text
}

/**
 * Kafka's variable-length integers: zigzag, then seven bits a byte, low bits first.
 *
 *     varint   up to 5 bytes, 32-bit signed
 *     varlong  up to 10 bytes, 64-bit signed; here a JS number, so exact to 2^53
 */

const TWO_28 = 2 ** 28
const TWO_32 = 2 ** 32

/** Bytes that `writeVarint` needs for a 32-bit signed integer. */
export function varintSize(value: number): number {
  const zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  if (zigzag < 0x80) return 1
  if (zigzag < 0x4000) return 2
  if (zigzag < 0x20_0000) return 3
  return zigzag < TWO_28 ? 4 : 5
}

/** Writes a 32-bit signed integer at `position`; returns the position after it. */
export function writeVarint(bytes: Uint8Array, position: number, value: number): number {
  let zigzag = ((value << 1) ^ (value >> 31)) >>> 0
  let p = position
  while (zigzag >= 0x80) {
    bytes[p++] = zigzag | 0x80
    zigzag >>>= 7
  }
  bytes[p++] = zigzag
  return p
}

/** Bytes that `writeVarlong` needs; `value` is a safe integer. */
export function varlongSize(value: number): number {
  if (value >= -0x4000_0000 && value < 0x4000_0000) return varintSize(value)
  let zigzag = value < 0 ? -2 * value - 1 : 2 * value
  let size = 1
  while (zigzag >= 0x80) {
    zigzag = Math.floor(zigzag / 128)
    size++
  }
  return size
}

/** Writes a safe integer at `position`; returns the position after it. */
export function writeVarlong(bytes: Uint8Array, position: number, value: number): number {
  if (value >= -0x4000_0000 && value < 0x4000_0000) return writeVarint(bytes, position, value)
  // 2 * value may pass 2^53, but stays exact: it is even, or one less than an even number that
  // fits, for every timestamp up to 2^52 (year 142,000).
  let zigzag = value < 0 ? -2 * value - 1 : 2 * value
  let p = position
  while (zigzag >= 0x80) {
    bytes[p++] = (zigzag % 128) | 0x80
    zigzag = Math.floor(zigzag / 128)
  }
  bytes[p++] = zigzag
  return p
}

/** The nearest safe integer: foreign timestamps may be any 64-bit value. */
export function saturate(value: number): number {
  return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, value))
}

/** A read position that moves: the slow path of decoders, which inline the one-byte case. */
export interface Cursor {
  position: number
}

/** Reads a varint at the cursor and moves it; NaN, cursor unmoved, where there is none. */
export function readVarint(bytes: Uint8Array, cursor: Cursor): number {
  let zigzag = 0
  let p = cursor.position
  for (let shift = 0; shift < 35; shift += 7) {
    if (p >= bytes.length) return Number.NaN
    const byte = bytes[p++]
    zigzag |= (byte & 0x7f) << shift
    if (byte < 0x80) {
      if (shift === 28 && byte > 0x0f) return Number.NaN
      cursor.position = p
      return (zigzag >>> 1) ^ -(zigzag & 1)
    }
  }
  return Number.NaN
}

/** Reads a varlong at the cursor and moves it; NaN, cursor unmoved, where there is none. */
export function readVarlong(bytes: Uint8Array, cursor: Cursor): number {
  let zigzag = 0
  let weight = 1
  let p = cursor.position
  for (let i = 0; i < 10; i++) {
    if (p >= bytes.length) return Number.NaN
    const byte = bytes[p++]
    zigzag += (byte & 0x7f) * weight
    weight *= 128
    if (byte < 0x80) {
      if (i === 9 && byte > 1) return Number.NaN
      cursor.position = p
      if (zigzag < TWO_32) return (zigzag >>> 1) ^ -(zigzag & 1)
      const value = zigzag / 2
      // Beyond 2^53 the low bit is lost in the sum, so the sign is read from the first byte.
      return saturate(bytes[p - i - 1] & 1 ? -(value + 0.5) : value)
    }
  }
  return Number.NaN
}

/**
 * CRC-32C (Castagnoli), which covers a record batch. Native where the optional package
 * `@node-rs/crc32` has a binary for the platform; otherwise tables, eight bytes a step.
 */
import { createRequire } from 'node:module'

const POLYNOMIAL = 0x82f63b78
/** Below this many bytes the call into native code costs more than the tables. */
const NATIVE_BYTES_MIN = 256

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
    tables[byte] = crc
  }
  for (let i = 256; i < tables.length; i++) {
    const previous = tables[i - 256]
    tables[i] = (previous >>> 8) ^ tables[previous & 255]
  }
  return tables
}

const T = makeTables()

/** The table version; exported so that tests compare the two. Returns an unsigned 32-bit number. */
export function crc32cByTable(bytes: Uint8Array, start: number, end: number): number {
  let crc = -1
  let p = start
  for (const last = end - 7; p < last; p += 8) {
    const low = crc ^ (bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24))
    crc =
      T[1792 + (low & 255)] ^
      T[1536 + ((low >>> 8) & 255)] ^
      T[1280 + ((low >>> 16) & 255)] ^
      T[1024 + (low >>> 24)] ^
      T[768 + bytes[p + 4]] ^
      T[512 + bytes[p + 5]] ^
      T[256 + bytes[p + 6]] ^
      T[bytes[p + 7]]
  }
  for (; p < end; p++) crc = (crc >>> 8) ^ T[(crc ^ bytes[p]) & 255]
  return ~crc >>> 0
}

type NativeCrc = (bytes: Uint8Array) => number

function loadNative(): NativeCrc | undefined {
  try {
    return (createRequire(import.meta.url)('@node-rs/crc32') as { crc32c: NativeCrc }).crc32c
  } catch {
    return undefined
  }
}

let native: NativeCrc | undefined
let nativeAsked = false

/** CRC-32C of `bytes[start, end)` as an unsigned 32-bit number. */
export function crc32c(bytes: Buffer, start = 0, end = bytes.length): number {
  if (end - start < NATIVE_BYTES_MIN) return crc32cByTable(bytes, start, end)
  if (!nativeAsked) {
    nativeAsked = true
    native = loadNative()
  }
  return native ? native(bytes.subarray(start, end)) : crc32cByTable(bytes, start, end)
}

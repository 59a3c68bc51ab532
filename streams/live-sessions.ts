/**
 * Rows of a session step's `-live` store, version 1: which sessions may still take records.
 *
 *     bounds = 'k' key              → session*      the live sessions of a key, by start
 *     mark   = 't' time(end) key    → nothing       look at this key once `end` is past
 *     session = start:float64 end:float64           big-endian, both inclusive
 *
 * Every live session has a mark at or before its end, so a session that grows needs no new one.
 */
import { encodeTime } from '../state/keys.ts'
import type { Codec, RowKey } from '../state/port.ts'

export interface Session {
  readonly start: number
  /** The last event. */
  readonly end: number
}

const SESSION_BYTES = 16

export const liveSessionsCodec: Codec<readonly Session[]> = {
  encode(sessions) {
    const bytes = Buffer.allocUnsafe(sessions.length * SESSION_BYTES)
    sessions.forEach(({ start, end }, i) => {
      bytes.writeDoubleBE(start, i * SESSION_BYTES)
      bytes.writeDoubleBE(end, i * SESSION_BYTES + 8)
    })
    return bytes
  },
  decode(bytes) {
    if (bytes.length % SESSION_BYTES !== 0) throw new RangeError('a live session ends early')
    const sessions: Session[] = []
    for (let p = 0; p < bytes.length; p += SESSION_BYTES) {
      sessions.push({ start: bytes.readDoubleBE(p), end: bytes.readDoubleBE(p + 8) })
    }
    return sessions
  },
}

export function boundsRow(key: RowKey): RowKey {
  return `k${key}`
}

export function markRow(endMs: number, key: RowKey): RowKey {
  return `t${encodeTime(endMs)}${key}`
}

export function keyOfMark(row: RowKey): RowKey {
  return row.slice(9)
}

/** Marks before a time. */
export function marksBefore(endMs: number): { gte: RowKey; lt: RowKey } {
  return { gte: 't', lt: `t${encodeTime(endMs)}` }
}

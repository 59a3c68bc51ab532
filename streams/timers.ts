/**
 * Rows of a processor's timers, version 1; they have no value.
 *
 *     timer = clock time field(key) name         'e' event time, 'w' wall clock; name: UTF-8
 *
 * So timers lie in the order in which they are due; of one time by key, then by name.
 */
import {
  decodeText,
  decodeTime,
  encodeText,
  encodeTime,
  keyField,
  keyOfField,
} from '../state/keys.ts'
import type { Codec, RowKey } from '../state/port.ts'

export type TimerClock = 'event' | 'wall'

export interface TimerRow {
  readonly clock: TimerClock
  readonly atMs: number
  readonly key: RowKey
  readonly name: string
}

const LETTERS = { event: 'e', wall: 'w' } as const
const EMPTY = Buffer.alloc(0)

export const timerCodec: Codec<unknown> = { encode: () => EMPTY, decode: () => EMPTY }

export function timerRow({ clock, atMs, key, name }: TimerRow): RowKey {
  return LETTERS[clock] + encodeTime(atMs) + keyField(key) + encodeText(name)
}

export function decodeTimer(row: RowKey): TimerRow {
  let end = row.indexOf('\0', 9)
  while (row.charCodeAt(end + 1) === 0xff) end = row.indexOf('\0', end + 2)
  return {
    clock: row.startsWith('e') ? 'event' : 'wall',
    atMs: decodeTime(row, 1),
    key: keyOfField(row, 9, end + 2),
    name: decodeText(row.slice(end + 2)),
  }
}

/** Timers of a clock that are due at a time. */
export function timersDue(clock: TimerClock, timeMs: number): { gte: RowKey; lt: RowKey } {
  const gte = LETTERS[clock]
  return { gte, lt: gte + encodeTime(timeMs + 1) }
}

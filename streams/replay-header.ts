/**
 * The header of a record that was put aside and goes back to its topic: the last one, `dl_replay`,
 *
 *     value = '2' ' ' application ' ' offset of the letter ' ' offset of the record ' ' step, 0xff
 *           | '1' ' ' application ' ' offset of the letter ' ' step, 0xff
 *
 * It says which application and step the record is for: all others had it before. No text ends in
 * 0xff, so that one byte tells other records apart. Version 1 is of letters that older releases
 * wrote, which noted nothing of what they put aside (`aside.ts`).
 */

import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'

const NAME = 'dl_replay'
const END = 0xff

export interface ReplayTarget {
  readonly application: string
  readonly step: string
  /** Where the record was that failed; undefined of old letters. */
  readonly originalOffset: number | undefined
}

export interface ReplayedLetter extends ReplayTarget {
  readonly offset: number
}

/** The headers of a record that goes back to its topic. */
export function withReplayHeader(headers: readonly Header[], letter: ReplayedLetter): Header[] {
  const { application, offset, originalOffset, step } = letter
  const place = originalOffset === undefined ? '' : ` ${originalOffset}`
  const version = originalOffset === undefined ? 1 : 2
  const text = Buffer.from(`${version} ${application} ${offset}${place} ${step}`)
  return [...withoutReplay(headers), [NAME, Buffer.concat([text, Buffer.from([END])])]]
}

export function withoutReplay(headers: readonly Header[]): Header[] {
  return headers.filter(([name]) => name !== NAME)
}

/** Cheap, and true of hardly any other record. */
export function mayBeReplay({ bytes, headersStart, headersEnd }: RecordColumns, row: number) {
  return headersStart[row]! >= 0 && bytes[headersEnd[row]! - 1] === END
}

export function replayTargetOf(columns: RecordColumns, row: number): ReplayTarget | undefined {
  if (!mayBeReplay(columns, row)) return undefined
  const [name, value] = readHeaders(columns, row).at(-1)!
  if (name !== NAME || value === null) return undefined
  const text = value.toString('utf8', 0, value.length - 1)
  const match = /^(?:1 (\S+) \d+|2 (\S+) \d+ (\d{1,16})) (.+)$/s.exec(text)
  if (match === null) return undefined
  const [, old, application = old, offset, step] = match
  const originalOffset = offset === undefined ? undefined : Number(offset)
  return { application: application!, step: step!, originalOffset }
}

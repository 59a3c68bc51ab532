/**
 * The header of a record that was put aside and goes back to its topic: the last one, `dl_replay`,
 *
 *     value = '1' ' ' application ' ' offset of the letter ' ' name of the step, 0xff
 *
 * It says which application and step the record is for: all others had it before. No text ends in
 * 0xff, so that one byte tells other records apart.
 */

import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'

const NAME = 'dl_replay'
const END = 0xff

export interface ReplayTarget {
  readonly application: string
  readonly step: string
}

export interface ReplayedLetter extends ReplayTarget {
  readonly offset: number
}

/** The headers of a record that goes back to its topic. */
export function withReplayHeader(headers: readonly Header[], letter: ReplayedLetter): Header[] {
  const { application, offset, step } = letter
  const text = Buffer.from(`1 ${application} ${offset} ${step}`)
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
  const match = /^1 (\S+) \d+ (.+)$/s.exec(value.toString('utf8', 0, value.length - 1))
  return match === null ? undefined : { application: match[1]!, step: match[2]! }
}

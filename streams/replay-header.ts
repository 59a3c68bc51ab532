/**
 * The headers of a record that was put aside and goes back to its topic: the last two,
 *
 *     dl_replayed = offset of the record ' ' run
 *     dl_replay   = '1' ' ' application ' ' offset of the letter ' ' name of the step, 0xff
 *
 * They say which record it stands for, what run of the application put that aside (`aside.ts`), and
 * which application and step it is for: all others had it before. No text ends in 0xff, so that one
 * byte tells other records apart. Records of older letters have only the last one.
 */

import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'

const NAME = 'dl_replay'
const ORIGINAL = 'dl_replayed'
const END = 0xff

export interface ReplayTarget {
  readonly application: string
  readonly step: string
  /** Undefined of old letters. */
  readonly original: OriginalPlace | undefined
}

export interface OriginalPlace {
  /** Of the record that failed, in the partition where this one is. */
  readonly offset: number
  /** Which run had put it aside. */
  readonly run: string
}

/** A branch of an application between two resets: these make a new topic of dead letters. */
export function runOf(lettersTopicId: string, branch = 0): string {
  return `${lettersTopicId}/${branch}`
}

export interface ReplayedLetter extends ReplayTarget {
  readonly offset: number
}

/** The headers of a record that goes back to its topic. */
export function withReplayHeader(headers: readonly Header[], letter: ReplayedLetter): Header[] {
  const { application, offset, original, step } = letter
  const text = Buffer.from(`1 ${application} ${offset} ${step}`)
  const own = withoutReplay(headers)
  if (original) own.push([ORIGINAL, Buffer.from(`${original.offset} ${original.run}`)])
  own.push([NAME, Buffer.concat([text, Buffer.from([END])])])
  return own
}

export function withoutReplay(headers: readonly Header[]): Header[] {
  return headers.filter(([name]) => name !== NAME && name !== ORIGINAL)
}

/** Cheap, and true of hardly any other record. */
export function mayBeReplay({ bytes, headersStart, headersEnd }: RecordColumns, row: number) {
  return headersStart[row]! >= 0 && bytes[headersEnd[row]! - 1] === END
}

export function replayTargetOf(columns: RecordColumns, row: number): ReplayTarget | undefined {
  if (!mayBeReplay(columns, row)) return undefined
  const headers = readHeaders(columns, row)
  const [name, value] = headers.at(-1)!
  if (name !== NAME || value === null) return undefined
  const text = value.toString('utf8', 0, value.length - 1)
  const match = /^1 (\S+) \d+ (.+)$/s.exec(text)
  if (match === null) return undefined
  return { application: match[1]!, step: match[2]!, original: originalPlace(headers.at(-2)) }
}

/** What the last but one header of a record says. */
export function originalPlace(header: Header | undefined): OriginalPlace | undefined {
  if (header?.[0] !== ORIGINAL) return undefined
  const match = /^(\d{1,16}) (\S+)$/.exec(header[1]?.toString() ?? '')
  return match === null ? undefined : { offset: Number(match[1]), run: match[2]! }
}

/** Lists the dead-letter topic, newest first. */
import type { DeadLetterPage, DeadLetters } from '../api/index.ts'
import { decodeEvent } from '../contracts/event-codec.ts'
import type { EventLog } from '../log/port.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { readHeaders } from '../log/record-headers.ts'
import { streamsError } from '../streams/errors.ts'

const FETCH_BYTES = 1024 * 1024
/** Longer values are shown as their beginning. */
const VALUE_BYTES_MAX = 16 * 1024

type Letter = DeadLetterPage['deadLetters'][number]

/** A cursor is the offset of the oldest letter of the page before. */
export function deadLetterListing(log: EventLog, topic: string): DeadLetters {
  return async ({ limit, cursor }) => {
    const target = { topic, partition: 0 }
    const [range] = await log.offsets([target])
    const before = cursor === undefined ? range.endOffset : offsetOf(cursor)
    let letters: Letter[] = []
    // Offsets may have gaps, so a page may take more than one look back.
    let to = Math.min(before, range.endOffset)
    while (letters.length < limit && to > range.startOffset) {
      const from = Math.max(range.startOffset, to - (limit - letters.length))
      letters = [...(await read(log, topic, from, to)), ...letters]
      to = from
    }
    const next = to > range.startOffset ? cursorOf(to) : null
    return { deadLetters: letters.reverse(), next }
  }
}

function cursorOf(offset: number): string {
  return Buffer.from(`d${offset}`).toString('base64url')
}

function offsetOf(cursor: string): number {
  const match = /^d(\d{1,16})$/.exec(Buffer.from(cursor, 'base64url').toString())
  if (match === null) throw streamsError('CURSOR_INVALID')
  return Number(match[1])
}

async function read(log: EventLog, topic: string, from: number, to: number): Promise<Letter[]> {
  const letters: Letter[] = []
  for (let offset = from; offset < to; ) {
    const request = { topic, partition: 0, offset, bytesMax: FETCH_BYTES }
    const [{ bytes, nextOffset }] = await log.fetch([request])
    const { runs } = decodeBatches(bytes, { fromOffset: offset })
    if (nextOffset <= offset) break
    for (const columns of runs) {
      for (let i = 0; i < columns.length && columns.offsets[i] < to; i++) {
        letters.push(letterOf(columns, i))
      }
    }
    offset = nextOffset
  }
  return letters
}

/** Where the record came from, why it was put aside, and the record itself. */
function letterOf(columns: RecordColumns, i: number): Letter {
  const headers = readHeaders(columns, i)
  const text = (name: string): string | null =>
    headers.findLast(([own]) => own === `dl_${name}`)?.[1]?.toString() ?? null
  const number = (name: string): number | null => {
    const found = text(name)
    return found === null || found === '' ? null : Number(found)
  }
  return {
    reason: text('reason'),
    topic: text('topic'),
    partition: number('partition'),
    offset: number('offset'),
    step: text('step'),
    detail: text('detail'),
    timestamp: columns.timestamps[i],
    key: textOf(columns, columns.keyStart[i], columns.keyEnd[i]),
    ...contentOf(columns, i),
  }
}

function textOf({ bytes }: RecordColumns, start: number, end: number): string | null {
  return start < 0 ? null : bytes.utf8Slice(start, end)
}

/** The event where it is one, else the bytes, or the beginning of them. */
function contentOf({ bytes, valueStart, valueEnd }: RecordColumns, i: number) {
  const start = valueStart[i]
  if (start < 0) return { value: null }
  const end = valueEnd[i]
  try {
    return { value: decodeEvent(bytes, start, end) }
  } catch {
    const shown = Math.min(end, start + VALUE_BYTES_MAX)
    return { valueBytes: end - start, valueBase64: bytes.toString('base64', start, shown) }
  }
}

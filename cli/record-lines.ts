/**
 * Records as lines of JSON. An event is in the form that `millrace import` and `POST /v1/events`
 * take: `{topic, type, key, timestamp, value, headers}`. Any other record has its bytes:
 * `{topic, partition, timestamp, encoding: "base64", key, value, headers: [[name, value]]}`, key
 * and values in base64 or null.
 */
import { decodeEvent } from '../contracts/event-codec.ts'
import { type LineVerdict, validateEventLine } from '../contracts/validation.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'

export interface LinePlace {
  readonly topic: string
  readonly partition: number
}

/** The line of record `i`, without its end. */
export function recordLine(place: LinePlace, columns: RecordColumns, i: number): string {
  return eventLine(place.topic, columns, i) ?? bytesLine(place, columns, i)
}

/** The line of an event that the service would take; undefined where the record is none. */
export function eventLine(topic: string, columns: RecordColumns, i: number): string | undefined {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  if (keyStart[i]! < 0 || valueStart[i]! < 0) return undefined
  const headers = textHeaders(readHeaders(columns, i))
  if (headers === undefined) return undefined
  let line: string
  try {
    const { type, ...value } = decodeEvent(bytes, valueStart[i]!, valueEnd[i]!)
    const key = bytes.utf8Slice(keyStart[i]!, keyEnd[i]!)
    line = JSON.stringify({ topic, type, key, timestamp: columns.timestamps[i], value, headers })
  } catch {
    return undefined
  }
  return judgeEventLine(line).ok ? line : undefined
}

/** Whether an event line can be taken, whenever; without `ce_id`, it is named by its text. */
export function judgeEventLine(line: string, newId: () => string = () => 'id'): LineVerdict {
  return validateEventLine(line, { nowMs: Number.POSITIVE_INFINITY, newId, source: 'millrace' })
}

/** Undefined where they are no object of texts: doubled, null, or not UTF-8. */
function textHeaders(headers: readonly Header[]): Record<string, string> | undefined {
  const texts: Record<string, string> = {}
  for (const [name, value] of headers) {
    const text = value?.toString()
    if (text === undefined || Object.hasOwn(texts, name)) return undefined
    if (name === '__proto__' || !Buffer.from(text).equals(value!)) return undefined
    texts[name] = text
  }
  return texts
}

function bytesLine({ topic, partition }: LinePlace, columns: RecordColumns, i: number): string {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  const base64 = (start: number, end: number) =>
    start < 0 ? null : bytes.toString('base64', start, end)
  return JSON.stringify({
    topic,
    partition,
    timestamp: columns.timestamps[i],
    encoding: 'base64',
    key: base64(keyStart[i]!, keyEnd[i]!),
    value: base64(valueStart[i]!, valueEnd[i]!),
    headers: readHeaders(columns, i).map(([name, value]) => [
      name,
      value?.toString('base64') ?? null,
    ]),
  })
}

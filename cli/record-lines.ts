/**
 * Records as lines of JSON. An event is in the form that `millrace import` and `POST /v1/events`
 * take: `{topic, type, key, timestamp, value, headers}`. Any other record has its bytes:
 * `{topic, partition, timestamp, encoding: "base64", key, value, headers: [[name, value]]}`, key
 * and values in base64 or null.
 */
import { decodeEvent } from '../contracts/event-codec.ts'
import { type LineRefusal, validateEventLine } from '../contracts/validation.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'
import { foreignSchema } from './recorded-schemas.ts'

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
  const read = readHeaders(columns, i)
  const headers = textHeaders(read)
  if (headers === undefined || foreignSchema(columns, i, read) !== undefined) return undefined
  let line: string
  try {
    const { type, ...value } = decodeEvent(bytes, valueStart[i]!, valueEnd[i]!)
    const key = bytes.utf8Slice(keyStart[i]!, keyEnd[i]!)
    line = JSON.stringify({ topic, type, key, timestamp: columns.timestamps[i], value, headers })
  } catch {
    return undefined
  }
  return validateEventLine(
    line,
    context(() => ''),
  ).ok
    ? line
    : undefined
}

/** Takes events of any time. */
function context(newId: () => string) {
  return { nowMs: Number.POSITIVE_INFINITY, newId, source: 'millrace/convert' }
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

/** A record that a line is of. */
export interface LineRecord {
  readonly ok: true
  readonly topic: string
  /** Undefined of an event: by its key. */
  readonly partition: number | undefined
  readonly timestamp: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly Header[]
}

/** Reads a line of either form; `newId` names an event that has no `ce_id`. */
export function parseRecordLine(text: string, newId: () => string): LineRecord | LineRefusal {
  const bytes = text.includes('"encoding"') ? parseBytesLine(text) : undefined
  if (bytes !== undefined) return bytes
  const verdict = validateEventLine(text, context(newId))
  return verdict.ok ? { ok: true, partition: undefined, ...verdict.record } : verdict
}

const PARTITION_MAX = 9999
const TOPIC = /^[a-zA-Z0-9._-]{1,249}$/

/** Undefined where the line does not say that it has bytes. */
function parseBytesLine(text: string): LineRecord | LineRefusal | undefined {
  let line: Readonly<Record<string, unknown>>
  try {
    line = JSON.parse(text)
  } catch {
    return undefined
  }
  if (line?.encoding !== 'base64') return undefined
  const { topic, partition, timestamp, headers } = line
  if (typeof topic !== 'string' || !TOPIC.test(topic)) return wrong('topic: expected a name')
  const isPartition = Number.isInteger(partition) && (partition as number) <= PARTITION_MAX
  if (!isPartition || (partition as number) < 0) return wrong('partition: expected 0 to 9999')
  if (!Number.isSafeInteger(timestamp)) return wrong('timestamp: expected epoch ms')
  const key = bytesOf(line.key)
  if (key === undefined) return wrong('key: expected base64 or null')
  const value = bytesOf(line.value)
  if (value === undefined) return wrong('value: expected base64 or null')
  const pairs = headersOf(headers)
  if (pairs === undefined) return wrong('headers: expected a list of [name, base64 or null]')
  const place = { topic, partition: partition as number, timestamp: timestamp as number }
  return { ok: true, ...place, key, value, headers: pairs }
}

function wrong(detail: string): LineRefusal {
  return { ok: false, code: 'ENVELOPE_INVALID', detail }
}

function bytesOf(text: unknown): Buffer | null | undefined {
  if (text === null) return null
  if (typeof text !== 'string') return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}

function headersOf(list: unknown): Header[] | undefined {
  if (!Array.isArray(list)) return undefined
  const headers: Header[] = []
  for (const pair of list) {
    const value = Array.isArray(pair) ? bytesOf(pair[1]) : undefined
    if (value === undefined || typeof pair[0] !== 'string') return undefined
    headers.push([pair[0], value])
  }
  return headers
}

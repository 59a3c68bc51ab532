/**
 * One line of event input: `{topic, type, key, timestamp, value, headers?}` as JSON, turned
 * into a record or refused with a code and a place.
 */
import { shown } from './avro-writer.ts'
import type { lineCatalogue } from './errors.ts'
import { type EventRecord, eventRecord, recordBytes, recordBytesMax } from './event-record.ts'
import { checkEventFields } from './event-rules.ts'
import type { BusinessEvent, EventType } from './events.ts'
import {
  eventKeyOf,
  eventTopics,
  inputTopics,
  isEventType,
  isInputTopic,
  timeFields,
} from './topics.ts'

export type LineCode = keyof typeof lineCatalogue

export interface LineRefusal {
  readonly ok: false
  readonly code: LineCode
  readonly detail: string
}

export type LineVerdict = { readonly ok: true; readonly record: EventRecord } | LineRefusal

export interface LineContext {
  /** Epoch ms: what "a day ahead" is measured from. */
  readonly nowMs: number
  /** Makes the `ce_id` of an event that came without. */
  readonly newId: () => string
  /** `ce_source` of events that came without. */
  readonly source: string
}

/** How far ahead of now an event may be, ms. */
export const futureMsMax = 24 * 60 * 60 * 1000

type JsonObject = Readonly<Record<string, unknown>>

const members = new Set(['topic', 'type', 'key', 'timestamp', 'value', 'headers'])

export function validateEventLine(text: string, context: LineContext): LineVerdict {
  const parsed = parseObject(text)
  if ('code' in parsed) return parsed
  const line = parsed.object
  const problem = checkEnvelope(line)
  if (problem !== undefined) return problem
  const type = line.type as EventType
  const breach = checkEventFields(type, line.value)
  if (breach !== undefined) return refuse(breach.code, breach.detail)
  const event = { type, ...(line.value as object) } as BusinessEvent
  const mismatch = checkKey(line.key, event) ?? checkTime(line.timestamp, event, context.nowMs)
  if (mismatch !== undefined) return mismatch
  const headers = (line.headers ?? {}) as Readonly<Record<string, string>>
  const badHeader = checkHeaders(headers)
  if (badHeader !== undefined) return badHeader
  const id = Object.hasOwn(headers, 'ce_id') ? headers.ce_id : context.newId()
  const record = eventRecord(event, { id, source: context.source, headers })
  const size = recordBytes(record)
  if (size <= recordBytesMax) return { ok: true, record }
  return refuse('RECORD_TOO_LARGE', `${size} bytes, at most ${recordBytesMax}`)
}

/** TypeScript's library does not know the third argument yet. */
type Reviver = (name: string, value: unknown) => unknown

/** A fraction or an exponent somewhere, perhaps only in a text. */
const maybeNotPlain = /\d[.eE]/
const plainInteger = /^-?\d+(\.0+)?$/

/**
 * `JSON.parse` reads 1.00000000000000000001 as 1. Where the line may hold such a number, a
 * number that is not written as an integer is left as its text, so that its field refuses it.
 */
function keepFractions(_name: string, value: unknown, where: { source?: string }): unknown {
  if (typeof value !== 'number' || where.source === undefined) return value
  return plainInteger.test(where.source) ? value : where.source
}

function parseObject(text: string): { object: JsonObject } | LineRefusal {
  let parsed: unknown
  try {
    parsed = maybeNotPlain.test(text)
      ? JSON.parse(text, keepFractions as Reviver)
      : JSON.parse(text)
  } catch (error) {
    return refuse('JSON_INVALID', error instanceof Error ? error.message : String(error))
  }
  if (isObject(parsed)) return { object: parsed }
  return refuse('JSON_INVALID', `expected an object, got ${shown(parsed)}`)
}

function checkEnvelope(line: JsonObject): LineRefusal | undefined {
  for (const name of Object.keys(line)) {
    if (!members.has(name)) return refuse('ENVELOPE_INVALID', `${shown(name)}: unknown member`)
  }
  const { topic, type } = line
  if (typeof topic !== 'string' || !isInputTopic(topic)) {
    const expected = `expected one of ${inputTopics.join(', ')}`
    return refuse('TOPIC_UNKNOWN', `topic: ${expected}, got ${shown(topic)}`)
  }
  if (typeof type !== 'string' || !isEventType(type) || eventTopics[type] !== topic) {
    const types = Object.keys(timeFields).filter(name => eventTopics[name as EventType] === topic)
    return refuse('TYPE_UNKNOWN', `type: expected one of ${types.join(', ')}, got ${shown(type)}`)
  }
  if (!Object.hasOwn(line, 'value')) return refuse('ENVELOPE_INVALID', 'value: missing')
  if (line.headers === undefined || isObject(line.headers)) return undefined
  return refuse('HEADER_INVALID', `headers: expected an object, got ${shown(line.headers)}`)
}

function checkKey(key: unknown, event: BusinessEvent): LineRefusal | undefined {
  const expected = eventKeyOf(event)
  if (key === expected) return undefined
  return refuse('KEY_INVALID', `key: expected ${shown(expected)}, got ${shown(key)}`)
}

function checkTime(
  timestamp: unknown,
  event: BusinessEvent,
  nowMs: number,
): LineRefusal | undefined {
  if (!Number.isSafeInteger(timestamp) || (timestamp as number) < 0) {
    const expected = 'expected epoch ms, an integer of at least 0'
    return refuse('TIMESTAMP_INVALID', `timestamp: ${expected}, got ${shown(timestamp)}`)
  }
  const field = timeFields[event.type]
  const own = (event as unknown as JsonObject)[field]
  if (timestamp !== own) {
    return refuse('TIMESTAMP_MISMATCH', `timestamp: ${timestamp}, but value.${field} is ${own}`)
  }
  if ((timestamp as number) <= nowMs + futureMsMax) return undefined
  return refuse('TIMESTAMP_FUTURE', `timestamp: ${timestamp}, at most ${nowMs + futureMsMax}`)
}

function checkHeaders(headers: JsonObject): LineRefusal | undefined {
  for (const [name, value] of Object.entries(headers)) {
    if (name === '' || !name.isWellFormed()) {
      return refuse('HEADER_INVALID', `headers: ${shown(name)} is not a header name`)
    }
    if (typeof value !== 'string' || !value.isWellFormed()) {
      return refuse('HEADER_INVALID', `headers.${name}: expected a text, got ${shown(value)}`)
    }
    if (name === 'ce_id' && value === '') {
      return refuse('HEADER_INVALID', 'headers.ce_id: expected a non-empty text, got ""')
    }
  }
  return undefined
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function refuse(code: LineCode, detail: string): LineRefusal {
  return { ok: false, code, detail }
}

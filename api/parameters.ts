/** Query parameters, read strictly: what is not understood is refused by name. */
import { streamsError } from '../streams/errors.ts'
import type { AsOf, RowsQuery, RowsScope, ViewDeclaration } from '../streams/views.ts'

export type Parameters = ReadonlyMap<string, string>

const waitMsDefault = 30_000
const waitMsMax = 60_000
const limitDefault = 100
const limitMax = 1000
const valueCharsMax = 4096

export function parameterError(parameter: string, reason: string) {
  return streamsError('QUERY_INVALID', { parameter, reason })
}

/** Decodes the text after `?`. A parameter comes once and is well-formed UTF-8. */
export function parseSearch(search: string): Parameters {
  const parameters = new Map<string, string>()
  if (search === '') return parameters
  for (const part of search.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const name = decodePart(equals < 0 ? part : part.slice(0, equals), undefined)
    const value = equals < 0 ? '' : decodePart(part.slice(equals + 1), name)
    if (parameters.has(name)) throw parameterError(name, 'it is given twice')
    parameters.set(name, value)
  }
  return parameters
}

function decodePart(text: string, parameter: string | undefined): string {
  let decoded: string
  try {
    decoded = decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    throw parameterError(parameter ?? printable(text), 'its percent-encoding is broken')
  }
  const bad = hasControl(decoded) || hasControl(text) || !decoded.isWellFormed()
  if (bad) throw parameterError(parameter ?? printable(text), 'it has a control character')
  if (decoded.length > valueCharsMax) {
    throw parameterError(parameter ?? 'name', `it is longer than ${valueCharsMax} characters`)
  }
  return decoded
}

function hasControl(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit < 0x20 || unit === 0x7f) return true
  }
  return false
}

/** A name as given, cut and in plain ASCII, to be repeated in an answer. */
function printable(text: string): string {
  return text.slice(0, 64).replace(/[^\x21-\x7e]/g, '?')
}

export function refuseUnknown(parameters: Parameters, known: readonly string[]): void {
  for (const name of parameters.keys()) {
    if (!known.includes(name)) {
      throw parameterError(printable(name), `it is unknown here; known are ${known.join(', ')}`)
    }
  }
}

function integerOf(parameters: Parameters, name: string, min: number, max: number) {
  const text = parameters.get(name)
  if (text === undefined) return undefined
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= min && value <= max)) {
    throw parameterError(name, `it must be an integer from ${min} to ${max}`)
  }
  return value
}

/** Page size of any listing. */
export function limitOf(parameters: Parameters, min = 1): number {
  return integerOf(parameters, 'limit', min, limitMax) ?? limitDefault
}

/** How long a read with a position token may wait, in ms. */
export function waitMsOf(parameters: Parameters): number {
  return integerOf(parameters, 'timeout', 0, waitMsMax) ?? waitMsDefault
}

export function cursorOf(parameters: Parameters): string | undefined {
  const cursor = parameters.get('cursor')
  if (cursor === '') throw parameterError('cursor', 'it is empty')
  return cursor
}

export function booleanOf(parameters: Parameters, name: string): boolean {
  const text = parameters.get(name) ?? 'false'
  if (text !== 'true' && text !== 'false') throw parameterError(name, 'it must be true or false')
  return text === 'true'
}

const isoTime =
  /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(Z|[+\- ]\d{2}:?\d{2})?)?$/i

/** Epoch ms, or ISO 8601 (UTC where it names no zone). */
export function timeOf(parameters: Parameters, name: string): number | undefined {
  const text = parameters.get(name)
  if (text === undefined) return undefined
  const epoch = /^\d{1,16}$/.test(text) ? Number(text) : isoMs(text)
  if (!Number.isSafeInteger(epoch) || epoch < 0) {
    throw parameterError(name, 'it must be epoch milliseconds or an ISO 8601 time')
  }
  return epoch
}

function isoMs(text: string): number {
  const match = isoTime.exec(text)
  if (match === null) return Number.NaN
  const [, date, time, zone] = match
  // A `+` that was not percent-encoded arrives as a space.
  const offset = (zone ?? 'Z').replace(' ', '+').replace(/(\d{2}):?(\d{2})$/, '$1:$2')
  const parsed = Date.parse(`${date}T${time ?? '00:00'}${offset.toUpperCase()}`)
  // Date.parse rolls 31 February over into March.
  const day = Date.parse(`${date}T00:00Z`)
  return Number.isNaN(day) || new Date(day).toISOString().slice(0, 10) !== date
    ? Number.NaN
    : parsed
}

/** The filters that rows, stream and live subscription share. */
export function scopeOf(view: ViewDeclaration, parameters: Parameters): RowsScope {
  const key: Record<string, string> = {}
  for (const field of view.key) {
    const value = parameters.get(field.name)
    if (value === undefined) continue
    if (field.type === 'integer' && !isInteger(value)) {
      throw parameterError(field.name, 'it must be an integer')
    }
    key[field.name] = value
  }
  const prefix = parameters.get('prefix')
  if (prefix !== undefined && view.key[0]?.type !== 'string') {
    throw parameterError('prefix', 'the first key field of this view is not a string')
  }
  const from = timeOf(parameters, 'from')
  const to = timeOf(parameters, 'to')
  if (view.kind === 'table') {
    if (from !== undefined) throw parameterError('from', 'this view has no windows')
    if (to !== undefined) throw parameterError('to', 'this view has no windows')
  }
  if (from !== undefined && to !== undefined && from > to) {
    throw parameterError('from', 'it is after `to`')
  }
  return {
    key,
    ...(prefix === undefined ? {} : { prefix }),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  }
}

function isInteger(text: string): boolean {
  return /^(0|-?[1-9]\d{0,15})$/.test(text) && Number.isSafeInteger(Number(text))
}

export function filterNames(view: ViewDeclaration): string[] {
  return [...view.key.map(field => field.name), 'prefix', 'from', 'to']
}

export interface RowsRequest {
  readonly query: RowsQuery
  readonly waitMs: number
}

/** All parameters of `/rows`. `limitMin`: 1, or 0 where the position alone may be asked for. */
export function rowsRequestOf(
  view: ViewDeclaration,
  parameters: Parameters,
  limitMin = 1,
): RowsRequest {
  refuseUnknown(parameters, [...filterNames(view), 'asOf', 'limit', 'cursor', 'timeout'])
  const cursor = cursorOf(parameters)
  const query = {
    ...scopeOf(view, parameters),
    ...asOfOf(view, parameters),
    limit: limitOf(parameters, limitMin),
    ...(cursor === undefined ? {} : { cursor }),
  }
  return { query, waitMs: waitMsOf(parameters) }
}

/** When the view is to be looked at; nothing where it is as it is now. */
export function asOfOf(view: ViewDeclaration, parameters: Parameters): AsOf {
  const asOf = timeOf(parameters, 'asOf')
  if (asOf === undefined) return {}
  if (view.versioned !== undefined) return { asOf }
  throw parameterError('asOf', 'this view is not versioned, it only tells what is now')
}

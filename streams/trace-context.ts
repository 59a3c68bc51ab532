/**
 * The header `traceparent` of W3C Trace Context: which trace a record is part of, and which span
 * of it comes before. Only sampled records are looked at any further.
 *
 *     traceparent = version '-' trace id '-' span id '-' flags      hex; flag 1: sampled
 */
import { type Span, type SpanContext, TraceFlags, trace } from '@opentelemetry/api'
import type { RecordColumns } from '../log/record-columns.ts'
import { traceBytes } from '../state/port.ts'
import type { TraceLimit } from './trace-limit.ts'

export const traceparentHeader = 'traceparent'

const NAME_BYTES = traceparentHeader.length
/** As a zigzag varint. */
const NAME_LENGTH = NAME_BYTES * 2
const ZEROS = /^0+$/
/** Of one of version 00, and where its trace id ends and the two digits of its flags stand. */
const LENGTH = 55
const ID_END = 35
const FLAGS_AT = 53

/** Undefined of what is no traceparent, and of one that is not sampled. */
export function sampledContext(traceparent: string): SpanContext | undefined {
  const parts = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(traceparent)
  if (parts === null) return undefined
  const [, version, traceId, spanId, flags, more] = parts as unknown as string[]
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined
  if (ZEROS.test(traceId!) || ZEROS.test(spanId!)) return undefined
  if ((Number.parseInt(flags!, 16) & TraceFlags.SAMPLED) === 0) return undefined
  return { traceId: traceId!, spanId: spanId!, traceFlags: TraceFlags.SAMPLED, isRemote: true }
}

export function traceparentOf({ traceId, spanId }: SpanContext): string {
  return `00-${traceId}-${spanId}-01`
}

/**
 * What the traceparent of a record says, if it is sampled and the limit, if any, admits it: of
 * several the last. Called for every record that has headers, so it makes nothing of those that it
 * does not give; what is no headers has none.
 */
export function contextOf(
  columns: RecordColumns,
  row: number,
  limit?: TraceLimit,
): SpanContext | undefined {
  const { bytes } = columns
  let p = columns.headersStart[row]!
  if (p < 0) return undefined
  const end = columns.headersEnd[row]!
  // Producers write it last.
  if (bytes[end - LENGTH - 1] === LENGTH * 2 && isName(bytes, end - LENGTH - 1 - NAME_BYTES)) {
    return contextAt(bytes, end - LENGTH, end, limit)
  }
  let found = -1
  let foundEnd = -1
  // How many there are is told by their end, too.
  while (bytes[p++]! >= 0x80);
  while (p < end) {
    let name = bytes[p++]!
    if (name >= 0x80) {
      name = longVarint(bytes, p - 1)
      p = at
    }
    p += name >>> 1
    const nameEnd = p
    let value = bytes[p++]!
    if (value >= 0x80) {
      value = longVarint(bytes, p - 1)
      p = at
    }
    const start = p
    // An odd one is negative: there is no value.
    if ((value & 1) === 0) p += value >>> 1
    if (name === NAME_LENGTH && isName(bytes, nameEnd - NAME_BYTES)) {
      found = start
      foundEnd = p
    }
  }
  return found < 0 || foundEnd > end ? undefined : contextAt(bytes, found, foundEnd, limit)
}

function contextAt(
  bytes: Buffer,
  start: number,
  end: number,
  limit: TraceLimit | undefined,
): SpanContext | undefined {
  if (!isFlagged(bytes, start + FLAGS_AT + 1)) return undefined
  if (limit?.admitsAt(bytes, start + ID_END) === false) return undefined
  return sampledContext(bytes.latin1Slice(start, end))
}

/** Where the varint read last ended. */
let at = 0

/** A varint of several bytes, zigzag as it stands. */
function longVarint(bytes: Buffer, position: number): number {
  at = position
  let value = 0
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes[at++]!
    value |= (byte & 0x7f) << shift
    if (byte < 0x80) break
  }
  return value >>> 0
}

/** Whether the first flag is set in a hex digit: of the letters it is in b, d and f. */
function isFlagged(bytes: Buffer, position: number): boolean {
  const digit = bytes[position]!
  return ((digit >= 0x61 ? digit + 1 : digit) & TraceFlags.SAMPLED) !== 0
}

/** Letter by letter, `t` and `p` first, which tell most apart: 13 ns a record, 21 in a loop. */
function isName(bytes: Buffer, p: number): boolean {
  return (
    bytes[p] === 0x74 &&
    bytes[p + 5] === 0x70 &&
    bytes[p + 1] === 0x72 &&
    bytes[p + 2] === 0x61 &&
    bytes[p + 3] === 0x63 &&
    bytes[p + 4] === 0x65 &&
    bytes[p + 6] === 0x61 &&
    bytes[p + 7] === 0x72 &&
    bytes[p + 8] === 0x65 &&
    bytes[p + 9] === 0x6e &&
    bytes[p + 10] === 0x74
  )
}

/**
 * The span that goes on where several records make one result: that of the last of them, with
 * links to the others.
 */
export function joined(before: Span | undefined, span: Span | undefined): Span | undefined {
  if (span === undefined || before === undefined || before === span) return span ?? before
  span.addLink({ context: before.spanContext() })
  return span
}

/** A span of a trace that was made elsewhere, or earlier. */
export function earlierSpan(context: SpanContext): Span {
  return trace.wrapSpanContext(context)
}

/** A sampled context as stores keep it: trace id and span id. */
export function encodeContext({ traceId, spanId }: SpanContext): Buffer {
  return Buffer.from(traceId + spanId, 'hex')
}

export function decodeContext(bytes: Buffer, start: number): SpanContext {
  return {
    traceId: bytes.toString('hex', start, start + 16),
    spanId: bytes.toString('hex', start + 16, start + traceBytes),
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
  }
}

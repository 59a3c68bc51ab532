/** Dead letters as JSON: where they came from, why, and the record as far as it can be shown. */
import { decodeEvent } from '../contracts/event-codec.ts'
import {
  type DeadLetter,
  type Digest,
  isDigest,
  letterId,
  type OriginalRecord,
  type StoredLetter,
} from '../streams/letters.ts'

export type Json = Readonly<Record<string, unknown>>

/** Longer values are shown as their beginning in listings. */
const VALUE_BYTES_MAX = 16 * 1024

/** A letter in a listing. */
export function letterSummary(stored: StoredLetter): Json {
  const { letter } = stored
  return {
    ...aboutLetter(stored),
    ...keyJson(letter.key),
    ...valueJson(letter.value, VALUE_BYTES_MAX),
  }
}

/** A letter with all that there is: its record from its place, where the letter has only a part. */
export function letterDetail(stored: StoredLetter, found: OriginalRecord | string): Json {
  const { letter, mark } = stored
  const record: Pick<DeadLetter, 'key' | 'value' | 'headers'> =
    typeof found === 'string' ? letter : found
  return {
    ...aboutLetter(stored),
    replayable: typeof found !== 'string',
    ...(typeof found === 'string' && { refusal: found }),
    ...(mark !== undefined && { settledAt: mark.atMs, settledBy: mark.by }),
    headers: (record.headers ?? []).map(([name, bytes]) => ({ name, ...headerValue(bytes) })),
    ...keyJson(record.key),
    ...valueJson(record.value, Number.POSITIVE_INFINITY),
  }
}

function aboutLetter({ application, offset, letter, state }: StoredLetter): Json {
  const { place, reason, step, detail, code, stack, attempts, atMs, content } = letter
  return {
    id: letterId(application, offset),
    application,
    state,
    reason,
    topic: place?.topic ?? null,
    partition: place?.partition ?? null,
    offset: place?.offset ?? null,
    step,
    code,
    detail,
    stack,
    attempts,
    at: atMs,
    content,
    timestamp: letter.timestampMs,
  }
}

function keyJson(key: Buffer | Digest | null): Json {
  if (isDigest(key)) return { key: null, keyBytes: key.bytes, keySha256: key.sha256 }
  if (key === null) return { key: null }
  const text = textOf(key)
  return text === undefined
    ? { key: key.toString(), keyBase64: key.toString('base64') }
    : { key: text }
}

/** The event where it is one, else the bytes, and as text where they are text. */
function valueJson(value: Buffer | Digest | null, bytesMax: number): Json {
  if (value === null) return { value: null }
  if (isDigest(value)) return { valueBytes: value.bytes, valueSha256: value.sha256 }
  try {
    return { value: decodeEvent(value, 0, value.length) }
  } catch {
    const shown = value.subarray(0, Math.min(bytesMax, value.length))
    const text = bytesMax === Number.POSITIVE_INFINITY ? textOf(shown) : undefined
    return {
      valueBytes: value.length,
      valueBase64: shown.toString('base64'),
      ...(text !== undefined && { valueText: text }),
    }
  }
}

function headerValue(bytes: Buffer | null): Json {
  if (bytes === null) return { value: null }
  const text = textOf(bytes)
  return text === undefined ? { base64: bytes.toString('base64') } : { value: text }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Undefined of bytes that are no text. */
function textOf(bytes: Buffer): string | undefined {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

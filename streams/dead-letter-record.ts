/**
 * A dead letter as a record of the dead-letter topic, version 1:
 *
 *     timestamp   the record's own, or 0 where that is negative
 *     key, value  the record's own bytes, or null
 *     headers     the record's own, unchanged, then
 *       dl_version       `1`; the last header of this name begins ours
 *       dl_application   dl_step   dl_reason   who put it aside, and why
 *       dl_kind          `source` or `sink`, where the step is one; not in older letters
 *       dl_branch        branch of the application that the step is in; not in older letters
 *       dl_code          code or name of the error, if there was one
 *       dl_detail        its message, 4096 characters at most
 *       dl_stack         16 hex digits: the same for errors from the same place in the code
 *       dl_attempts      how often it was tried, at least 1
 *       dl_at            wall time, epoch ms
 *       dl_content       `record`; `batch`: the value is a batch that cannot be read; `derived`:
 *                        key and value are what the step got, not what its place has; `none`: no
 *                        record was at fault, but a timer or a result of several
 *       dl_topic   dl_partition   dl_offset    its place; none of them with `none`
 *       dl_taken         what the step kept of the record all the same: `nothing`, or `part`, as a
 *                        window that was open beside one that was closed; not in older letters
 *       dl_timestamp     its timestamp, where that is negative
 *       dl_key_size      dl_key_sha256         of a key that is not kept: bytes, hex
 *       dl_value_size    dl_value_sha256       of a value
 *       dl_headers_size  of headers that are not kept, bytes
 *
 * Numbers are decimal. A key or value of more than 1 MiB is not kept, nor what would make the
 * letter larger than its topic takes: first the value goes, then the key, then the record's own
 * headers.
 *
 * Version 0, which is read: no `dl_version`, only reason, detail, step and place, empty where there
 * was none; none of the record's own headers, and of a value over 1 MiB the beginning.
 */
import { createHash } from 'node:crypto'
import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, headersBytesMax, readHeaders } from '../log/record-headers.ts'

/** Of a key or value that is kept. */
export const LETTER_BYTES_MAX = 1024 * 1024
/** Of a letter, unless its topic takes less: a batch of 2 MiB with what belongs to a batch. */
const LETTER_TOTAL_MAX = 2 * 1024 * 1024 - 4096
const DETAIL_CHARS_MAX = 4096

const kinds = ['source', 'sink'] as const
const takens = ['nothing', 'part'] as const
const contents = ['record', 'batch', 'derived', 'none'] as const
export type LetterContent = (typeof contents)[number]

export interface RecordPlace {
  readonly topic: string
  readonly partition: number
  readonly offset: number
}

/** What is known of bytes that are not kept. */
export interface Digest {
  readonly bytes: number
  readonly sha256: string
}

export interface DeadLetter {
  readonly application: string | null
  readonly step: string | null
  /** Null: an operator, or not said. */
  readonly kind: (typeof kinds)[number] | null
  /** Null: not said. */
  readonly branch: number | null
  readonly reason: string | null
  readonly code: string | null
  readonly detail: string
  readonly stack: string | null
  readonly attempts: number
  /** When it was put aside, epoch ms; null in version 0. */
  readonly atMs: number | null
  readonly content: LetterContent
  /** What the step kept of the record: then it is no longer missing there. Null: not said. */
  readonly taken: (typeof takens)[number] | null
  readonly place: RecordPlace | null
  readonly timestampMs: number
  readonly key: Buffer | Digest | null
  readonly value: Buffer | Digest | null
  /** The record's own, in order; undefined where they are not kept. */
  readonly headers: readonly Header[] | undefined
}

export function isDigest(bytes: Buffer | Digest | null): bytes is Digest {
  return bytes !== null && !Buffer.isBuffer(bytes)
}

export function digestOf(bytes: Buffer): Digest {
  return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}

export interface EncodedLetter {
  readonly timestampMs: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly Header[]
  readonly sizeBytes: number
}

/** `bytesMax`: what the topic takes in one batch. */
export function encodeLetter(letter: DeadLetter, bytesMax = LETTER_TOTAL_MAX): EncodedLetter {
  const most = Math.min(bytesMax, LETTER_TOTAL_MAX)
  let whole: DeadLetter = {
    ...letter,
    key: bounded(letter.key, LETTER_BYTES_MAX),
    value: bounded(letter.value, LETTER_BYTES_MAX),
  }
  let encoded = encode(whole, 0)
  if (encoded.sizeBytes > most) encoded = encode((whole = without(whole, 'value')), 0)
  if (encoded.sizeBytes > most) encoded = encode((whole = without(whole, 'key')), 0)
  if (encoded.sizeBytes > most) {
    encoded = encode({ ...whole, headers: undefined }, headersBytesMax(letter.headers ?? []))
  }
  return encoded
}

function bounded(bytes: Buffer | Digest | null, bytesMax: number): Buffer | Digest | null {
  return Buffer.isBuffer(bytes) && bytes.length > bytesMax ? digestOf(bytes) : bytes
}

function without(letter: DeadLetter, part: 'key' | 'value'): DeadLetter {
  return { ...letter, [part]: bounded(letter[part], 0) }
}

function encode(letter: DeadLetter, headersBytes: number): EncodedLetter {
  const { key, value, timestampMs } = letter
  const headers = [...(letter.headers ?? []), ...ourHeaders(letter, headersBytes)]
  const kept = { key: isDigest(key) ? null : key, value: isDigest(value) ? null : value }
  const sizeBytes =
    (kept.key?.length ?? 0) + (kept.value?.length ?? 0) + headersBytesMax(headers) + RECORD_OVERHEAD
  return { timestampMs: Math.max(timestampMs, 0), ...kept, headers, sizeBytes }
}

/** Lengths and deltas of a record: varints. */
const RECORD_OVERHEAD = 64

/** Most letters of a step say the same: their texts are encoded once. */
const texts = new Map<string, Buffer>()
const TEXTS_MAX = 1000
const TEXT_CHARS_MAX = 100

function textBytes(text: string | number): Buffer {
  if (typeof text === 'number' || text.length > TEXT_CHARS_MAX) return Buffer.from(String(text))
  const known = texts.get(text)
  if (known !== undefined) return known
  if (texts.size === TEXTS_MAX) texts.clear()
  const bytes = Buffer.from(text)
  texts.set(text, bytes)
  return bytes
}

function ourHeaders(letter: DeadLetter, headersBytes: number): Header[] {
  const { place, timestampMs, key, value } = letter
  const ours: Header[] = []
  const add = (name: string, text: string | number | null | undefined) => {
    if (text !== null && text !== undefined) ours.push([`dl_${name}`, textBytes(text)])
  }
  add('version', 1)
  add('application', letter.application)
  add('step', letter.step)
  add('kind', letter.kind)
  add('branch', letter.branch)
  add('reason', letter.reason)
  add('code', letter.code)
  add('detail', letter.detail.slice(0, DETAIL_CHARS_MAX))
  add('stack', letter.stack)
  add('attempts', letter.attempts)
  add('at', letter.atMs)
  add('content', letter.content)
  add('topic', place?.topic)
  add('partition', place?.partition)
  add('offset', place?.offset)
  add('taken', letter.taken)
  if (timestampMs < 0) add('timestamp', timestampMs)
  if (isDigest(key)) {
    add('key_size', key.bytes)
    add('key_sha256', key.sha256)
  }
  if (isDigest(value)) {
    add('value_size', value.bytes)
    add('value_sha256', value.sha256)
  }
  if (headersBytes > 0) add('headers_size', headersBytes)
  return ours
}

/** Views of a record's key and value. */
export function keyAndValue(columns: RecordColumns, row: number) {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  const slice = (start: number, end: number) => (start < 0 ? null : bytes.subarray(start, end))
  return {
    key: slice(keyStart[row]!, keyEnd[row]!),
    value: slice(valueStart[row]!, valueEnd[row]!),
  }
}

/** Whatever stands in the topic is a letter: of what is no letter, the bytes are all there is. */
export function decodeLetter(columns: RecordColumns, row: number): DeadLetter {
  const { key, value } = keyAndValue(columns, row)
  let headers: Header[] = []
  try {
    headers = readHeaders(columns, row)
  } catch {
    // Foreign bytes.
  }
  const begin = headers.findLastIndex(([name]) => name === 'dl_version')
  const ours = new Map(
    headers.slice(Math.max(begin, 0)).map(([name, text]) => [name, text?.toString() ?? '']),
  )
  const text = (name: string) => ours.get(`dl_${name}`) || null
  const number = (name: string) => integer(text(name))
  const place = placeOf(text('topic'), number('partition'), number('offset'))
  const digest = (part: string, kept: Buffer | null) => {
    const size = number(`${part}_size`)
    return size === null ? kept : { bytes: size, sha256: text(`${part}_sha256`) ?? '' }
  }
  const isOurs = begin >= 0 && text('version') === '1'
  return {
    application: text('application'),
    step: text('step'),
    kind: kinds.find(each => each === text('kind')) ?? null,
    branch: number('branch'),
    reason: text('reason'),
    code: text('code'),
    detail: ours.get('dl_detail') ?? '',
    stack: text('stack'),
    attempts: Math.max(number('attempts') ?? 1, 1),
    atMs: number('at'),
    content: isOurs ? contentOf(text('content'), place) : contentBefore(ours, place),
    place,
    taken: takens.find(each => each === text('taken')) ?? null,
    timestampMs: number('timestamp') ?? columns.timestamps[row]!,
    key: digest('key', key),
    value: digest('value', value),
    headers: number('headers_size') === null ? headers.slice(0, Math.max(begin, 0)) : undefined,
  }
}

function contentOf(text: string | null, place: RecordPlace | null): LetterContent {
  const known = contents.find(each => each === text) ?? 'none'
  return place === null ? 'none' : known
}

/** Version 0 does not have the record's headers: the record itself is only at its place. */
function contentBefore(
  ours: ReadonlyMap<string, string>,
  place: RecordPlace | null,
): LetterContent {
  if (place === null) return 'none'
  const isBatch = /^poison$/.test(ours.get('dl_reason') ?? '')
  return isBatch && /\(\d+ bytes\)$/.test(ours.get('dl_detail') ?? '') ? 'batch' : 'derived'
}

function placeOf(
  topic: string | null,
  partition: number | null,
  offset: number | null,
): RecordPlace | null {
  if (topic === null || partition === null || offset === null) return null
  return { topic, partition, offset }
}

function integer(text: string | null): number | null {
  if (text === null || !/^-?\d{1,16}$/.test(text)) return null
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : null
}

/** Code of an error of a catalogue or of Node, else its name. */
export function errorCode(error: unknown): string | null {
  if (error === undefined) return null
  if (!(error instanceof Error)) return typeof error
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && code !== '' ? code : error.name
}

/** Records that fail mostly fail alike, many at once. */
let digested = { lines: '', digest: '' }

/** The same for errors thrown at the same place by the same way, whatever folder the code is in. */
export function stackDigest(error: unknown): string | null {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return null
  const frames = error.stack.split('\n').filter(line => /^\s+at /.test(line))
  const lines = frames.join('\n')
  if (lines !== digested.lines || digested.digest === '') {
    const named = frames.map(line => line.trim().replace(/(?:file:\/\/)?[^\s()]*[\\/]/g, ''))
    const digest = createHash('sha256').update(named.join('\n')).digest('hex').slice(0, 16)
    digested = { lines, digest }
  }
  return digested.digest
}

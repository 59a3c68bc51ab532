/**
 * A recording (`.mrec`), version 1: record batches as a log had them, in compressed blocks that
 * are only ever appended. Integers are big-endian.
 *
 *     recording = magic:8 frame(header) frame(block)* [frame(index) trailer]
 *     magic     = 89 "MREC" 0d 0a 1a
 *     frame     = crc:uint32 size:uint32 kind:uint8 body
 *     header    = JSON {version, createdMs, source, topics: [{name, id, partitions, config,
 *                 from}]}; from: the offset of each partition at which the recording began
 *     block     = rawSize:uint32 spanCount:uint32 span* zstd(batch*)
 *     span      = topic:uint16 partition:uint32 from:int64 to:int64 records:uint32
 *                 minTimestamp:int64 maxTimestamp:int64 bytes:uint32
 *     index     = blockCount:uint32 { position:int64 size:uint32 spanCount:uint32 span* }*, in zstd
 *     trailer   = position:int64 "MRECIDX" 1a
 *
 * `crc` is the CRC-32C of all that follows it in the frame, `size` counts the body, `kind` is "H",
 * "B" or "I". A span is what a block holds of one partition: the records with offsets in
 * `[from, to)` of the batches that lie, `bytes` long, at its place in the raw data; a batch may
 * reach beyond either end. `topic` counts the header's topics. Spans of one partition come in
 * order of offsets and lack nothing that the log had between them; a block may have several.
 *
 * The index repeats the spans of all blocks with the places of their frames. It can be had by
 * reading the blocks: a recording that was interrupted lacks nothing but the block under way, and
 * one that is continued first loses index and trailer, then gets new ones.
 */
import { promisify } from 'node:util'
import zlib from 'node:zlib'
import { crc32c } from '../log/crc32c.ts'
import { assert } from '../log/errors.ts'
import { readInt64, writeInt64 } from '../log/record-batch.ts'
import type { RecordedTopic } from './port.ts'

export const VERSION = 1
export const MAGIC = Buffer.from('894d5245430d0a1a', 'hex')
export const FRAME_BYTES = 9
export const TRAILER_BYTES = 16
/** Of a frame's body and of a block's raw data: what claims more is damaged. */
export const BYTES_MAX = 256 << 20
const TRAILER_MAGIC = Buffer.from('4d5245434944581a', 'hex')
const SPAN_BYTES = 46
/** Beyond it no date is. */
const TIME_MS_MAX = 8.64e15
const BLOCK_HEAD_BYTES = 8
const ENTRY_HEAD_BYTES = 16

const compress = promisify(zlib.zstdCompress)
const decompress = promisify(zlib.zstdDecompress)

/** Each chunk of the library's output costs a way through its threads. */
function inOneGo(bytes: number) {
  return { chunkSize: Math.max(1 << 10, bytes + 64) }
}

export type FrameKind = 'H' | 'B' | 'I'

export interface RecordingHeader {
  readonly version: number
  /** Epoch ms. */
  readonly createdMs: number
  /** The log it is of; another log has another incarnation. */
  readonly source: { readonly kind: string; readonly incarnation: string }
  readonly topics: readonly RecordedTopic[]
}

/** What a block holds of one partition. */
export interface Span {
  /** Place in the header's list of topics. */
  readonly topic: number
  readonly partition: number
  /** Offsets `[from, to)`. */
  readonly from: number
  readonly to: number
  readonly records: number
  /** Of its records, epoch ms. */
  readonly minTimestamp: number
  readonly maxTimestamp: number
  /** Of its batches, in the raw data. */
  readonly bytes: number
}

/** A block's place and spans. */
export interface BlockEntry {
  /** Of its frame. */
  readonly position: number
  /** Of its body. */
  readonly size: number
  readonly spans: readonly Span[]
}

export interface FrameHead {
  readonly kind: FrameKind
  readonly size: number
}

/** Why bytes are not what they claim; the reader adds the place. */
export class Damage extends Error {}

export function encodeFrame(kind: FrameKind, parts: readonly Buffer[]): Buffer {
  const size = parts.reduce((sum, part) => sum + part.length, 0)
  assert(size <= BYTES_MAX, 'a frame is within its bound')
  const head = Buffer.alloc(FRAME_BYTES)
  head.writeUInt32BE(size, 4)
  head.write(kind, 8, 'latin1')
  const frame = Buffer.concat([head, ...parts])
  frame.writeUInt32BE(crc32c(frame, 4), 0)
  return frame
}

/** Throws `Damage`. */
export function readFrameHead(bytes: Buffer): FrameHead {
  const size = bytes.readUInt32BE(4)
  const kind = bytes.toString('latin1', 8, 9)
  if (kind !== 'H' && kind !== 'B' && kind !== 'I') throw new Damage('no frame begins there')
  if (size > BYTES_MAX) throw new Damage(`its frame claims ${size} bytes`)
  return { kind, size }
}

/** The body of a whole frame. Throws `Damage`. */
export function frameBody(frame: Buffer): Buffer {
  if (frame.readUInt32BE(0) !== crc32c(frame, 4)) throw new Damage('its CRC does not match')
  return frame.subarray(FRAME_BYTES)
}

export function encodeHeader(header: RecordingHeader): Buffer {
  return Buffer.concat([MAGIC, encodeFrame('H', [Buffer.from(JSON.stringify(header))])])
}

/** The version that a header's body names; later ones may have another shape. Throws `Damage`. */
export function headerVersion(body: Buffer): number {
  const { version } = parsedHeader(body)
  if (!Number.isInteger(version)) throw new Damage('its header has no version')
  return version as number
}

/** The body of a header frame of this version. Throws `Damage`. */
export function decodeHeader(body: Buffer): RecordingHeader {
  const header = parsedHeader(body)
  const { createdMs, source, topics } = header as Partial<RecordingHeader>
  const isTime = Number.isFinite(createdMs) && Math.abs(createdMs!) <= TIME_MS_MAX
  const isSource = typeof source?.kind === 'string' && typeof source.incarnation === 'string'
  const isRight = isTime && isSource && Array.isArray(topics) && topics.every(isTopic)
  if (!isRight) throw new Damage('its header lacks what it should say')
  return header as unknown as RecordingHeader
}

function parsedHeader(body: Buffer): Readonly<Record<string, unknown>> {
  try {
    const header: unknown = JSON.parse(body.toString())
    if (typeof header === 'object' && header !== null) return header as Record<string, unknown>
  } catch {
    // Told below.
  }
  throw new Damage('its header is none')
}

function isTopic(topic: Partial<RecordedTopic> | null): boolean {
  const { name, id, partitions, config, from } = topic ?? {}
  if (typeof name !== 'string' || typeof id !== 'string') return false
  if (typeof config !== 'object' || config === null || !Array.isArray(from)) return false
  return from.length === partitions && from.every(at => Number.isSafeInteger(at) && at >= 0)
}

/** A block's frame; `batches` are in the order of the spans. */
export async function encodeBlock(
  spans: readonly Span[],
  batches: readonly Buffer[],
): Promise<Buffer> {
  const raw = Buffer.concat(batches)
  const head = Buffer.alloc(BLOCK_HEAD_BYTES + spans.length * SPAN_BYTES)
  head.writeUInt32BE(raw.length, 0)
  head.writeUInt32BE(spans.length, 4)
  writeSpans(head, BLOCK_HEAD_BYTES, spans)
  return encodeFrame('B', [head, await compress(raw, inOneGo(raw.length))])
}

/** The spans of a block's body; its data stays compressed. Throws `Damage`. */
export function blockSpans(body: Buffer): Span[] {
  if (body.length < BLOCK_HEAD_BYTES) throw new Damage('its block has no head')
  return readSpans(body, BLOCK_HEAD_BYTES, body.readUInt32BE(4))
}

/** Throws `Damage` where spans are of nothing that the header names. */
export function checkSpans(spans: readonly Span[], { topics }: RecordingHeader): void {
  for (const { topic, partition, from, to, records, bytes } of spans) {
    const known = topics[topic]
    if (known === undefined || partition >= known.partitions || !(from >= 0 && to > from)) {
      throw new Damage('its list of spans names what is not recorded')
    }
    if (records === 0 || bytes === 0) throw new Damage('its list of spans has one without records')
  }
}

/** Ends of spans by partition, for `checkOrder`. */
export type SpanEnds = Map<number, number>

/** Throws `Damage` where spans do not follow those before them: two processes wrote. */
export function checkOrder(spans: readonly Span[], ends: SpanEnds): void {
  for (const { topic, partition, from, to } of spans) {
    const key = topic * 2 ** 32 + partition
    if (from < (ends.get(key) ?? 0)) throw new Damage('it has offsets that were before it already')
    ends.set(key, to)
  }
}

/** The batches of a block's body, for each span in order. Throws `Damage`. */
export async function blockBatches(body: Buffer, spans: readonly Span[]): Promise<Buffer[]> {
  const rawSize = body.readUInt32BE(0)
  const total = spans.reduce((sum, { bytes }) => sum + bytes, 0)
  if (rawSize !== total || rawSize > BYTES_MAX) throw new Damage('its block has another size')
  let raw: Buffer
  try {
    const data = body.subarray(BLOCK_HEAD_BYTES + spans.length * SPAN_BYTES)
    raw = await decompress(data, { maxOutputLength: Math.max(1, rawSize), ...inOneGo(rawSize) })
  } catch {
    throw new Damage('its block cannot be decompressed')
  }
  if (raw.length !== rawSize) throw new Damage('its block has another size')
  let position = 0
  return spans.map(({ bytes }) => raw.subarray(position, (position += bytes)))
}

/** A block's entry in the index. */
export function encodeEntry({ position, size, spans }: BlockEntry): Buffer {
  const entry = Buffer.alloc(ENTRY_HEAD_BYTES + spans.length * SPAN_BYTES)
  writeInt64(entry, 0, position)
  entry.writeUInt32BE(size, 8)
  entry.writeUInt32BE(spans.length, 12)
  writeSpans(entry, ENTRY_HEAD_BYTES, spans)
  return entry
}

/** Index frame and trailer, for the end of a recording of `endPosition` bytes. */
export async function encodeIndex(
  entries: readonly Buffer[],
  endPosition: number,
): Promise<Buffer> {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(entries.length)
  const trailer = Buffer.alloc(TRAILER_BYTES)
  writeInt64(trailer, 0, endPosition)
  TRAILER_MAGIC.copy(trailer, 8)
  return Buffer.concat([
    encodeFrame('I', [await compress(Buffer.concat([count, ...entries]))]),
    trailer,
  ])
}

/** Where the index frame begins, by the last bytes of a recording; undefined where it has none. */
export function indexPosition(trailer: Buffer): number | undefined {
  if (trailer.length < TRAILER_BYTES || !trailer.subarray(8).equals(TRAILER_MAGIC)) return undefined
  return readInt64(trailer, 0)
}

/** Throws `Damage`. */
export async function decodeIndex(body: Buffer): Promise<BlockEntry[]> {
  let bytes: Buffer
  try {
    bytes = await decompress(body, { maxOutputLength: BYTES_MAX })
  } catch {
    throw new Damage('its index cannot be decompressed')
  }
  const entries: BlockEntry[] = []
  let at = 4
  const count = bytes.length < 4 ? 0 : bytes.readUInt32BE(0)
  for (let i = 0; i < count; i++) {
    if (at + ENTRY_HEAD_BYTES > bytes.length) throw new Damage('its index is cut off')
    const spans = readSpans(bytes, at + ENTRY_HEAD_BYTES, bytes.readUInt32BE(at + 12))
    entries.push({ position: readInt64(bytes, at), size: bytes.readUInt32BE(at + 8), spans })
    at += ENTRY_HEAD_BYTES + spans.length * SPAN_BYTES
  }
  return entries
}

function writeSpans(bytes: Buffer, start: number, spans: readonly Span[]): void {
  let at = start
  for (const span of spans) {
    bytes.writeUInt16BE(span.topic, at)
    bytes.writeUInt32BE(span.partition, at + 2)
    writeInt64(bytes, at + 6, span.from)
    writeInt64(bytes, at + 14, span.to)
    bytes.writeUInt32BE(span.records, at + 22)
    writeInt64(bytes, at + 26, span.minTimestamp)
    writeInt64(bytes, at + 34, span.maxTimestamp)
    bytes.writeUInt32BE(span.bytes, at + 42)
    at += SPAN_BYTES
  }
}

function readSpans(bytes: Buffer, at: number, count: number): Span[] {
  if (at + count * SPAN_BYTES > bytes.length) throw new Damage('its list of spans is cut off')
  return Array.from({ length: count }, (_, i) => {
    const p = at + i * SPAN_BYTES
    return {
      topic: bytes.readUInt16BE(p),
      partition: bytes.readUInt32BE(p + 2),
      from: readInt64(bytes, p + 6),
      to: readInt64(bytes, p + 14),
      records: bytes.readUInt32BE(p + 22),
      minTimestamp: readInt64(bytes, p + 26),
      maxTimestamp: readInt64(bytes, p + 34),
      bytes: bytes.readUInt32BE(p + 42),
    }
  })
}

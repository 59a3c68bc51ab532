/**
 * Bytes of the append store, format version 1.
 *
 * A block is one record batch v2 (`log/record-batch.ts`), uncompressed, of rows of one time
 * segment: record key and value are the row's, the record timestamp is the row's time. Its id is
 * its base offset in the changelog, or a counter where there is no changelog. A row whose stream
 * time is not its own time has one record header, and one that is traced has both:
 *
 *     headers = [time [trace]]
 *     time    = name "s", value: varlong(stream time - time)
 *     trace   = name "t", value: trace id:16 bytes span id:8 bytes
 *
 * In the database (ids and segment starts as `encodeTime`; values little-endian):
 *
 *     chunk   = 'B' store 00 partition:uint16 'c' segmentStart id
 *             → version:uint32=1 tier:uint32 blocks:uint32 reserved:uint32=0
 *               (id:float64 bytes:uint32 records:uint32)*
 *     entries = 'B' store 00 partition:uint16 'e' segmentStart id
 *             → (hash:uint32 position:uint32)*
 *     block   = 'B' store 00 partition:uint16 'b' segmentStart id → the batch
 *
 * A chunk describes consecutive blocks of a segment and is named by the first of them; its
 * entries hold, record by record, the hash of the key and the record's position in its block.
 * Blocks are rows here only where the log cannot give them back.
 */
import { AT, readInt64 } from '../log/record-batch.ts'
import { type Cursor, readVarint, readVarlong, varlongSize, writeVarlong } from '../log/varint.ts'
import { assert } from './errors.ts'
import { blocksPrefix, decodeTime, encodeTime } from './keys.ts'
import { type AppendRow, type ByteRange, type StoredRow, traceBytes } from './port.ts'

export const FORMAT_VERSION = 1
const CHUNK_HEADER_BYTES = 16
const CHUNK_BLOCK_BYTES = 16
export const ENTRY_BYTES = 8

export type AppendRowKind = 'c' | 'e' | 'b'

/** Database keys of one store and partition. */
export class AppendKeys {
  readonly #prefix: string

  constructor(store: string, partition: number) {
    this.#prefix = blocksPrefix(store, partition)
  }

  row(kind: AppendRowKind, segmentStartMs: number, id: number): Buffer {
    return Buffer.from(this.#prefix + kind + encodeTime(segmentStartMs) + encodeTime(id), 'latin1')
  }

  /** Where the rows of a kind begin that belong to segments from `segmentStartMs` on. */
  start(kind: AppendRowKind, segmentStartMs: number): Buffer {
    return Buffer.from(this.#prefix + kind + encodeTime(segmentStartMs), 'latin1')
  }

  /** All rows of a kind. */
  range(kind: AppendRowKind): { gte: Buffer; lt: Buffer } {
    const after = String.fromCharCode(kind.charCodeAt(0) + 1)
    return {
      gte: Buffer.from(this.#prefix + kind, 'latin1'),
      lt: Buffer.from(this.#prefix + after, 'latin1'),
    }
  }

  segmentStartOf(key: Buffer): number {
    return decodeTime(key.latin1Slice(this.#prefix.length + 1, this.#prefix.length + 9))
  }
}

export interface BlockDescription {
  readonly id: number
  readonly sizeBytes: number
  readonly records: number
}

export function encodeChunk(tier: number, blocks: readonly BlockDescription[]): Buffer {
  const bytes = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + blocks.length * CHUNK_BLOCK_BYTES)
  bytes.writeUInt32LE(FORMAT_VERSION, 0)
  bytes.writeUInt32LE(tier, 4)
  bytes.writeUInt32LE(blocks.length, 8)
  bytes.writeUInt32LE(0, 12)
  let p = CHUNK_HEADER_BYTES
  for (const { id, sizeBytes, records } of blocks) {
    bytes.writeDoubleLE(id, p)
    bytes.writeUInt32LE(sizeBytes, p + 8)
    bytes.writeUInt32LE(records, p + 12)
    p += CHUNK_BLOCK_BYTES
  }
  return bytes
}

export function decodeChunk(bytes: Buffer): { tier: number; blocks: BlockDescription[] } {
  const version = bytes.readUInt32LE(0)
  assert(version === FORMAT_VERSION, `an index chunk has version ${FORMAT_VERSION}, not ${version}`)
  const count = bytes.readUInt32LE(8)
  assert(
    bytes.length === CHUNK_HEADER_BYTES + count * CHUNK_BLOCK_BYTES,
    'an index chunk is as long as its blocks make it',
  )
  const blocks: BlockDescription[] = []
  for (let p = CHUNK_HEADER_BYTES; p < bytes.length; p += CHUNK_BLOCK_BYTES) {
    blocks.push({
      id: bytes.readDoubleLE(p),
      sizeBytes: bytes.readUInt32LE(p + 8),
      records: bytes.readUInt32LE(p + 12),
    })
  }
  return { tier: bytes.readUInt32LE(4), blocks }
}

/** FNV-1a with a final mix; a part of the format. */
export function hashKey(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return hash ^ (hash >>> 13)
}

/** How many headers there are, as varints. */
const ONE = 2
const TWO = 4
const headerScratch = Buffer.alloc(64)
headerScratch.set([ONE, 2, 0x73])
const TRACE_HEAD = Buffer.from([2, 0x74, traceBytes * 2])
const headerSlice = { bytes: headerScratch, start: 0, end: 0 }

/** The headers of a row, in memory that the next call uses again; undefined when it has none. */
export function rowHeaders({ timeMs, streamTimeMs, trace }: Omit<AppendRow, 'key' | 'value'>) {
  if (timeMs === streamTimeMs && trace === undefined) return undefined
  const delta = streamTimeMs - timeMs
  assert(Number.isSafeInteger(delta), 'times of stored rows are whole ms')
  headerScratch[0] = trace === undefined ? ONE : TWO
  headerScratch[3] = varlongSize(delta) * 2
  let p = writeVarlong(headerScratch, 4, delta)
  if (trace !== undefined) {
    assert(trace.length === traceBytes, `a trace is kept in ${traceBytes} bytes`)
    p += TRACE_HEAD.copy(headerScratch, p)
    p += trace.copy(headerScratch, p)
  }
  headerSlice.end = p
  return headerSlice
}

const cursor: Cursor = { position: 0 }

function skipVarint(bytes: Buffer, position: number): number {
  let p = position
  while (bytes[p++]! >= 0x80);
  return p
}

function varlong(bytes: Buffer): number {
  const byte = bytes[cursor.position]!
  if (byte >= 0x80) return readVarlong(bytes, cursor)
  cursor.position++
  return (byte >>> 1) ^ -(byte & 1)
}

function varint(bytes: Buffer): number {
  const byte = bytes[cursor.position]!
  if (byte >= 0x80) return readVarint(bytes, cursor)
  cursor.position++
  return (byte >>> 1) ^ -(byte & 1)
}

export function baseTimeOf(block: Buffer): number {
  return readInt64(block, AT.baseTimestamp)
}

/** A record: where it is and how its time is reckoned. */
export interface RecordPlace {
  bytes: Buffer
  position: number
  baseTimeMs: number
}

/** Fills `row` from the record when it has this key; false when it has another. */
export function readRow(place: RecordPlace, key: ByteRange, row: StoredRow): boolean {
  const { bytes } = place
  cursor.position = skipVarint(bytes, place.position) + 1
  const timeDelta = varlong(bytes)
  cursor.position = skipVarint(bytes, cursor.position)
  const keyLength = varint(bytes)
  if (keyLength !== key.end - key.start) return false
  const keyStart = cursor.position
  const keyBytes = key.bytes
  for (let i = keyStart, k = key.start; k < key.end; i++, k++) {
    if (bytes[i] !== keyBytes[k]) return false
  }
  cursor.position = keyStart + keyLength
  const valueLength = varint(bytes)
  const valueStart = cursor.position
  const valueEnd = valueStart + valueLength
  row.bytes = bytes
  row.keyStart = keyStart
  row.keyEnd = keyStart + keyLength
  row.valueStart = valueStart
  row.valueEnd = valueEnd
  row.timeMs = place.baseTimeMs + timeDelta
  row.streamTimeMs = row.timeMs
  row.traceStart = -1
  if (bytes[valueEnd] !== 0) {
    cursor.position = valueEnd + 4
    row.streamTimeMs += varlong(bytes)
    if (bytes[valueEnd] === TWO) row.traceStart = cursor.position + TRACE_HEAD.length
  }
  return true
}

/**
 * Decoding of record batches (grammar in `record-batch.ts`) into columns: typed arrays over one
 * buffer, no object a record. Consecutive uncompressed batches share one set of columns.
 *
 * Everything is checked before it is used: bytes that are not what they claim give a
 * `BATCH_CORRUPT`, and no more is allocated than the input can hold.
 */
import { DECOMPRESSED_BYTES_MAX, decompress } from './compression.ts'
import { assert, type MillraceError } from './errors.ts'
import {
  ATTRIBUTE,
  type BatchHeader,
  batchEnd,
  corrupt,
  HEADER_BYTES,
  RECORD_BYTES_MIN,
  readBatchHeader,
} from './record-batch.ts'
import { type Cursor, readVarint, readVarlong } from './varint.ts'

/** The records of one or more batches; record `i` is column entry `i`, `0 <= i < length`. */
export class RecordColumns {
  /** What the positions point into: the input, or the decompressed records. */
  readonly bytes: Buffer
  length = 0
  readonly offsets: Float64Array
  readonly timestamps: Float64Array
  /** Position of the first byte; -1 when the key is null. */
  readonly keyStart: Int32Array
  readonly keyEnd: Int32Array
  /** Position of the first byte; -1 when the value is null. */
  readonly valueStart: Int32Array
  readonly valueEnd: Int32Array
  /** Position of the header count; -1 when there are no headers. */
  readonly headersStart: Int32Array
  /** End of the headers, which is the end of the record. */
  readonly headersEnd: Int32Array

  constructor(bytes: Buffer, capacity: number) {
    this.bytes = bytes
    const memory = new ArrayBuffer(capacity * 40)
    this.offsets = new Float64Array(memory, 0, capacity)
    this.timestamps = new Float64Array(memory, capacity * 8, capacity)
    this.keyStart = new Int32Array(memory, capacity * 16, capacity)
    this.keyEnd = new Int32Array(memory, capacity * 20, capacity)
    this.valueStart = new Int32Array(memory, capacity * 24, capacity)
    this.valueEnd = new Int32Array(memory, capacity * 28, capacity)
    this.headersStart = new Int32Array(memory, capacity * 32, capacity)
    this.headersEnd = new Int32Array(memory, capacity * 36, capacity)
  }
}

export interface DecodeOptions {
  /** Records before it are left out; a fetched batch may begin before what was asked. */
  readonly fromOffset?: number
  /** Checks each batch's CRC; default true. */
  readonly verify?: boolean
  /** Batches it refuses give no records, but still move `nextOffset`: aborted transactions. */
  readonly accept?: (batch: BatchHeader) => boolean
}

export interface DecodedBatches {
  /** All whole batches in order, those without records and control batches too. */
  readonly batches: readonly BatchHeader[]
  /** Their records in offset order. Control records are not among them. */
  readonly runs: readonly RecordColumns[]
  /** Where to read on. `fromOffset` when there was no whole batch. */
  readonly nextOffset: number
  /** Bytes of whole batches. */
  readonly consumed: number
  /** The bytes end inside a batch, as a fetch may: read on from `nextOffset`. */
  readonly truncated: boolean
}

/** Decodes whole batches back to back. Throws `BATCH_CORRUPT` or `BATCH_MAGIC`. */
export function decodeBatches(bytes: Buffer, options: DecodeOptions = {}): DecodedBatches {
  const { fromOffset = 0, verify = true, accept } = options
  const batches: BatchHeader[] = []
  const runs: RecordColumns[] = []
  let run: BatchHeader[] = []
  let position = 0
  while (position < bytes.length) {
    const end = batchEnd(bytes, position)
    if (end < 0) break
    const batch = readBatchHeader(bytes, position, end, verify)
    batches.push(batch)
    position = end
    if (batch.recordCount === 0 || batch.nextOffset <= fromOffset || batch.isControl) continue
    if (accept && !accept(batch)) continue
    if (batch.codec === 'none') {
      run.push(batch)
      continue
    }
    if (run.length > 0) runs.push(decodeRun(bytes, run, fromOffset))
    run = []
    runs.push(decodeCompressed(bytes, batch, fromOffset))
  }
  if (run.length > 0) runs.push(decodeRun(bytes, run, fromOffset))
  return {
    batches,
    runs: runs.filter(columns => columns.length > 0),
    nextOffset: Math.max(fromOffset, batches.at(-1)?.nextOffset ?? 0),
    consumed: position,
    truncated: position < bytes.length,
  }
}

function decodeRun(bytes: Buffer, batches: readonly BatchHeader[], from: number): RecordColumns {
  let records = 0
  for (const batch of batches) records += batch.recordCount
  const columns = new RecordColumns(bytes, records)
  for (const batch of batches) {
    const span = { start: batch.start + HEADER_BYTES, end: batch.end }
    const failed = decodeRecords(columns, batch, span, from)
    if (failed) throw failed
  }
  return columns
}

function decodeCompressed(bytes: Buffer, batch: BatchHeader, from: number): RecordColumns {
  let records: Buffer
  try {
    records = decompress(batch.codec, bytes.subarray(batch.start + HEADER_BYTES, batch.end))
  } catch (cause) {
    if ((cause as MillraceError).code === 'COMPRESSION_MISSING') throw cause
    throw corrupt(batch.start, batch.baseOffset, `its ${batch.codec} data is broken`, cause)
  }
  assert(records.length <= DECOMPRESSED_BYTES_MAX, 'decompression keeps to its bound')
  if (batch.recordCount * RECORD_BYTES_MIN > records.length) {
    throw corrupt(batch.start, batch.baseOffset, `${batch.recordCount} records do not fit into it`)
  }
  const columns = new RecordColumns(records, batch.recordCount)
  const failed = decodeRecords(columns, batch, { start: 0, end: records.length }, from)
  if (failed) throw failed
  return columns
}

const cursor: Cursor = { position: 0 }

/** The next varint; most are one byte. */
function varint(bytes: Buffer): number {
  const byte = bytes[cursor.position]
  if (!(byte < 0x80)) return readVarint(bytes, cursor)
  cursor.position++
  return (byte >>> 1) ^ -(byte & 1)
}

/**
 * Appends a batch's records to the columns; returns the error instead of throwing it so that
 * the loop stays optimised. Reads may run past the record by a varint, even past the buffer
 * (`undefined`, which fails every comparison): the checks at the record's end catch it. Bytes
 * that are no varlong are no varint either, so the offset after a broken timestamp fails.
 */
function decodeRecords(
  columns: RecordColumns,
  batch: BatchHeader,
  { start, end }: { readonly start: number; readonly end: number },
  fromOffset: number,
): MillraceError | undefined {
  const { bytes, offsets, timestamps, keyStart, keyEnd, valueStart, valueEnd } = columns
  const { headersStart, headersEnd } = columns
  const { baseOffset, baseTimestamp, maxTimestamp, recordCount } = batch
  const logAppendTime = (batch.attributes & ATTRIBUTE.logAppendTime) !== 0
  const lastDelta = batch.lastOffset - baseOffset
  const fail = (reason: string) => corrupt(batch.start, baseOffset, reason)
  let out = columns.length
  let previousDelta = -1
  cursor.position = start
  for (let i = 0; i < recordCount; i++) {
    const size = varint(bytes)
    const recordEnd = cursor.position + size
    if (!(size >= RECORD_BYTES_MIN - 1 && recordEnd <= end)) return fail('a record is too long')
    cursor.position++ // record attributes: none are defined
    const timestampDelta =
      bytes[cursor.position] < 0x80 ? varint(bytes) : readVarlong(bytes, cursor)
    const delta = varint(bytes)
    if (!(delta > previousDelta && delta <= lastDelta)) return fail('its offsets do not rise')
    previousDelta = delta
    const keyLength = varint(bytes)
    const key = cursor.position
    if (!(keyLength >= -1 && key + keyLength < recordEnd)) return fail('a key is too long')
    if (keyLength > 0) cursor.position = key + keyLength
    const valueLength = varint(bytes)
    const value = cursor.position
    const headers = valueLength > 0 ? value + valueLength : value
    if (!(valueLength >= -1 && headers < recordEnd)) return fail('a value is too long')
    const bare = bytes[headers] === 0
    if (bare && headers + 1 !== recordEnd) return fail('a record is too short')
    cursor.position = recordEnd
    if (baseOffset + delta < fromOffset) continue
    offsets[out] = baseOffset + delta
    timestamps[out] = logAppendTime ? maxTimestamp : baseTimestamp + timestampDelta
    keyStart[out] = keyLength < 0 ? -1 : key
    keyEnd[out] = keyLength < 0 ? -1 : key + keyLength
    valueStart[out] = valueLength < 0 ? -1 : value
    valueEnd[out] = valueLength < 0 ? -1 : headers
    headersStart[out] = bare ? -1 : headers
    headersEnd[out] = recordEnd
    out++
  }
  if (cursor.position !== end) return fail('bytes follow its last record')
  columns.length = out
  return undefined
}

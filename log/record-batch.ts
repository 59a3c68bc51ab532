/**
 * Kafka's record batch, format 2: the one record format of Millrace, on the wire, in the
 * embedded log and in recordings. Integers are big-endian.
 *
 *     batch   = baseOffset:int64 batchLength:int32 partitionLeaderEpoch:int32 magic:int8=2
 *               crc:uint32 attributes:int16 lastOffsetDelta:int32 baseTimestamp:int64
 *               maxTimestamp:int64 producerId:int64 producerEpoch:int16 baseSequence:int32
 *               recordCount:int32 record*
 *     record  = length:varint attributes:int8 timestampDelta:varlong offsetDelta:varint
 *               keyLength:varint key valueLength:varint value headerCount:varint header*
 *     header  = nameLength:varint name valueLength:varint value
 *     control = key version:int16 type:int16 (0 abort, 1 commit)
 *               value version:int16 coordinatorEpoch:int32
 *
 * `batchLength` counts the bytes after itself. `crc` is the CRC-32C from `attributes` to the
 * end, so base offset and leader epoch are written without a new one. Length -1 is null. With
 * compression, the records together are one compressed block.
 *
 * attributes: bits 0-2 codec, 3 timestamps are the log's (all `maxTimestamp`), 4 transactional,
 * 5 control, 6 `baseTimestamp` is the time at which tombstones may go (compaction).
 *
 * Files: this one has the header, `record-columns.ts` decodes, `record-batch-builder.ts` encodes.
 */
import { CODECS, type Codec } from './compression.ts'
import { crc32c } from './crc32c.ts'
import { assert, logError } from './errors.ts'
import { saturate } from './varint.ts'

/** Byte positions in a batch. */
export const AT = {
  baseOffset: 0,
  batchLength: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  recordCount: 57,
  records: 61,
} as const

/** Bytes before `batchLength` starts to count. */
export const LENGTH_OVERHEAD = 12
export const HEADER_BYTES = AT.records
export const MAGIC = 2
/** Bytes of a record with empty everything. */
export const RECORD_BYTES_MIN = 7

export const ATTRIBUTE = {
  codec: 7,
  logAppendTime: 8,
  transactional: 16,
  control: 32,
  deleteHorizon: 64,
} as const

export type ControlType = 'abort' | 'commit' | 'other'

/** What a batch says about itself. Offsets are exact; times beyond 2^53 are cut off there. */
export interface BatchHeader {
  /** Where the batch begins and ends in the bytes it was read from. */
  readonly start: number
  readonly end: number
  readonly baseOffset: number
  readonly lastOffset: number
  /** Where to read on: the offset after the batch, even if compaction took its last record. */
  readonly nextOffset: number
  readonly attributes: number
  readonly codec: Codec
  readonly isTransactional: boolean
  readonly isControl: boolean
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  /** -1 when the producer was not idempotent; likewise epoch and sequence. */
  readonly producerId: number
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly recordCount: number
  /** Of a control batch: what it says. */
  readonly control?: ControlType
}

export function readInt64(bytes: Buffer, position: number): number {
  return bytes.readInt32BE(position) * 0x1_0000_0000 + bytes.readUInt32BE(position + 4)
}

export function writeInt64(bytes: Buffer, position: number, value: number): void {
  const high = Math.floor(value / 0x1_0000_0000)
  bytes.writeInt32BE(high, position)
  bytes.writeUInt32BE(value - high * 0x1_0000_0000, position + 4)
}

export function corrupt(position: number, baseOffset: number, reason: string, cause?: unknown) {
  return logError('BATCH_CORRUPT', { position, baseOffset, reason }, { cause })
}

/** End of the batch at `position`, or -1 when the bytes stop before it. Checks length and magic. */
export function batchEnd(bytes: Buffer, position: number): number {
  if (position + AT.crc > bytes.length) return -1
  const baseOffset = readInt64(bytes, AT.baseOffset + position)
  const magic = bytes.readInt8(position + AT.magic)
  if (magic !== MAGIC) throw logError('BATCH_MAGIC', { position, magic })
  const length = bytes.readInt32BE(position + AT.batchLength)
  if (length < HEADER_BYTES - LENGTH_OVERHEAD) {
    throw corrupt(position, baseOffset, `its length is ${length}`)
  }
  if (!(baseOffset >= 0 && baseOffset <= Number.MAX_SAFE_INTEGER)) {
    throw corrupt(position, baseOffset, 'its base offset is not one')
  }
  const end = position + LENGTH_OVERHEAD + length
  return end > bytes.length ? -1 : end
}

/** Reads the header of the whole batch in `[start, end)`; `verify` checks its CRC. */
export function readBatchHeader(
  bytes: Buffer,
  start: number,
  end: number,
  verify: boolean,
): BatchHeader {
  const baseOffset = readInt64(bytes, start + AT.baseOffset)
  if (verify) {
    const expected = bytes.readUInt32BE(start + AT.crc)
    const actual = crc32c(bytes, start + AT.attributes, end)
    if (expected !== actual) throw corrupt(start, baseOffset, 'its CRC does not match')
  }
  const attributes = bytes.readInt16BE(start + AT.attributes)
  const codec = CODECS[attributes & ATTRIBUTE.codec]
  if (codec === undefined) throw corrupt(start, baseOffset, 'its compression is unknown')
  const lastOffset = baseOffset + bytes.readInt32BE(start + AT.lastOffsetDelta)
  const recordCount = bytes.readInt32BE(start + AT.recordCount)
  if (lastOffset < baseOffset) throw corrupt(start, baseOffset, 'it ends before it begins')
  if (lastOffset >= Number.MAX_SAFE_INTEGER) throw corrupt(start, baseOffset, 'its end is too far')
  if (recordCount < 0 || recordCount > lastOffset - baseOffset + 1) {
    throw corrupt(start, baseOffset, `it cannot have ${recordCount} records`)
  }
  if (codec === 'none' && recordCount * RECORD_BYTES_MIN > end - start - HEADER_BYTES) {
    throw corrupt(start, baseOffset, `${recordCount} records do not fit into it`)
  }
  const isControl = (attributes & ATTRIBUTE.control) !== 0
  return {
    start,
    end,
    baseOffset,
    lastOffset,
    nextOffset: lastOffset + 1,
    attributes,
    codec,
    isTransactional: (attributes & ATTRIBUTE.transactional) !== 0,
    isControl,
    baseTimestamp: saturate(readInt64(bytes, start + AT.baseTimestamp)),
    maxTimestamp: saturate(readInt64(bytes, start + AT.maxTimestamp)),
    producerId: readInt64(bytes, start + AT.producerId),
    producerEpoch: bytes.readInt16BE(start + AT.producerEpoch),
    baseSequence: bytes.readInt32BE(start + AT.baseSequence),
    recordCount,
    control: isControl ? controlTypeAt(bytes, start, end) : undefined,
  }
}

/** Headers of the whole batches, without decompressing or looking at records. */
export function readBatchHeaders(bytes: Buffer, verify = false): BatchHeader[] {
  const headers: BatchHeader[] = []
  for (let position = 0; position < bytes.length; ) {
    const end = batchEnd(bytes, position)
    if (end < 0) break
    headers.push(readBatchHeader(bytes, position, end, verify))
    position = end
  }
  return headers
}

/**
 * Where to read on after whole batches, by their headers alone; `otherwise` when there is none or
 * they are not framed. Nothing is verified.
 */
export function offsetAfter(bytes: Buffer, otherwise: number): number {
  let last = -1
  try {
    for (let end = 0; end >= 0 && end < bytes.length; ) {
      const start = end
      end = batchEnd(bytes, start)
      if (end >= 0) last = start
    }
  } catch {
    return otherwise
  }
  if (last < 0) return otherwise
  const delta = bytes.readInt32BE(last + AT.lastOffsetDelta)
  return Math.max(otherwise, readInt64(bytes, last + AT.baseOffset) + delta + 1)
}

/**
 * What a control batch says; one that compaction has emptied says nothing. A control record is
 * fixed in shape: length, attributes, two deltas of one byte, key length 4. Control batches are
 * never compressed.
 */
export function controlTypeAt(bytes: Buffer, start: number, end: number): ControlType {
  const key = start + HEADER_BYTES + 5
  if (key + 4 > end || bytes[key - 1] !== 8) return 'other'
  const type = bytes.readInt16BE(key + 2)
  return type === 0 ? 'abort' : type === 1 ? 'commit' : 'other'
}

/** Gives a batch its place in a partition. Needs no new CRC; changes the bytes in place. */
export function rebase(batch: Buffer, baseOffset: number, leaderEpoch = 0): void {
  assert(batch.length >= HEADER_BYTES, 'a batch has a whole header')
  writeInt64(batch, AT.baseOffset, baseOffset)
  batch.writeInt32BE(leaderEpoch, AT.leaderEpoch)
}

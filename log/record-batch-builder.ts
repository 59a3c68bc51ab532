/**
 * Encoding of record batches (grammar in `record-batch.ts`), byte for byte as Kafka's Java
 * client does it. One builder is used again and again; its buffer only grows.
 */
import { CODECS, type Codec, compress } from './compression.ts'
import { crc32c } from './crc32c.ts'
import { assert } from './errors.ts'
import { AT, ATTRIBUTE, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, writeInt64 } from './record-batch.ts'
import type { Header } from './record-headers.ts'
import { varintSize, varlongSize, writeVarint, writeVarlong } from './varint.ts'

/** Bytes `[start, end)` of a buffer. Callers reuse one object for a whole batch. */
export interface ByteSlice {
  bytes: Uint8Array
  start: number
  end: number
}

/** Headers as pairs, or as they stand in another batch: `[headersStart, headersEnd)`. */
export type HeaderSource = readonly Header[] | ByteSlice

export interface FinishOptions {
  readonly compression?: Codec
  /** -1 (the default) where the producer is not idempotent; likewise epoch and sequence. */
  readonly producerId?: number
  readonly producerEpoch?: number
  readonly baseSequence?: number
  readonly transactional?: boolean
  readonly baseOffset?: number
  /** When compaction took records off the end: the last offset delta that the batch had. */
  readonly lastOffsetDelta?: number
}

export interface ResetOptions {
  /** Default: the timestamp of the first record. */
  readonly baseTimestampMs?: number
  /** `baseTimestampMs` says when tombstones may go. */
  readonly deleteHorizon?: boolean
}

const BYTES_INITIAL = 4096
const COPY_LOOP_MAX = 12
const pair: ByteSlice = { bytes: Buffer.alloc(0), start: 0, end: 0 }

export class RecordBatchBuilder {
  /** Where the last record's key and value begin in the batch, if it is not compressed. */
  keyPosition = 0
  valuePosition = 0
  /** Offset delta of the next record; raise it to leave a gap. */
  offsetDelta = 0
  #bytes = Buffer.allocUnsafeSlow(BYTES_INITIAL)
  #end: number = HEADER_BYTES
  #count = 0
  #baseTimestamp = 0
  #baseGiven = false
  #deleteHorizon = false
  #maxTimestamp = 0

  get count(): number {
    return this.#count
  }

  /** Bytes of the batch as it would be without compression. */
  get sizeBytes(): number {
    return this.#end
  }

  /** The unfinished batch up to `sizeBytes`, its header not yet written; moves as it grows. */
  get bytes(): Buffer {
    return this.#bytes
  }

  /** Drops what was appended. */
  reset(options: ResetOptions = {}): void {
    this.#end = HEADER_BYTES
    this.#count = 0
    this.offsetDelta = 0
    this.#baseGiven = options.baseTimestampMs !== undefined
    this.#baseTimestamp = options.baseTimestampMs ?? 0
    this.#deleteHorizon = options.deleteHorizon ?? false
  }

  /** Adds a record; null is the null key or value. The bytes are copied. */
  append(
    timestampMs: number,
    key: ByteSlice | null,
    value: ByteSlice | null,
    headers?: HeaderSource,
  ): void {
    if (this.#count === 0) {
      if (!this.#baseGiven) this.#baseTimestamp = timestampMs
      this.#maxTimestamp = timestampMs
    } else if (timestampMs > this.#maxTimestamp) this.#maxTimestamp = timestampMs
    const timestampDelta = timestampMs - this.#baseTimestamp
    const keyLength = key === null ? -1 : key.end - key.start
    const valueLength = value === null ? -1 : value.end - value.start
    const size =
      1 +
      varlongSize(timestampDelta) +
      varintSize(this.offsetDelta) +
      varintSize(keyLength) +
      (keyLength > 0 ? keyLength : 0) +
      varintSize(valueLength) +
      (valueLength > 0 ? valueLength : 0) +
      (headers === undefined ? 1 : headersSize(headers))
    if (this.#end + size + 5 > this.#bytes.length) this.#grow(size + 5)
    const bytes = this.#bytes
    let p = writeVarint(bytes, this.#end, size)
    const end = p + size
    bytes[p++] = 0
    p = writeVarlong(bytes, p, timestampDelta)
    p = writeVarint(bytes, p, this.offsetDelta)
    p = writeVarint(bytes, p, keyLength)
    this.keyPosition = p
    if (key !== null && value !== null && adjoin(key, value)) {
      this.valuePosition = p + value.start - key.start
      pair.bytes = key.bytes
      pair.start = key.start
      pair.end = value.end
      p = copy(pair, bytes, p)
    } else {
      if (key !== null) p = copy(key, bytes, p)
      p = writeVarint(bytes, p, valueLength)
      this.valuePosition = p
      if (value !== null) p = copy(value, bytes, p)
    }
    if (headers === undefined) bytes[p++] = 0
    else p = writeHeaders(headers, bytes, p)
    assert(p === end, 'a record is as long as it was reckoned')
    this.#end = p
    this.#count++
    this.offsetDelta++
  }

  /**
   * The batch, in a buffer of its own, and the builder reset. Base offset 0 unless given:
   * `rebase` places it.
   */
  finish(options: FinishOptions = {}): Buffer {
    assert(this.#count > 0, 'a batch has a record')
    const codec = options.compression ?? 'none'
    const batch = this.#body(codec)
    const attributes =
      CODECS.indexOf(codec) |
      (options.transactional ? ATTRIBUTE.transactional : 0) |
      (this.#deleteHorizon ? ATTRIBUTE.deleteHorizon : 0)
    writeFrame(batch, {
      ...options,
      attributes,
      lastOffsetDelta: options.lastOffsetDelta ?? this.offsetDelta - 1,
      baseTimestamp: this.#baseTimestamp,
      maxTimestamp: this.#maxTimestamp,
      recordCount: this.#count,
    })
    this.reset()
    return batch
  }

  #body(codec: Codec): Buffer {
    if (codec === 'none') {
      const batch = Buffer.allocUnsafeSlow(this.#end)
      this.#bytes.copy(batch, 0, 0, this.#end)
      return batch
    }
    const body = compress(codec, this.#bytes.subarray(HEADER_BYTES, this.#end))
    const batch = Buffer.allocUnsafeSlow(HEADER_BYTES + body.length)
    body.copy(batch, HEADER_BYTES)
    return batch
  }

  #grow(room: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#end + room))
    this.#bytes.copy(grown, 0, 0, this.#end)
    this.#bytes = grown
  }
}

interface Frame extends FinishOptions {
  readonly attributes: number
  readonly lastOffsetDelta: number
  readonly baseTimestamp: number
  readonly maxTimestamp: number
  readonly recordCount: number
}

function writeFrame(batch: Buffer, frame: Frame): void {
  writeInt64(batch, AT.baseOffset, frame.baseOffset ?? 0)
  batch.writeInt32BE(batch.length - LENGTH_OVERHEAD, AT.batchLength)
  batch.writeInt32BE(-1, AT.leaderEpoch)
  batch.writeInt8(MAGIC, AT.magic)
  batch.writeInt16BE(frame.attributes, AT.attributes)
  batch.writeInt32BE(frame.lastOffsetDelta, AT.lastOffsetDelta)
  writeInt64(batch, AT.baseTimestamp, frame.baseTimestamp)
  writeInt64(batch, AT.maxTimestamp, frame.maxTimestamp)
  writeInt64(batch, AT.producerId, frame.producerId ?? -1)
  batch.writeInt16BE(frame.producerEpoch ?? -1, AT.producerEpoch)
  batch.writeInt32BE(frame.baseSequence ?? -1, AT.baseSequence)
  batch.writeInt32BE(frame.recordCount, AT.recordCount)
  batch.writeUInt32BE(crc32c(batch, AT.attributes), AT.crc)
}

/** The marker that ends a transaction in a partition. */
export function controlBatch(
  type: 'abort' | 'commit',
  timestampMs: number,
  producer: { readonly id: number; readonly epoch: number; readonly coordinatorEpoch: number },
): Buffer {
  const record = Buffer.from(`20000000080000000${type === 'commit' ? 1 : 0}0c00000000000000`, 'hex')
  record.writeInt32BE(producer.coordinatorEpoch, 12)
  const batch = Buffer.allocUnsafeSlow(HEADER_BYTES + record.length)
  record.copy(batch, HEADER_BYTES)
  writeFrame(batch, {
    attributes: ATTRIBUTE.transactional | ATTRIBUTE.control,
    lastOffsetDelta: 0,
    baseTimestamp: timestampMs,
    maxTimestamp: timestampMs,
    recordCount: 1,
    producerId: producer.id,
    producerEpoch: producer.epoch,
  })
  return batch
}

/** Key and value stand in one buffer as they do in a record: one copy takes both. */
function adjoin(key: ByteSlice, value: ByteSlice): boolean {
  const { bytes } = key
  const gap = value.start - key.end
  if (bytes !== value.bytes || gap < 1 || gap > 2) return false
  const zigzag = (value.end - value.start) << 1
  const low = bytes[key.end]!
  if (gap === 1) return zigzag < 0x80 && low === zigzag
  if (zigzag < 0x80 || zigzag >= 0x4000) return false
  return low === ((zigzag & 0x7f) | 0x80) && bytes[key.end + 1] === zigzag >>> 7
}

function copy({ bytes, start, end }: ByteSlice, target: Buffer, position: number): number {
  const length = end - start
  if (length <= COPY_LOOP_MAX) {
    for (let i = 0; i < length; i++) target[position + i] = bytes[start + i]!
  } else if (bytes instanceof Buffer) bytes.copy(target, position, start, end)
  else target.set(bytes.subarray(start, end), position)
  return position + length
}

function isSlice(headers: HeaderSource): headers is ByteSlice {
  return !Array.isArray(headers)
}

function headersSize(headers: HeaderSource): number {
  if (isSlice(headers)) return headers.end - headers.start
  let size = varintSize(headers.length)
  for (const [name, value] of headers) {
    const nameLength = Buffer.byteLength(name)
    size += varintSize(nameLength) + nameLength + varintSize(value === null ? -1 : value.length)
    if (value !== null) size += value.length
  }
  return size
}

function writeHeaders(headers: HeaderSource, bytes: Buffer, position: number): number {
  if (isSlice(headers)) return copy(headers, bytes, position)
  let p = writeVarint(bytes, position, headers.length)
  for (const [name, value] of headers) {
    p = writeVarint(bytes, p, Buffer.byteLength(name))
    p += bytes.write(name, p)
    p = writeVarint(bytes, p, value === null ? -1 : value.length)
    if (value !== null) p += value.copy(bytes, p)
  }
  return p
}

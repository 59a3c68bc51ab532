/**
 * What an edge writes to its repartition topic when the other end is elsewhere, version 1;
 * integers big-endian. A record's key is written by the exchange's key serde, its timestamp is
 * its event time and its headers are those of the record it was made of.
 *
 *     value    = record | progress
 *     record   = 1:uint8 flags:uint8 streamTime:float64 source:int32 offset:float64
 *                [length:uint32 previous] bytes
 *     progress = 2:uint8 idle:uint8 upstream:uint32 time:float64 (source:uint32 offset:float64)*
 *
 * Flags: 1 the value is null, 2 `previous` is there, 4 the row had no value before. A source is
 * its place in the plan's origins, -1 for results of closing. Progress is the watermark of one
 * upstream task (law 6) and how far each source that reaches it is processed (law 18), -1 where it
 * has not heard; it stands behind every record that it speaks of.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import { saturate } from '../log/varint.ts'
import { type Batch, NO_SOURCE } from './batch.ts'
import { streamsError } from './errors.ts'
import { UNHEARD } from './position.ts'
import type { RecordOrigin } from './retries.ts'
import { exchangedHeaders, keyBytes, type PartitionWriter } from './sinks.ts'
import type { ExchangeNode } from './topology.ts'
import type { InputProgress } from './watermark.ts'

const RECORD = 1
const PROGRESS = 2
const NULL_VALUE = 1
const HAS_PREVIOUS = 2
const NO_PREVIOUS = 4
const FLAGS_MAX = 7
const RECORD_HEAD = 22
const PROGRESS_HEAD = 14
const POSITION_BYTES = 12

let scratch = Buffer.allocUnsafeSlow(64 * 1024)
const slice = { bytes: scratch, start: 0, end: 0 }

function room(bytes: number): Buffer {
  if (scratch.length < bytes) scratch = Buffer.allocUnsafeSlow(bytes * 2)
  slice.bytes = scratch
  return scratch
}

/** Writes record `i` of a batch. */
export function writeExchanged(
  node: ExchangeNode,
  writer: PartitionWriter,
  batch: Batch,
  i: number,
): void {
  const value = batch.values[i]
  const nothing = value === null || value === undefined
  const bytes = nothing ? undefined : node.value.encode(value)
  const before = batch.previous?.[i]
  const previous = before === undefined ? undefined : node.value.encode(before)
  const length = (bytes?.length ?? 0) + (previous === undefined ? 0 : 4 + previous.length)
  const target = room(RECORD_HEAD + length)
  let flags = nothing ? NULL_VALUE : 0
  if (previous !== undefined) flags |= HAS_PREVIOUS
  else if (batch.previous !== undefined) flags |= NO_PREVIOUS
  target[0] = RECORD
  target[1] = flags
  target.writeDoubleBE(batch.streamTimes[i]!, 2)
  target.writeInt32BE(batch.sources[i]!, 10)
  target.writeDoubleBE(batch.offsets[i]!, 14)
  let p = RECORD_HEAD
  if (previous !== undefined) {
    p = target.writeUInt32BE(previous.length, p)
    p += previous.copy(target, p)
  }
  if (bytes !== undefined) p += bytes.copy(target, p)
  slice.end = p
  const key = batch.keys[i]
  const row = key === null || key === undefined ? null : keyBytes(node.key.encode(key))
  const headers = exchangedHeaders(batch, i)
  writer.roomFor(p + (row?.end ?? 0) + 64).append(batch.times[i]!, row, slice, headers)
}

/** Writes the progress of an upstream task. */
export function writeProgress(
  writer: PartitionWriter,
  upstream: number,
  { timeMs, idle, positions }: InputProgress,
): void {
  const target = room(PROGRESS_HEAD + (positions?.size ?? 0) * POSITION_BYTES)
  target[0] = PROGRESS
  target[1] = idle ? 1 : 0
  target.writeUInt32BE(upstream, 2)
  let p = target.writeDoubleBE(timeMs, 6)
  for (const [source, offset] of positions ?? []) {
    p = target.writeUInt32BE(source, p)
    p = target.writeDoubleBE(offset, p)
  }
  slice.end = p
  // Event times order what is taken first; that of a watermark is its own where it has one.
  const recordMs = saturate(Math.max(0, Math.trunc(timeMs)))
  writer.roomFor(p + 64).append(recordMs, null, slice)
}

/** Who takes what a repartition topic says. */
export interface ExchangeReader {
  readonly node: ExchangeNode
  readonly topic: string
  readonly partition: number
  progress(upstream: number, progress: InputProgress): void
}

/** The source and offset in the head of a record; undefined of progress, and of other bytes. */
export function exchangedOrigin(
  { bytes, valueStart, valueEnd }: RecordColumns,
  row: number,
): RecordOrigin | undefined {
  const start = valueStart[row]!
  if (start < 0 || bytes[start] !== RECORD || valueEnd[row]! - start < RECORD_HEAD) return undefined
  return { source: sourceAt(bytes, start + 10), offset: bytes.readDoubleBE(start + 14) }
}

/** Reads row `row` of `columns` into the batch, or hands its progress over. */
export function readExchanged(
  reader: ExchangeReader,
  columns: RecordColumns,
  row: number,
  batch: Batch,
): void {
  const { bytes } = columns
  const start = columns.valueStart[row]!
  const end = columns.valueEnd[row]!
  try {
    if (start < 0) throw new RangeError('its value is null')
    const kind = bytes[start]
    if (kind === RECORD && end - start >= RECORD_HEAD) readRecord(reader.node, columns, row, batch)
    else if (kind === PROGRESS && end - start >= PROGRESS_HEAD) {
      reader.progress(bytes.readUInt32BE(start + 2), readProgress(bytes, start, end))
    } else throw new RangeError(`it is of kind ${kind} and ${end - start} bytes long`)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const { topic, partition } = reader
    const offset = columns.offsets[row]!
    throw streamsError('EXCHANGE_BROKEN', { topic, partition, offset, reason }, { cause })
  }
}

function readRecord(node: ExchangeNode, columns: RecordColumns, row: number, batch: Batch): void {
  const { bytes } = columns
  const start = columns.valueStart[row]!
  const end = columns.valueEnd[row]!
  const flags = bytes[start + 1]!
  if (flags > FLAGS_MAX || (flags & HAS_PREVIOUS && flags & NO_PREVIOUS)) {
    throw new RangeError(`its flags are ${flags}`)
  }
  let p = start + RECORD_HEAD
  let previous: unknown
  if (flags & HAS_PREVIOUS) {
    const length = p + 4 <= end ? bytes.readUInt32BE(p) : Number.POSITIVE_INFINITY
    p += 4
    if (p + length > end) throw new RangeError('the value before ends early')
    previous = node.value.decode(bytes, p, p + length)
    p += length
  }
  const isNull = (flags & NULL_VALUE) !== 0
  if (isNull && p < end) throw new RangeError('bytes follow its null value')
  const value = isNull ? null : node.value.decode(bytes, p, end)
  const keyStart = columns.keyStart[row]!
  const key =
    keyStart < 0 ? null : node.key.decode(bytes.latin1Slice(keyStart, columns.keyEnd[row]!))
  batch.streamTimes.push(timeAt(bytes, start + 2))
  batch.sources.push(sourceAt(bytes, start + 10))
  batch.offsets.push(offsetAt(bytes, start + 14))
  batch.keys.push(key)
  batch.values.push(value)
  batch.times.push(columns.timestamps[row]!)
  batch.rows.push(row)
  if (flags & (HAS_PREVIOUS | NO_PREVIOUS)) {
    // A batch of a topic may hold table changes and none: those without had nothing before.
    const list = (batch.previous ??= [])
    while (list.length < batch.length - 1) list.push(undefined)
    list.push(previous)
  } else if (batch.previous !== undefined) batch.previous.push(undefined)
  // From here on the columns are those of the value as the serde wrote it.
  columns.valueStart[row] = isNull ? -1 : p
}

function timeAt(bytes: Buffer, position: number): number {
  const timeMs = bytes.readDoubleBE(position)
  if (Number.isNaN(timeMs)) throw new RangeError('a time is no number')
  return timeMs
}

function sourceAt(bytes: Buffer, position: number): number {
  const source = bytes.readInt32BE(position)
  if (source < NO_SOURCE) throw new RangeError(`its source is ${source}`)
  return source
}

function offsetAt(bytes: Buffer, position: number): number {
  const offset = bytes.readDoubleBE(position)
  if (!Number.isSafeInteger(offset) || offset < UNHEARD) {
    throw new RangeError(`an offset is ${offset}`)
  }
  return offset
}

/** Reads the progress that stands in `bytes[start, end)`. Throws a RangeError. */
export function readProgress(bytes: Buffer, start: number, end: number): InputProgress {
  const idle = bytes[start + 1]!
  if (idle > 1) throw new RangeError(`its idle flag is ${idle}`)
  const positions = new Map<number, number>()
  let p = start + PROGRESS_HEAD
  if ((end - p) % POSITION_BYTES !== 0) throw new RangeError('its positions end early')
  for (; p < end; p += POSITION_BYTES) positions.set(bytes.readUInt32BE(p), offsetAt(bytes, p + 4))
  return { timeMs: timeAt(bytes, start + 6), idle: idle === 1, positions }
}

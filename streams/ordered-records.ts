/**
 * Rows of records in the order of their order keys (law 16), version 1; integers big-endian.
 *
 *     records = record*
 *     record  = time:float64 source:int32 offset:float64 note:float64 length:uint32 value
 *
 * What a note says is the step's. Records of one order key stay in the order in which they came:
 * one record made them. Results of closing have no order key but their time; there bytes decide.
 */
import type { Codec } from '../state/port.ts'
import { type Batch, NO_SOURCE } from './batch.ts'

export interface OrderedRecord {
  readonly timeMs: number
  /** Index of the source partition; -1 for results of closing. */
  readonly source: number
  readonly offset: number
  readonly note: number
  readonly value: Buffer
}

const HEAD_BYTES = 32

export const orderedRecordsCodec: Codec<readonly OrderedRecord[]> = {
  encode(records) {
    let length = 0
    for (const { value } of records) length += HEAD_BYTES + value.length
    const bytes = Buffer.allocUnsafe(length)
    let p = 0
    for (const { timeMs, source, offset, note, value } of records) {
      bytes.writeDoubleBE(timeMs, p)
      bytes.writeInt32BE(source, p + 8)
      bytes.writeDoubleBE(offset, p + 12)
      bytes.writeDoubleBE(note, p + 20)
      bytes.writeUInt32BE(value.length, p + 28)
      value.copy(bytes, p + HEAD_BYTES)
      p += HEAD_BYTES + value.length
    }
    return bytes
  },
  decode(bytes) {
    const records: OrderedRecord[] = []
    for (let p = 0; p < bytes.length; ) {
      const end = p + HEAD_BYTES + bytes.readUInt32BE(p + 28)
      if (end > bytes.length) throw new RangeError('an ordered record ends early')
      records.push({
        timeMs: bytes.readDoubleBE(p),
        source: bytes.readInt32BE(p + 8),
        offset: bytes.readDoubleBE(p + 12),
        note: bytes.readDoubleBE(p + 20),
        value: bytes.subarray(p + HEAD_BYTES, end),
      })
      p = end
    }
    return records
  },
}

/** Record `i` of a batch, with its value as bytes that are its own. */
export function orderedRecord(
  input: Batch,
  i: number,
  { note, value }: Pick<OrderedRecord, 'note' | 'value'>,
): OrderedRecord {
  const timeMs = input.times[i]!
  return { timeMs, source: input.sources[i]!, offset: input.offsets[i]!, note, value }
}

/** Where a record stands among others (law 16). */
export type OrderKey = Pick<OrderedRecord, 'timeMs' | 'source' | 'offset'>

export function compareOrder(a: OrderKey, b: OrderKey): number {
  return a.timeMs - b.timeMs || a.source - b.source || a.offset - b.offset
}

function compare(a: OrderedRecord, b: OrderedRecord): number {
  const order = compareOrder(a, b)
  return order === 0 && a.source === NO_SOURCE ? a.value.compare(b.value) : order
}

/** The records with one more, behind those of equal order. */
export function withRecord(
  records: readonly OrderedRecord[],
  record: OrderedRecord,
): OrderedRecord[] {
  let at = records.length
  while (at > 0 && compare(records[at - 1]!, record) > 0) at--
  return [...records.slice(0, at), record, ...records.slice(at)]
}

/** Those of ordered records whose times are from one to another, both included. */
export function recordsBetween(
  records: readonly OrderedRecord[],
  fromMs: number,
  toMs: number,
): readonly OrderedRecord[] {
  const from = firstAt(records, fromMs)
  return records.slice(from, Math.max(firstAt(records, toMs + 1), from))
}

function firstAt(records: readonly OrderedRecord[], timeMs: number): number {
  let first = 0
  for (let end = records.length; first < end; ) {
    const middle = (first + end) >>> 1
    if (records[middle]!.timeMs < timeMs) first = middle + 1
    else end = middle
  }
  return first
}

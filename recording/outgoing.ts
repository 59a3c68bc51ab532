/** Recorded records on their way out: as the batches they were in, or in new ones. */
import { ATTRIBUTE, readBatchHeaders } from '../log/record-batch.ts'
import { type ByteSlice, RecordBatchBuilder } from '../log/record-batch-builder.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, headersBytesMax } from '../log/record-headers.ts'
import type { Change } from './plan.ts'
import type { OutgoingRecords } from './port.ts'
import type { SpanData } from './reader.ts'

/** A record's key, value and headers after a change of its time and identity. */
export interface ChangedRecord {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly Header[]
}

/**
 * Changes record `i`; undefined where nothing but its timestamp changes. Throws a MillraceError
 * where it cannot, which ends the replay.
 */
export type ChangeRecord = (
  columns: RecordColumns,
  i: number,
  change: Change,
  place: { readonly topic: string; readonly partition: number },
) => ChangedRecord | undefined

/** Largest batch that the target's topic takes, bytes; undefined where that is not known. */
export type BatchLimit = (topic: string) => number | undefined

/** A new batch is finished before it is larger than this, or than its topic takes. */
const BATCH_BYTES = 256 * 1024
/** What a record has besides key, value and headers: lengths, time and offset. */
const RECORD_OVERHEAD = 32

/**
 * True when the batches can go out as they are: all of their records are part of the recording,
 * their offsets have no gaps, and their times are the producer's; and none is too large.
 */
export function isWhole({ span, bytes }: SpanData, bytesMax = Number.POSITIVE_INFINITY): boolean {
  const headers = readBatchHeaders(bytes)
  const unusual = ATTRIBUTE.logAppendTime | ATTRIBUTE.deleteHorizon
  const arePlain = headers.every(header => {
    const { attributes, baseOffset, lastOffset, recordCount, start, end } = header
    if ((attributes & unusual) !== 0 || end - start > bytesMax) return false
    return recordCount === lastOffset - baseOffset + 1
  })
  const [first] = headers
  const last = headers.at(-1)
  return arePlain && first!.baseOffset >= span.from && last!.lastOffset < span.to
}

/** Puts records into new batches by partition, in the order in which they come. */
export class Outgoing {
  readonly #changeRecord: ChangeRecord
  readonly #batchBytesMax: BatchLimit
  readonly #open = new Map<string, OpenPartition>()
  #bytes = 0

  constructor(changeRecord: ChangeRecord, batchBytesMax: BatchLimit) {
    this.#changeRecord = changeRecord
    this.#batchBytesMax = batchBytesMax
  }

  /** About as many bytes as there are to send. */
  get sizeBytes(): number {
    return this.#bytes
  }

  add(
    place: { readonly topic: string; readonly partition: number },
    { columns, i, change }: { columns: RecordColumns; i: number; change: Change | undefined },
  ): void {
    const key = `${place.topic}/${place.partition}`
    let open = this.#open.get(key)
    if (open === undefined) {
      const bytesMax = Math.min(BATCH_BYTES, this.#batchBytesMax(place.topic) ?? BATCH_BYTES)
      this.#open.set(key, (open = new OpenPartition(place, bytesMax)))
    }
    const changed = change && this.#changeRecord(columns, i, change, place)
    const recorded = columns.timestamps[i]!
    // Below 0 it says that the record has no time.
    const timestamp = recorded < 0 ? recorded : recorded + (change?.shiftMs ?? 0)
    this.#bytes +=
      changed === undefined
        ? open.append(timestamp, columns, i)
        : open.appendChanged(timestamp, changed)
  }

  /** What was added; there is nothing in it afterwards. */
  take(): OutgoingRecords[] {
    const taken = [...this.#open.values()].filter(open => open.records > 0).map(open => open.take())
    this.#bytes = 0
    return taken
  }
}

class OpenPartition {
  records = 0
  readonly #place: { readonly topic: string; readonly partition: number }
  readonly #builder = new RecordBatchBuilder()
  readonly #key: ByteSlice = { bytes: Buffer.alloc(0), start: 0, end: 0 }
  readonly #value: ByteSlice = { bytes: Buffer.alloc(0), start: 0, end: 0 }
  readonly #headers: ByteSlice = { bytes: Buffer.alloc(0), start: 0, end: 0 }
  readonly #bytesMax: number
  #finished: Buffer[] = []

  constructor(place: { readonly topic: string; readonly partition: number }, bytesMax: number) {
    this.#place = place
    this.#bytesMax = bytesMax
  }

  /** Adds record `i` with its bytes as they are; returns how many these are. */
  append(timestampMs: number, columns: RecordColumns, i: number): number {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd, headersStart, headersEnd } = columns
    const key = slice(this.#key, bytes, keyStart[i]!, keyEnd[i]!)
    const value = slice(this.#value, bytes, valueStart[i]!, valueEnd[i]!)
    const headers = slice(this.#headers, bytes, headersStart[i]!, headersEnd[i]!)
    this.#makeRoom(lengthOf(key) + lengthOf(value) + lengthOf(headers))
    const before = this.#builder.sizeBytes
    this.#builder.append(timestampMs, key, value, headers ?? undefined)
    return this.#appended(before)
  }

  appendChanged(timestampMs: number, { key, value, headers }: ChangedRecord): number {
    this.#makeRoom((key?.length ?? 0) + (value?.length ?? 0) + headersBytesMax(headers))
    const before = this.#builder.sizeBytes
    this.#builder.append(timestampMs, whole(key), whole(value), headers)
    return this.#appended(before)
  }

  #appended(before: number): number {
    this.records++
    return this.#builder.sizeBytes - before
  }

  /** A batch has one record at least, however large. */
  #makeRoom(bytes: number): void {
    const { count, sizeBytes } = this.#builder
    const size = sizeBytes + RECORD_OVERHEAD + bytes
    if (count > 0 && size > this.#bytesMax) this.#finished.push(this.#builder.finish())
  }

  take(): OutgoingRecords {
    if (this.#builder.count > 0) this.#finished.push(this.#builder.finish())
    const [only] = this.#finished
    const bytes = this.#finished.length === 1 ? only! : Buffer.concat(this.#finished)
    const taken = { ...this.#place, records: this.records, bytes }
    this.#finished = []
    this.records = 0
    return taken
  }
}

function slice(into: ByteSlice, bytes: Buffer, start: number, end: number): ByteSlice | null {
  if (start < 0) return null
  into.bytes = bytes
  into.start = start
  into.end = end
  return into
}

function lengthOf(part: ByteSlice | null): number {
  return part === null ? 0 : part.end - part.start
}

function whole(bytes: Buffer | null): ByteSlice | null {
  return bytes && { bytes, start: 0, end: bytes.length }
}

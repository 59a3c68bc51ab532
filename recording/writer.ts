/**
 * Writes a recording (grammar in `format.ts`). What was added is in the file with the next flush;
 * a process that is killed leaves whole blocks and at most the beginning of one.
 */
import { decodeBatches } from '../log/record-columns.ts'
import { recordingError } from './errors.ts'
import {
  type BlockEntry,
  encodeBlock,
  encodeEntry,
  encodeHeader,
  encodeIndex,
  FRAME_BYTES,
  type RecordingHeader,
  type Span,
} from './format.ts'
import type { RecordingFile } from './port.ts'

/** A block is flushed when its raw data reaches this. */
export const BLOCK_BYTES = 1 << 20

/** Whole batches of one partition, and which of their records count. */
export interface Taken {
  readonly topic: number
  readonly partition: number
  /** Records before it are left out. */
  readonly from: number
  /** Records from it on are left out. */
  readonly to: number
  readonly bytes: Buffer
  /** Records beyond so many are left out. */
  readonly recordsMax: number
}

export interface Added {
  readonly records: number
  /** Offset to go on at. */
  readonly to: number
}

/** A span of the block under way. */
interface OpenSpan {
  span: Span
  readonly batches: Buffer[]
  /** Where its last batch ends: beyond the span where records are left out. */
  nextOffset: number
}

export class RecordingWriter {
  readonly header: RecordingHeader
  readonly #file: RecordingFile
  /** As bytes: a recording of days has millions of spans. */
  readonly #entries: Buffer[]
  #end: number
  #spans: OpenSpan[] = []
  /** The last one of each partition. */
  readonly #newest = new Map<string, OpenSpan>()
  #bytes = 0

  constructor(
    file: RecordingFile,
    header: RecordingHeader,
    { blocks, end }: { readonly blocks: readonly BlockEntry[]; readonly end: number },
  ) {
    this.#file = file
    this.header = header
    this.#entries = blocks.map(encodeEntry)
    this.#end = end
  }

  /** Begins a recording in an empty file. */
  static async create(file: RecordingFile, header: RecordingHeader): Promise<RecordingWriter> {
    const bytes = encodeHeader(header)
    await writing(file, file.append(bytes))
    return new RecordingWriter(file, header, { blocks: [], end: bytes.length })
  }

  /** Bytes in the file. */
  get sizeBytes(): number {
    return this.#end
  }

  /** Bytes that wait for a flush. */
  get waitingBytes(): number {
    return this.#bytes
  }

  /**
   * Adds batches, which are read and checked first; the bytes are not copied before the flush.
   * Throws BATCH_CORRUPT.
   */
  add({ topic, partition, from, to: limit, bytes, recordsMax }: Taken): Added {
    const { runs, batches } = decodeBatches(bytes, { fromOffset: from })
    let to = limit
    let records = 0
    let minTimestamp = Number.POSITIVE_INFINITY
    let maxTimestamp = Number.NEGATIVE_INFINITY
    for (const { length, offsets, timestamps } of runs) {
      for (let i = 0; i < length && offsets[i] < to; i++) {
        records++
        minTimestamp = Math.min(minTimestamp, timestamps[i])
        maxTimestamp = Math.max(maxTimestamp, timestamps[i])
        if (records === recordsMax) to = offsets[i] + 1
      }
    }
    if (records === 0) return { records, to }
    const last = batches.findLast(batch => batch.baseOffset < to)!
    const kept = bytes.subarray(0, last.end)
    const range = { from, to, records, minTimestamp, maxTimestamp, bytes: kept.length }
    const span = { topic, partition, ...range }
    const { nextOffset } = last
    this.#put({ span, batches: [kept], nextOffset }, batches[0]!.baseOffset)
    this.#bytes += kept.length
    return { records, to }
  }

  /**
   * Joins it to the partition's last span, or a slow topic would get one a record. Where a batch
   * reaches beyond the span that it is in, only another span can leave its other records out.
   */
  #put(added: OpenSpan, baseOffset: number): void {
    const { topic, partition } = added.span
    const key = `${topic}/${partition}`
    const newest = this.#newest.get(key)
    const end = newest?.span.to ?? 0
    if (newest !== undefined && newest.nextOffset <= end && baseOffset >= end) {
      newest.span = joined(newest.span, added.span)
      newest.batches.push(...added.batches)
      newest.nextOffset = added.nextOffset
    } else {
      this.#newest.set(key, added)
      this.#spans.push(added)
    }
  }

  /** Puts what was added into the file. Rejects with RECORDING_WRITE_FAILED. */
  async flush(): Promise<void> {
    if (this.#spans.length === 0) return
    const spans = this.#spans.map(({ span }) => span)
    const batches = this.#spans.flatMap(open => open.batches)
    this.#spans = []
    this.#newest.clear()
    this.#bytes = 0
    const frame = await encodeBlock(spans, batches)
    await writing(this.#file, this.#file.append(frame))
    const size = frame.length - FRAME_BYTES
    this.#entries.push(encodeEntry({ position: this.#end, size, spans }))
    this.#end += frame.length
  }

  /** Flushes and writes the index. */
  async finish(): Promise<void> {
    await this.flush()
    const index = await encodeIndex(this.#entries, this.#end)
    await writing(this.#file, this.#file.append(index))
    await writing(this.#file, this.#file.sync())
    this.#end += index.length
  }
}

function joined(first: Span, second: Span): Span {
  return {
    ...first,
    to: second.to,
    records: first.records + second.records,
    minTimestamp: Math.min(first.minTimestamp, second.minTimestamp),
    maxTimestamp: Math.max(first.maxTimestamp, second.maxTimestamp),
    bytes: first.bytes + second.bytes,
  }
}

async function writing(file: RecordingFile, done: Promise<void>): Promise<void> {
  try {
    await done
  } catch (cause) {
    const { path } = file
    const reason = (cause as Error).message
    throw recordingError('RECORDING_WRITE_FAILED', { path, reason }, { cause })
  }
}

/**
 * Writes a recording (grammar in `format.ts`). What was added is in the file with the next flush;
 * a process that is killed leaves whole blocks and at most the beginning of one.
 */
import { decodeBatches } from '../log/record-columns.ts'
import { recordingError } from './errors.ts'
import {
  type BlockEntry,
  encodeBlock,
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

export class RecordingWriter {
  readonly header: RecordingHeader
  readonly #file: RecordingFile
  readonly #blocks: BlockEntry[]
  #end: number
  #spans: Span[] = []
  #batches: Buffer[] = []
  #bytes = 0

  constructor(
    file: RecordingFile,
    header: RecordingHeader,
    { blocks, end }: { readonly blocks: readonly BlockEntry[]; readonly end: number },
  ) {
    this.#file = file
    this.header = header
    this.#blocks = [...blocks]
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
    this.#spans.push({ topic, partition, ...range })
    this.#batches.push(kept)
    this.#bytes += kept.length
    return { records, to }
  }

  /** Puts what was added into the file. Rejects with RECORDING_WRITE_FAILED. */
  async flush(): Promise<void> {
    if (this.#spans.length === 0) return
    const spans = this.#spans
    const frame = await encodeBlock(spans, this.#batches)
    this.#spans = []
    this.#batches = []
    this.#bytes = 0
    await writing(this.#file, this.#file.append(frame))
    this.#blocks.push({ position: this.#end, size: frame.length - FRAME_BYTES, spans })
    this.#end += frame.length
  }

  /** Flushes and writes the index. */
  async finish(): Promise<void> {
    await this.flush()
    const index = await encodeIndex(this.#blocks, this.#end)
    await writing(this.#file, this.#file.append(index))
    await writing(this.#file, this.#file.sync())
    this.#end += index.length
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

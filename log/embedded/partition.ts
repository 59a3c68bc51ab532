/**
 * One partition as the writer and the readers see it: its offsets, the newest batches in
 * memory, and who waits for more. Changes only become visible by `publish`, in the tick in
 * which their write resolved.
 */
import type { BatchHeader } from '../record-batch.ts'
import type { PartitionId } from './keys.ts'

const BATCH_BYTES_GUESS = 16_384

/** A batch in memory. */
export interface TailBatch {
  readonly baseOffset: number
  readonly nextOffset: number
  readonly bytes: Buffer
}

/** In place of what is forgotten, so that nothing keeps its bytes. */
const FORGOTTEN: TailBatch = { baseOffset: 0, nextOffset: 0, bytes: Buffer.alloc(0) }

/** What a batch in memory takes beside its bytes: its objects on the heap, about. */
const TAIL_BATCH_BYTES = 400

export interface PartitionBounds {
  readonly startOffset: number
  readonly endOffset: number
  /** Latest timestamp of any batch so far; -Infinity when there was none. */
  readonly maxTimestamp: number
}

export class Partition {
  readonly id: PartitionId
  readonly name: string
  startOffset: number
  endOffset: number
  maxTimestamp: number
  cleanedTo = 0
  cleanedRecords = 0
  /** Appended since compaction looked at it; Infinity until it has. */
  bytesSinceLook = Number.POSITIVE_INFINITY
  /** Running mean of the batch size, to ask the database for no more than a fetch wants. */
  #batchBytesMean = 0
  deleted = false
  readonly waiters = new Set<() => void>()
  #tail: TailBatch[] = []
  #tailHead = 0
  #staged: TailBatch[] = []
  #stagedEnd: number
  #stagedMax: number

  constructor(id: PartitionId, name: string, bounds: PartitionBounds) {
    this.id = id
    this.name = name
    this.startOffset = bounds.startOffset
    this.endOffset = this.#stagedEnd = bounds.endOffset
    this.maxTimestamp = this.#stagedMax = bounds.maxTimestamp
  }

  /** Offset for the next batch, after those staged. */
  get stagedEnd(): number {
    return this.#stagedEnd
  }

  /** Takes a batch at `stagedEnd`; returns whether its time is above all before it. */
  stage(header: BatchHeader, bytes: Buffer): boolean {
    const baseOffset = this.#stagedEnd
    this.#stagedEnd += header.nextOffset - header.baseOffset
    this.#staged.push({ baseOffset, nextOffset: this.#stagedEnd, bytes })
    this.noteSize(bytes.length)
    if (header.maxTimestamp <= this.#stagedMax) return false
    this.#stagedMax = header.maxTimestamp
    return true
  }

  noteSize(batchBytes: number): void {
    if (this.#batchBytesMean === 0) this.#batchBytesMean = batchBytes
    else this.#batchBytesMean += (batchBytes - this.#batchBytesMean) / 16
  }

  /** How many batches `bytesMax` likely are, at least one. */
  batchesIn(bytesMax: number): number {
    return Math.max(1, Math.ceil(bytesMax / (this.#batchBytesMean || BATCH_BYTES_GUESS)))
  }

  /** Makes what is staged visible; returns the batches for the tail budget. */
  publish(): readonly TailBatch[] {
    const published = this.#staged
    this.#staged = []
    this.endOffset = this.#stagedEnd
    this.maxTimestamp = this.#stagedMax
    for (const batch of published) {
      this.#tail.push(batch)
      this.bytesSinceLook += batch.bytes.length
    }
    return published
  }

  rollback(): void {
    this.#staged = []
    this.#stagedEnd = this.endOffset
    this.#stagedMax = this.maxTimestamp
  }

  wake(): void {
    for (const waiter of [...this.waiters]) waiter()
  }

  /** Forgets the batches in memory that end at or before `offset`. */
  forgetBefore(offset: number): void {
    while (this.#tailHead < this.#tail.length && this.#tail[this.#tailHead].nextOffset <= offset) {
      this.#tail[this.#tailHead++] = FORGOTTEN
    }
    if (this.#tailHead > 64 && this.#tailHead * 2 > this.#tail.length) {
      this.#tail = this.#tail.slice(this.#tailHead)
      this.#tailHead = 0
    }
  }

  /**
   * Batches from the one with `offset` on, up to `bytesMax` (at least one); undefined when it
   * is older than what is in memory.
   */
  fromMemory(offset: number, bytesMax: number): Buffer[] | undefined {
    const tail = this.#tail
    let low = this.#tailHead
    let high = tail.length
    if (low === high || tail[low].baseOffset > offset) return undefined
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (tail[middle].baseOffset <= offset) low = middle
      else high = middle
    }
    const parts = [tail[low].bytes]
    let bytes = tail[low].bytes.length
    for (let i = low + 1; i < tail.length && bytes + tail[i].bytes.length <= bytesMax; i++) {
      parts.push(tail[i].bytes)
      bytes += tail[i].bytes.length
    }
    return parts
  }
}

interface TailEntry {
  readonly partition: Partition
  readonly nextOffset: number
  readonly size: number
}

/** Bounds the memory of all partitions' newest batches together: the oldest go first. */
export class TailBudget {
  readonly #bytesMax: number
  #bytes = 0
  #entries: TailEntry[] = []
  #head = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  add(partition: Partition, batches: readonly TailBatch[]): void {
    for (const { nextOffset, bytes } of batches) {
      const size = bytes.length + TAIL_BATCH_BYTES
      this.#entries.push({ partition, nextOffset, size })
      this.#bytes += size
    }
    while (this.#bytes > this.#bytesMax) {
      const oldest = this.#entries[this.#head++]
      oldest.partition.forgetBefore(oldest.nextOffset)
      this.#bytes -= oldest.size
    }
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
  }
}

/**
 * The heap index of one time segment: for each row the hash of its key, its block and its
 * position there, chained by hash. Typed arrays only, so that millions of rows cost the garbage
 * collector nothing.
 *
 *     row   = next:int32 hash:int32 block:int32 position:int32   (next: row number + 1, 0 = end)
 *     heads = row number + 1 of the newest row of each bucket, 0 = none
 *
 * Rows are in append order, so their blocks never descend; the newest heads its chain, which is
 * why the newest rows can be taken off again.
 */
import { assert } from './errors.ts'
import type { Screening } from './port.ts'

const ROW = 4
const HASH = 1
const BLOCK = 2
const POSITION = 3
const ROWS_INITIAL = 32

/** Heads of the buckets of one `screen`. */
let newest = new Int32Array(0)

export class AppendIndex {
  #rows = new Int32Array(ROWS_INITIAL * ROW)
  #heads = new Int32Array(ROWS_INITIAL)
  #length = 0

  get length(): number {
    return this.#length
  }

  get heapBytes(): number {
    return this.#rows.byteLength + this.#heads.byteLength
  }

  add(hash: number, block: number, position: number): void {
    if (this.#length === this.#heads.length) this.reserve(this.#length * 2)
    const rows = this.#rows
    const heads = this.#heads
    const bucket = hash & (heads.length - 1)
    const at = this.#length * ROW
    rows[at] = heads[bucket]!
    rows[at + HASH] = hash
    rows[at + BLOCK] = block
    rows[at + POSITION] = position
    heads[bucket] = ++this.#length
  }

  /** Makes room for this many rows in all. */
  reserve(length: number): void {
    let capacity = this.#heads.length
    if (length <= capacity) return
    while (capacity < length) capacity *= 2
    const rows = new Int32Array(capacity * ROW)
    rows.set(this.#rows.subarray(0, this.#length * ROW))
    const heads = new Int32Array(capacity)
    for (let i = 0; i < this.#length; i++) {
      const bucket = rows[i * ROW + HASH]! & (capacity - 1)
      rows[i * ROW] = heads[bucket]!
      heads[bucket] = i + 1
    }
    this.#rows = rows
    this.#heads = heads
  }

  /** The newest row with this hash, or -1. */
  first(hash: number): number {
    return this.#find(hash, this.#heads[hash & (this.#heads.length - 1)]!)
  }

  /** Sets the hits of the keys with whose hash there is a row. */
  screen({ hashes, hits, first, end }: Screening): void {
    const rows = this.#rows
    const heads = this.#heads
    const mask = heads.length - 1
    if (newest.length < end) newest = new Int32Array(end * 2)
    // Loads that depend on nothing, so that the processor has many of them under way.
    for (let i = first; i < end; i++) newest[i] = heads[hashes[i]! & mask]!
    for (let i = first; i < end; i++) {
      const hash = hashes[i]!
      for (let next = newest[i]!; next !== 0; next = rows[(next - 1) * ROW]!) {
        if (rows[(next - 1) * ROW + HASH] !== hash) continue
        hits[i] = 1
        break
      }
    }
  }

  /** The next older row with the hash of `row`, or -1. */
  next(row: number): number {
    return this.#find(this.#rows[row * ROW + HASH]!, this.#rows[row * ROW]!)
  }

  #find(hash: number, from: number): number {
    const rows = this.#rows
    for (let next = from; next !== 0; next = rows[(next - 1) * ROW]!) {
      if (rows[(next - 1) * ROW + HASH] === hash) return next - 1
    }
    return -1
  }

  blockOf(row: number): number {
    return this.#rows[row * ROW + BLOCK]!
  }

  positionOf(row: number): number {
    return this.#rows[row * ROW + POSITION]!
  }

  /** The first row whose block is `block` or later. */
  lowerBound(block: number): number {
    let low = 0
    let high = this.#length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.blockOf(middle) < block) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Takes off the rows of `block` and later blocks. */
  truncate(block: number): void {
    const rows = this.#rows
    const length = this.lowerBound(block)
    while (this.#length > length) {
      const at = --this.#length * ROW
      this.#heads[rows[at + HASH]! & (this.#heads.length - 1)] = rows[at]!
    }
  }

  /** Hash and position of each row of the blocks `[from, to)`, as they are stored. */
  entries(from: number, to: number): Buffer {
    const start = this.lowerBound(from)
    const end = this.lowerBound(to)
    const entries = new Int32Array((end - start) * 2)
    for (let i = start, out = 0; i < end; i++) {
      entries[out++] = this.#rows[i * ROW + HASH]!
      entries[out++] = this.#rows[i * ROW + POSITION]!
    }
    return Buffer.from(entries.buffer)
  }

  /** Adds stored entries: those of consecutive blocks from `block` on, by their record counts. */
  addEntries(stored: Buffer, block: number, records: readonly number[]): void {
    const bytes = stored.byteOffset % 4 === 0 ? stored : Buffer.from(Uint8Array.from(stored).buffer)
    const entries = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    let at = 0
    for (let i = 0; i < records.length; i++) {
      for (const end = at + records[i]! * 2; at < end; at += 2) {
        this.add(entries[at]!, block + i, entries[at + 1]!)
      }
    }
    assert(at === entries.length, 'a chunk has an entry for each record of its blocks')
  }

  /** A new index with the rows of `block` and later ones only. */
  from(block: number): AppendIndex {
    const rest = new AppendIndex()
    rest.addRows(this, this.lowerBound(block))
    return rest
  }

  /** Adds the rows of another index from row `start` on. */
  addRows(other: AppendIndex, start: number): void {
    for (let i = start; i < other.length; i++) {
      this.add(other.#rows[i * ROW + HASH]!, other.blockOf(i), other.positionOf(i))
    }
  }
}

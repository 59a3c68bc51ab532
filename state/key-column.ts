/**
 * The keys of a batch as bytes, with their hashes: as they were read where they still are what
 * was read, and otherwise encoded once, into memory that the next batch uses again.
 */
import { hashKey } from './append-format.ts'
import type { HashedKey, RowKey } from './port.ts'

const BYTES_INITIAL = 16 * 1024
const KEYS_INITIAL = 256

export class KeyColumn {
  /** Of the keys of this batch; those of null keys mean nothing. */
  hashes = new Int32Array(0)
  #allHashes = new Int32Array(KEYS_INITIAL)
  #starts = new Int32Array(KEYS_INITIAL)
  #ends = new Int32Array(KEYS_INITIAL)
  #own: Buffer = Buffer.allocUnsafeSlow(BYTES_INITIAL)
  #bytes = this.#own
  #end = 0

  /** Begins a batch of so many keys; `raw` holds the bytes that `setRaw` points into. */
  begin(length: number, raw?: Buffer): void {
    if (this.#starts.length < length) {
      const capacity = Math.max(length, this.#starts.length * 2)
      this.#allHashes = new Int32Array(capacity)
      this.#starts = new Int32Array(capacity)
      this.#ends = new Int32Array(capacity)
    }
    this.hashes = this.#allHashes.subarray(0, length)
    this.#bytes = raw ?? this.#own
    this.#end = 0
  }

  /** Key `i` is `[start, end)` of the raw bytes. */
  setRaw(i: number, start: number, end: number): void {
    this.#starts[i] = start
    this.#ends[i] = end
    this.hashes[i] = hashKey(this.#bytes, start, end)
  }

  /** Key `i` is a binary string. */
  set(i: number, key: RowKey): void {
    const start = this.#end
    if (start + key.length > this.#own.length) this.#grow(key.length)
    this.#end += this.#own.latin1Write(key, start)
    this.setRaw(i, start, this.#end)
  }

  /** Points `key` to key `i`. */
  read(i: number, key: HashedKey): void {
    key.bytes = this.#bytes
    key.start = this.#starts[i]!
    key.end = this.#ends[i]!
    key.hash = this.hashes[i]!
  }

  #grow(room: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(this.#own.length * 2, this.#end + room))
    this.#own.copy(grown, 0, 0, this.#end)
    this.#own = grown
    this.#bytes = grown
  }
}

/** A key outside of any batch. */
export function hashedKey(key: RowKey): HashedKey {
  const bytes = Buffer.from(key, 'latin1')
  return { bytes, start: 0, end: bytes.length, hash: hashKey(bytes, 0, bytes.length) }
}

/**
 * A `WriteBatch` that only collects: the database meets it at commit, so a batch that was dropped
 * holds nothing of the database's.
 */
import type { WriteBatch } from '../log/database.ts'
import { assert } from './errors.ts'

export interface Operation {
  readonly key: Uint8Array
  /** The value to put; `null` deletes. */
  readonly value: Uint8Array | null
  /** Not null for a range delete `[key, end)`. */
  readonly end: Uint8Array | null
}

export class CollectedBatch implements WriteBatch {
  readonly #write: (operations: readonly Operation[]) => Promise<void>
  readonly #ended: () => void
  #operations: Operation[] | null = []
  #size = 0

  /** `ended` is called once, when the batch is committed or discarded. */
  constructor(write: (operations: readonly Operation[]) => Promise<void>, ended: () => void) {
    this.#write = write
    this.#ended = ended
  }

  get size(): number {
    return this.#size
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#push({ key, value, end: null })
  }

  delete(key: Uint8Array): void {
    this.#push({ key, value: null, end: null })
  }

  deleteRange(start: Uint8Array, end: Uint8Array): void {
    // RocksDB refuses a reversed range; an empty one is no work.
    if (Buffer.compare(start, end) < 0) this.#push({ key: start, value: null, end })
  }

  async commit(): Promise<void> {
    const operations = this.#operations
    assert(operations, 'a batch is committed once and not after it was discarded')
    this.#operations = null
    try {
      await this.#write(operations)
    } finally {
      this.#ended()
    }
  }

  discard(): void {
    if (this.#operations === null) return
    this.#operations = null
    this.#ended()
  }

  #push(operation: Operation): void {
    assert(this.#operations, 'a batch takes writes until it is committed or discarded')
    this.#operations.push(operation)
    this.#size++
  }
}

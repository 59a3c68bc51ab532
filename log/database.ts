/**
 * The ordered key-value database under the embedded log and the state stores.
 *
 * One instance has one database, so an epoch's records, offsets and state are one atomic
 * write. `state/rocksdb.ts` and `state/memory-database.ts` implement it and pass one suite.
 * Keys are ordered as unsigned bytes.
 */

export interface Entry {
  readonly key: Buffer
  readonly value: Buffer
}

export interface ScanRange {
  /** First key, inclusive. */
  readonly gte: Uint8Array
  /** End key, exclusive. */
  readonly lt: Uint8Array
  readonly reverse?: boolean
  /** Most entries to return; unbounded when absent. */
  readonly limit?: number
}

export interface DatabaseReader {
  /** One round trip for all keys; `null` where a key is absent. Order follows `keys`. */
  getMany(keys: readonly Uint8Array[]): Promise<(Buffer | null)[]>
  /** Yields chunks of entries in key order (or reverse); leaving the loop closes the iterator. */
  scan(range: ScanRange): AsyncIterable<readonly Entry[]>
}

/**
 * Writes that become durable and visible together.
 *
 * The database reads the buffers until `commit` resolves: do not change them before then.
 * A later operation on a key wins over an earlier one of the same batch.
 */
export interface WriteBatch {
  put(key: Uint8Array, value: Uint8Array): void
  delete(key: Uint8Array): void
  /** Deletes every key in `[start, end)`. */
  deleteRange(start: Uint8Array, end: Uint8Array): void
  readonly size: number
  /** Writes everything atomically. A rejected commit has written nothing. Call once. */
  commit(): Promise<void>
  /** Drops the batch unwritten. Idempotent; a committed batch needs no discard. */
  discard(): void
}

/** A view of the database at one moment; release it, or it holds space. */
export interface Snapshot extends DatabaseReader, AsyncDisposable {
  release(): Promise<void>
}

export interface Database extends DatabaseReader {
  batch(): WriteBatch
  /** Taken synchronously: it shows all commits that resolved before, and none started after. */
  snapshot(): Snapshot
  /** Open snapshots, iterators and batches; 0 when nothing leaks. */
  readonly openHandles: number
  /** Where there is such a thing: all commits that resolved before survive a power cut. */
  sync?(): Promise<void>
  close(): Promise<void>
}

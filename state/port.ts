/**
 * The store contract. A store holds the rows of one named state of one task (partition), over
 * the instance's database, with a changelog topic. Two families (docs/ARCHITECTURE.md):
 * `RowStore` for rows that are overwritten, `AppendStore` for rows written once.
 *
 * Both work in passes over a batch: `prefetch` what is not in memory with one asynchronous
 * read, then read and write synchronously. Writes are an overlay until the epoch's commit:
 *
 *   put/delete → overlay → seal() → [commit] → applied()
 *                                  ↘ [abort] → reset()
 *
 * The overlay of epoch n+1 lies over that of n, which may still be committing.
 */

import type { WriteBatch } from '../log/database.ts'
import type { AppendReceipt, TopicPartition } from '../log/port.ts'

/**
 * A row key as a binary string: one UTF-16 unit a byte (latin1), so that it can be a Map key
 * and compares as the bytes do.
 */
export type RowKey = string

export interface Codec<V> {
  encode(value: V): Buffer
  /** Throws on bytes that `encode` cannot have written. */
  decode(bytes: Buffer): V
  /** True when values are changed in place: readers of a sealed epoch then decode its bytes. */
  readonly mutable?: boolean
}

export interface Row<V> {
  readonly key: RowKey
  readonly value: V
}

export interface RowRange {
  readonly gte?: RowKey
  readonly lt?: RowKey
  readonly reverse?: boolean
  readonly limit?: number
}

/** One changed row of a sealed epoch; `value` undefined where it was deleted. */
export interface RowChange<V> {
  readonly key: RowKey
  readonly value: V | undefined
}

export interface ChangelogAppend {
  readonly target: TopicPartition
  /** Whole record batches, base offset 0. */
  readonly batch: Buffer
}

/** What one store adds to an epoch's transaction. */
export interface SealedEpoch {
  readonly appends: readonly ChangelogAppend[]
  /** Adds the rows to the write batch; `receipts` are those of `appends`, in order. */
  write(receipts: readonly AppendReceipt[], batch: WriteBatch): void
}

export interface RestoreStep {
  readonly position: number
  readonly end: number
  /** Read from the changelog since the last step. */
  readonly bytes: number
}
export type RestoreProgress = (step: RestoreStep) => void

/** How a restore shares the machine with others, and how it is called off. */
export interface RestorePace {
  /** Waits for its turn to read the log; the result ends the turn. */
  readonly turn?: () => Promise<() => void>
  /** Ends the restore with the signal's reason; what it has brought so far stays. */
  readonly signal?: AbortSignal
}

export interface Store {
  readonly name: string
  readonly partition: number
  /** Id of its changelog topic, once restored; '' before that, and without a changelog. */
  readonly topicId: string
  /** Freezes the overlay as one epoch. At most one sealed epoch awaits `applied` at a time. */
  seal(wallTimeMs: number): SealedEpoch
  /** The sealed epoch is durable; its rows may leave the overlay. */
  applied(): void
  /** Drops everything not committed and every cached row. */
  reset(): void
  /**
   * Brings local rows up to the changelog: replays the tail after the applied offset.
   * Resumable; idempotent.
   */
  restore(onProgress?: RestoreProgress, pace?: RestorePace): Promise<void>
  readonly metrics: StoreMetrics
}

export interface StoreMetrics {
  readonly overlayRows: number
  readonly cachedRows: number
  readonly cachedBytes: number
  /** Multi-gets issued and keys asked in them. */
  readonly reads: number
  readonly keysRead: number
}

/** Rows that are overwritten: tables, aggregates, sessions. */
export interface RowStore<V> extends Store {
  /**
   * Makes `get` of these keys possible without I/O until the next seal. Undefined when all
   * are in memory already: then nothing needs to be awaited.
   */
  prefetch(keys: Iterable<RowKey>): Promise<void> | undefined
  /** The row, uncommitted writes included. Asserts that the key is in memory (prefetched). */
  get(key: RowKey): V | undefined
  /**
   * Values are not to be changed after they were put. Throws a RangeError for a row that is larger
   * than `rowBytesMax`.
   */
  put(key: RowKey, value: V): void
  /** The same for a value that was there before: it is not measured. */
  putBack(key: RowKey, value: V): void
  /** What its changelog takes, once that is known; until then rows are not measured. */
  readonly rowBytesMax: number | undefined
  delete(key: RowKey): void
  /** Rows in key order, uncommitted writes included. Do not write while it runs. */
  scan(range: RowRange): AsyncIterable<readonly Row<V>[]>
  /**
   * Deletes the rows in the range, the first `rowsMax` where there are more: one range delete in
   * the database, a tombstone a row in the changelog. Resolves with how many rows went.
   */
  deleteRange(gte: RowKey, lt: RowKey, rowsMax?: number): Promise<number>
  /** The rows of the sealed epoch that changed: the view feed. */
  sealedChanges(): Iterable<RowChange<V>>
}

/**
 * Rows written once, found by key within a time range: join sides and deduplication.
 *
 * Arguments are only valid during a call, so callers reuse one object for a whole batch and
 * the store copies what it keeps. A row carries its event time and the stream time of its own
 * source partition (law 9).
 */
export interface AppendStore extends Store {
  append(row: AppendRow): void
  /** True while everything is in memory: then no `want` is needed before a `lookup`. */
  readonly resident: boolean
  /** Notes the blocks that a later `lookup` of this probe needs and that are not in memory. */
  want(probe: Probe): void
  /** Reads all noted blocks with one multi-get; undefined when none is missing. */
  load(): Promise<void> | undefined
  /**
   * Visits every row with this key and `fromMs <= time <= toMs`, uncommitted ones included.
   * Rows of one key come in append order within a time segment.
   */
  lookup(probe: Probe, visit: (row: StoredRow) => void): void
  /**
   * Says which of some lookups may find a row. One pass over several keys: their cache misses
   * overlap, which those of one lookup after the other do not, and what they bring into the cache
   * the lookups that follow find there.
   */
  screen(screening: Screening): void
  /** Drops whole segments all of whose times are before `timeMs`. Returns the rows dropped. */
  expire(timeMs: number): number
  /** Live rows, for metrics and conservation checks. */
  readonly rows: number
}

export interface ByteRange {
  bytes: Buffer
  start: number
  end: number
}

/** A key of an append store; `hash` is `hashKey` of its bytes, reckoned once for all its uses. */
export interface HashedKey extends ByteRange {
  hash: number
}

export interface AppendRow {
  key: HashedKey
  value: ByteRange
  timeMs: number
  streamTimeMs: number
  /** `traceBytes` of a row that is traced: they are kept as they are. */
  trace?: Buffer | undefined
}

/** Where a traced row stands in its trace: trace id and span id. */
export const traceBytes = 24

export interface Probe {
  key: HashedKey
  fromMs: number
  toMs: number
}

/** The keys `[first, end)` of a column, and a time range that covers that of each. */
export interface Screening {
  hashes: Int32Array
  /** Set to 1 where a lookup may find a row, left as it is where none can. */
  hits: Uint8Array
  first: number
  end: number
  fromMs: number
  toMs: number
}

export interface StoredRow {
  bytes: Buffer
  keyStart: number
  keyEnd: number
  valueStart: number
  valueEnd: number
  timeMs: number
  streamTimeMs: number
  /** Position of the row's `traceBytes`; -1 when it is not traced. */
  traceStart: number
}

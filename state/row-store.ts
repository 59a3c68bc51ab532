/**
 * Rows that are overwritten: an overlay of uncommitted rows over a heap cache over the database.
 *
 *     dirty (this epoch) → sealed (committing) → cache → database
 *
 * A row is looked for in that order. Each dirty row is encoded once, at `seal`: the same bytes
 * go to the changelog and to the database. What `prefetch` made present stays present until the
 * next `seal`, which is where the cache is trimmed.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import { assert } from '../log/errors.ts'
import type { AppendReceipt, EventLog, TopicPartition } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { AbsentKeys } from './absent-keys.ts'
import { writeApplied } from './applied-offset.ts'
import { databaseRange } from './committed-rows.ts'
import { rowsPrefix } from './keys.ts'
import type {
  ChangelogAppend,
  Codec,
  Row,
  RowChange,
  RowKey,
  RowRange,
  RowStore,
  SealedEpoch,
  StoreMetrics,
} from './port.ts'
import { restoreRows } from './restore.ts'

export interface RowStoreOptions<V> {
  readonly name: string
  readonly partition: number
  readonly codec: Codec<V>
  readonly database: Database
  /** Absent: the store has no changelog. */
  readonly log?: EventLog
  readonly changelog?: TopicPartition
  /** Wall time, epoch ms: how old local rows are is looked at when they are restored. */
  readonly clock?: () => number
  /** Heap for rows that are neither dirty nor sealed, bytes of their encoded form. */
  readonly cacheBytesMax: number
}

interface CachedRow<V> {
  value: V | undefined
  bytes: number
  used: boolean
  /** Somebody has read it by its key, and may again. */
  isRead: boolean
}

/** Heap a cached row costs beside its bytes, about. */
const ROW_OVERHEAD = 120
const CHANGELOG_BATCH_BYTES = 256 * 1024
/** Above every key, whose units are bytes. */
const NO_ROW: RowKey = '\u0100'
const DELETED = Symbol('deleted')
type Overlay<V> = Map<RowKey, V | typeof DELETED>

export async function openRowStore<V>(options: RowStoreOptions<V>): Promise<RowStore<V>> {
  return new OverlaidRows(options)
}

class OverlaidRows<V> implements RowStore<V> {
  readonly name: string
  readonly partition: number
  readonly #options: RowStoreOptions<V>
  readonly #prefix: string
  readonly #cache = new Map<RowKey, CachedRow<V>>()
  #dirty: Overlay<V> = new Map()
  #sealed: Overlay<V> = new Map()
  /** Of each sealed row, in the order of `#sealed`. */
  #sealedRows: readonly SealedRow[] = []
  /** Keys that `prefetch` found to have no row, or one only in `#sealed`. */
  #asked = new Set<RowKey>()
  #sealedAsked = new Set<RowKey>()
  /** Keys being read from the database. */
  readonly #reading = new Set<RowKey>()
  readonly #absent: AbsentKeys
  #dirtyRanges: [RowKey, RowKey][] = []
  /** No row has a key below it. Expiry and closing ask below it again and again. */
  #floor: RowKey = ''
  #cachedBytes = 0
  /** Of the changelog, once restored. */
  #topicId = ''
  #reads = 0
  #keysRead = 0

  constructor(options: RowStoreOptions<V>) {
    this.name = options.name
    this.partition = options.partition
    this.#options = options
    this.#prefix = rowsPrefix(options.name, options.partition)
    this.#absent = new AbsentKeys(options.database, this.#prefix)
  }

  get metrics(): StoreMetrics {
    return {
      overlayRows: this.#dirty.size + this.#sealed.size,
      cachedRows: this.#cache.size,
      cachedBytes: this.#cachedBytes,
      reads: this.#reads,
      keysRead: this.#keysRead,
    }
  }

  #present(key: RowKey): boolean {
    if (this.#dirty.has(key) || this.#cache.has(key) || this.#asked.has(key)) return true
    if (!this.#sealed.has(key) && !this.#absent.has(key)) return false
    this.#asked.add(key)
    return true
  }

  prefetch(keys: Iterable<RowKey>): Promise<void> | undefined {
    let missing: Set<RowKey> | undefined
    for (const key of keys) if (!this.#present(key)) (missing ??= new Set()).add(key)
    return missing && this.#read([...missing])
  }

  async #read(keys: readonly RowKey[]): Promise<void> {
    for (const key of keys) this.#reading.add(key)
    try {
      if (this.#absent.isKnown) await this.#readRows(keys)
      else {
        await this.#absent.lookUp()
        await this.#readRows(keys.filter(key => !this.#present(key)))
      }
    } finally {
      for (const key of keys) this.#reading.delete(key)
    }
  }

  async #readRows(keys: readonly RowKey[]): Promise<void> {
    if (keys.length === 0) return
    this.#reads++
    this.#keysRead += keys.length
    const { database, codec } = this.#options
    const found = await database.getMany(keys.map(key => this.#databaseKey(key)))
    keys.forEach((key, i) => {
      if (this.#cache.has(key)) return
      const bytes = found[i] ?? null
      this.#remember(key, bytes === null ? undefined : codec.decode(bytes), bytes?.length ?? 0)
    })
  }

  #databaseKey(key: RowKey): Buffer {
    return Buffer.from(this.#prefix + key, 'latin1')
  }

  #remember(key: RowKey, value: V | undefined, length: number): void {
    const bytes = length + key.length + ROW_OVERHEAD
    const row = this.#cache.get(key)
    if (row === undefined) this.#cache.set(key, { value, bytes, used: true, isRead: false })
    else {
      this.#cachedBytes -= row.bytes
      row.value = value
      row.bytes = bytes
      row.used = true
    }
    this.#cachedBytes += bytes
  }

  get(key: RowKey): V | undefined {
    const own = this.#dirty.get(key) ?? this.#sealed.get(key)
    if (own !== undefined) return own === DELETED ? undefined : own
    const row = this.#cache.get(key)
    if (row === undefined) {
      assert(this.#asked.has(key), 'a row is prefetched before it is read')
      return undefined
    }
    row.used = true
    row.isRead = true
    return row.value
  }

  put(key: RowKey, value: V): void {
    assert(value !== undefined, 'undefined is not a value')
    if (key < this.#floor) this.#floor = key
    this.#dirty.set(key, value)
  }

  delete(key: RowKey): void {
    this.#dirty.set(key, DELETED)
  }

  async *scan(wanted: RowRange): AsyncGenerator<readonly Row<V>[]> {
    if (wanted.lt !== undefined && wanted.lt <= this.#floor) return
    const floor = this.#floor === NO_ROW ? '' : this.#floor
    const range = { ...wanted, gte: (wanted.gte ?? '') < floor ? floor : wanted.gte }
    const overlay = this.#overlayIn(range)
    const behind = range.reverse ? (a: RowKey, b: RowKey) => a > b : (a: RowKey, b: RowKey) => a < b
    const { database, codec } = this.#options
    const { limit = Number.POSITIVE_INFINITY } = range
    // So many rows of the database may be hidden by uncommitted ones.
    const read = { ...range, limit: range.limit === undefined ? undefined : limit + overlay.length }
    let next = 0
    let left = limit
    const emit = (rows: Row<V>[], key: RowKey, value: V | typeof DELETED) => {
      if (value !== DELETED && left-- > 0) rows.push({ key, value })
    }
    for await (const chunk of database.scan(databaseRange(this.#prefix, read))) {
      const rows: Row<V>[] = []
      for (const entry of chunk) {
        const key = entry.key.latin1Slice(this.#prefix.length)
        for (; next < overlay.length && behind(overlay[next]![0], key); next++) {
          emit(rows, ...overlay[next]!)
        }
        if (overlay[next]?.[0] === key) emit(rows, ...overlay[next++]!)
        else emit(rows, key, codec.decode(entry.value))
        if (left <= 0) break
      }
      if (rows.length > 0) yield rows
      if (left <= 0) return
    }
    const rest: Row<V>[] = []
    for (; next < overlay.length; next++) emit(rest, ...overlay[next]!)
    if (rest.length > 0) yield rest
  }

  /** Uncommitted rows of a range, in its order; the newest where there are two. */
  #overlayIn({ gte = '', lt, reverse }: RowRange): [RowKey, V | typeof DELETED][] {
    const inside = (key: RowKey) => key >= gte && (lt === undefined || key < lt)
    const found: [RowKey, V | typeof DELETED][] = []
    for (const row of this.#dirty) if (inside(row[0])) found.push(row)
    for (const row of this.#sealed) {
      if (inside(row[0]) && !this.#dirty.has(row[0])) found.push(row)
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1))
    return reverse ? found.reverse() : found
  }

  async deleteRange(gte: RowKey, lt: RowKey, rowsMax?: number): Promise<number> {
    if (lt <= this.#floor) return 0
    const keys: RowKey[] = []
    for await (const rows of this.scan({ gte, lt, limit: rowsMax })) {
      for (const { key } of rows) keys.push(key)
    }
    const end = keys.length === rowsMax ? `${keys.at(-1)}\0` : lt
    if (keys.length > 0) {
      for (const key of keys) this.#dirty.set(key, DELETED)
      this.#dirtyRanges.push([gte, end])
    }
    if (gte <= this.#floor) await this.#raiseFloor(end)
    return keys.length
  }

  /** Nothing is left below `lt`: looks where rows begin, so that expiry can wait until there. */
  async #raiseFloor(lt: RowKey): Promise<void> {
    let first: RowKey = NO_ROW
    for await (const [row] of this.scan({ gte: lt, limit: 1 })) first = row!.key
    this.#floor = first
  }

  seal(wallTimeMs: number): SealedEpoch {
    assert(this.#sealed.size === 0, 'one sealed epoch at a time awaits its commit')
    this.#trim()
    const { codec } = this.#options
    const ranges = this.#dirtyRanges
    this.#sealed = this.#dirty
    this.#dirty = new Map()
    this.#dirtyRanges = []
    this.#sealedAsked = this.#asked
    this.#asked = new Set()
    const rows: SealedRow[] = []
    for (const [key, value] of this.#sealed) {
      const bytes = value === DELETED ? null : codec.encode(value)
      rows.push({ row: key, key: this.#databaseKey(key), value: bytes })
      const isNew = this.#cache.get(key)?.value === undefined
      if (isNew && bytes !== null) this.#absent.written(key)
    }
    this.#sealedRows = rows
    return {
      appends: this.#changelogBatches(rows, wallTimeMs),
      write: (receipts, batch) =>
        this.#write({ rows, ranges, receipts, timeMs: wallTimeMs }, batch),
    }
  }

  #changelogBatches(rows: readonly SealedRow[], timeMs: number): ChangelogAppend[] {
    const target = this.#options.changelog
    if (target === undefined || rows.length === 0) return []
    const appends: ChangelogAppend[] = []
    const start = this.#prefix.length
    for (const { key, value: bytes } of rows) {
      const size = key.length + (bytes?.length ?? 0)
      if (builder.count > 0 && builder.sizeBytes + size > CHANGELOG_BATCH_BYTES) {
        appends.push({ target, batch: builder.finish() })
      }
      const value = bytes && { bytes, start: 0, end: bytes.length }
      builder.append(timeMs, { bytes: key, start, end: key.length }, value)
    }
    appends.push({ target, batch: builder.finish() })
    return appends
  }

  #write(sealed: SealedRows, batch: WriteBatch): void {
    const { rows, ranges, receipts, timeMs } = sealed
    for (const [gte, lt] of ranges) batch.deleteRange(this.#databaseKey(gte), this.#databaseKey(lt))
    const gone = (key: RowKey) => ranges.some(([gte, lt]) => key >= gte && key < lt)
    for (const { row, key, value } of rows) {
      if (value !== null) batch.put(key, value)
      else if (!gone(row)) batch.delete(key)
    }
    const last = receipts.at(-1)
    if (last === undefined) return
    writeApplied(batch, this, { offset: last.nextOffset, timeMs, topicId: this.#topicId })
  }

  /** Drops cached rows not used since the last round, until the rest fits. */
  #trim(): void {
    const { cacheBytesMax } = this.#options
    for (const [key, row] of this.#cache) {
      if (this.#cachedBytes <= cacheBytesMax) return
      this.#cache.delete(key)
      if (row.used) {
        row.used = false
        this.#cache.set(key, row)
      } else this.#cachedBytes -= row.bytes
    }
  }

  applied(): void {
    let i = 0
    for (const [key, value] of this.#sealed) {
      const length = this.#sealedRows[i++]!.value?.length ?? 0
      if (value !== DELETED) this.#remember(key, value, length)
      else if (this.#isRead(key)) this.#remember(key, undefined, 0)
      else this.#forget(key)
    }
    this.#forgetSealed()
  }

  /** Rows that nobody reads by key, such as timers, are not remembered when they are gone. */
  #isRead(key: RowKey): boolean {
    if (this.#cache.get(key)?.isRead || this.#asked.has(key)) return true
    // The answer under way may be older than what is applied now.
    return this.#sealedAsked.has(key) || this.#reading.has(key)
  }

  #forget(key: RowKey): void {
    const row = this.#cache.get(key)
    if (row === undefined) return
    this.#cachedBytes -= row.bytes
    this.#cache.delete(key)
  }

  #forgetSealed(): void {
    this.#sealed = new Map()
    this.#sealedRows = []
    this.#sealedAsked = new Set()
  }

  reset(): void {
    this.#floor = ''
    this.#dirty.clear()
    this.#dirtyRanges = []
    this.#asked.clear()
    this.#forgetSealed()
    this.#cache.clear()
    this.#cachedBytes = 0
  }

  *sealedChanges(): Generator<RowChange<V>> {
    const { codec } = this.#options
    let i = 0
    for (const [key, value] of this.#sealed) {
      const bytes = this.#sealedRows[i++]!.value
      if (value === DELETED) yield { key, value: undefined }
      else yield { key, value: codec.mutable ? codec.decode(bytes!) : value }
    }
  }

  async restore(onProgress?: (position: number, end: number) => void): Promise<void> {
    const { log, changelog, database, clock } = this.#options
    if (log === undefined || changelog === undefined) return
    this.reset()
    this.#absent.forget()
    const replay = { store: this, log, changelog, database, ...(clock && { clock }), onProgress }
    this.#topicId = await restoreRows(replay)
  }
}

interface SealedRow {
  readonly row: RowKey
  /** The same as the database has it. */
  readonly key: Buffer
  /** Null where the row is deleted. */
  readonly value: Buffer | null
}

interface SealedRows {
  readonly rows: readonly SealedRow[]
  readonly ranges: readonly [RowKey, RowKey][]
  readonly receipts: readonly AppendReceipt[]
  readonly timeMs: number
}

const builder = new RecordBatchBuilder()

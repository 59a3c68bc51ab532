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
import { type KeysFrom, LiveKeys } from './live-keys.ts'
import type {
  ChangelogAppend,
  Codec,
  RestorePace,
  RestoreProgress,
  Row,
  RowChange,
  RowKey,
  RowRange,
  RowStore,
  SealedEpoch,
  StoreMetrics,
} from './port.ts'
import { restoreRows } from './restore.ts'
import { DELETED, type Entry, NONE, newest, RowEntries } from './row-entries.ts'

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
  /** Bytes of a row's key and value that `put` takes; undefined: any, and none is measured. */
  readonly rowBytesMax?: number | undefined
}

const CHANGELOG_BATCH_BYTES = 256 * 1024
/** Above every key, whose units are bytes. */
const NO_ROW: RowKey = '\u0100'

export async function openRowStore<V>(options: RowStoreOptions<V>): Promise<RowStore<V>> {
  return new OverlaidRows(options)
}

class OverlaidRows<V> implements RowStore<V> {
  readonly name: string
  readonly partition: number
  readonly #options: RowStoreOptions<V>
  readonly #prefix: string
  readonly #entries = new RowEntries<V>()
  /** Of each sealed row, in their order. */
  #sealedRows: SealedRows | undefined
  readonly #absent: AbsentKeys
  #dirtyRanges: [RowKey, RowKey][] = []
  /** No row has a key below it. Expiry and closing ask below it again and again. */
  #floor: RowKey = ''
  /** No row was put above it. */
  #top: RowKey = ''
  /** The newest keys of a store from which ranges are deleted, while they are not too many. */
  #live: LiveKeys | undefined
  topicId = ''
  readonly rowBytesMax: number | undefined
  #reads = 0
  #keysRead = 0

  constructor(options: RowStoreOptions<V>) {
    this.name = options.name
    this.partition = options.partition
    this.#options = options
    this.rowBytesMax = options.rowBytesMax
    this.#prefix = rowsPrefix(options.name, options.partition)
    this.#absent = new AbsentKeys(options.database, this.#prefix)
  }

  get metrics(): StoreMetrics {
    return {
      overlayRows: this.#entries.dirty.length + this.#entries.sealed.length,
      cachedRows: this.#entries.count,
      cachedBytes: this.#entries.bytes,
      reads: this.#reads,
      keysRead: this.#keysRead,
    }
  }

  prefetch(keys: Iterable<RowKey>): Promise<void> | undefined {
    let missing: Set<RowKey> | undefined
    for (const key of keys) if (!this.#present(key)) (missing ??= new Set()).add(key)
    return missing && this.#read([...missing])
  }

  /** Asks for a row: true when it is in memory, or cannot be. */
  #present(key: RowKey): boolean {
    const entry = this.#entries.of(key)
    entry.isRead = true
    if (newest(entry) !== NONE) return true
    if (!this.#absent.has(key)) return false
    this.#entries.know(entry, undefined, 0)
    return true
  }

  async #read(wanted: readonly RowKey[]): Promise<void> {
    let keys = wanted
    if (!this.#absent.isKnown) {
      await this.#absent.lookUp()
      keys = wanted.filter(key => !this.#present(key))
      if (keys.length === 0) return
    }
    this.#reads++
    this.#keysRead += keys.length
    const { database, codec } = this.#options
    const found = await database.getMany(keys.map(key => this.#databaseKey(key)))
    keys.forEach((key, i) => {
      const entry = this.#entries.get(key)
      // What was committed meanwhile is newer than the answer.
      if (entry?.known !== NONE) return
      const bytes = found[i] ?? null
      const value = bytes === null ? undefined : codec.decode(bytes)
      this.#entries.know(entry, value, bytes?.length ?? 0)
    })
  }

  #databaseKey(key: RowKey): Buffer {
    return Buffer.from(this.#prefix + key, 'latin1')
  }

  get(key: RowKey): V | undefined {
    const entry = this.#entries.get(key)
    assert(entry !== undefined, 'a row is prefetched before it is read')
    const value = newest(entry)
    assert(value !== NONE, 'a row is prefetched before it is read')
    entry.used = true
    entry.isRead = true
    return value === DELETED ? undefined : value
  }

  put(key: RowKey, value: V): void {
    if (value === undefined) throw new TypeError('undefined is no value of a row')
    if (this.rowBytesMax !== undefined) this.#measure(key, value, this.rowBytesMax)
    this.putBack(key, value)
  }

  putBack(key: RowKey, value: V): void {
    if (key < this.#floor) this.#floor = key
    if (key > this.#top) this.#top = key
    if (this.#live?.add(key) === false) this.#live = undefined
    this.#entries.write(key, value)
  }

  #measure(key: RowKey, value: V, bytesMax: number): void {
    const size = key.length + this.#options.codec.encode(value).length
    if (size <= bytesMax) return
    const { name } = this
    throw new RangeError(`a row of ${name} has ${size} bytes, and its changelog takes ${bytesMax}`)
  }

  delete(key: RowKey): void {
    this.#live?.delete(key)
    this.#entries.write(key, DELETED)
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
    for (const { key, dirty } of this.#entries.dirty) {
      if (dirty !== NONE && inside(key)) found.push([key, dirty])
    }
    for (const { key, dirty, sealed } of this.#entries.sealed) {
      if (sealed !== NONE && dirty === NONE && inside(key)) found.push([key, sealed])
    }
    found.sort(([a], [b]) => (a < b ? -1 : 1))
    return reverse ? found.reverse() : found
  }

  async deleteRange(gte: RowKey, lt: RowKey, rowsMax?: number): Promise<number> {
    if (lt <= this.#floor) return 0
    if (this.#live === undefined) await this.#followKeys()
    const keys = await this.#firstKeys({ gte, lt, limit: rowsMax })
    const end = keys.length === rowsMax ? `${keys.at(-1)}\0` : lt
    if (keys.length > 0) {
      for (const key of keys) this.delete(key)
      this.#dirtyRanges.push([gte, end])
    }
    // Expiry asks from the beginning again and again, and can wait until there is a row.
    if (gte <= this.#floor) {
      const [first] = await this.#firstKeys({ gte: end, limit: 1 })
      this.#floor = first ?? NO_ROW
    }
    return keys.length
  }

  /** Who deletes one range deletes the next: keys above all there are now are known from here. */
  async #followKeys(): Promise<void> {
    const highest = await this.#absent.highest()
    this.#live = new LiveKeys(highest > this.#top ? highest : this.#top)
  }

  /** From memory where all keys from `gte` on are known. */
  async #firstKeys(range: KeysFrom): Promise<RowKey[]> {
    const gte = range.gte < this.#floor ? this.#floor : range.gte
    if (this.#live?.covers(gte)) return this.#live.range({ ...range, gte })
    const keys: RowKey[] = []
    for await (const rows of this.scan(range)) {
      for (const { key } of rows) keys.push(key)
    }
    return keys
  }

  seal(wallTimeMs: number): SealedEpoch {
    const entries = this.#entries
    assert(entries.sealed.length === 0, 'one sealed epoch at a time awaits its commit')
    entries.trim(this.#options.cacheBytesMax)
    const { codec } = this.#options
    const sealed: SealedRows = { entries: entries.seal(), keys: [], values: [] }
    for (const { key, sealed: value, known } of sealed.entries) {
      const bytes = value === DELETED ? null : codec.encode(value as V)
      sealed.keys.push(this.#databaseKey(key))
      sealed.values.push(bytes)
      if (bytes !== null && (known === undefined || known === NONE)) this.#absent.written(key)
    }
    this.#sealedRows = sealed
    const ranges = this.#dirtyRanges
    this.#dirtyRanges = []
    return {
      appends: this.#changelogBatches(sealed, wallTimeMs),
      write: (receipts, batch) =>
        this.#write({ ...sealed, ranges, receipts, timeMs: wallTimeMs }, batch),
    }
  }

  #changelogBatches({ keys, values }: SealedRows, timeMs: number): ChangelogAppend[] {
    const target = this.#options.changelog
    if (target === undefined || keys.length === 0) return []
    const appends: ChangelogAppend[] = []
    const start = this.#prefix.length
    const bytesMax = Math.min(CHANGELOG_BATCH_BYTES, this.rowBytesMax ?? CHANGELOG_BATCH_BYTES)
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!
      const bytes = values[i]!
      const size = key.length + (bytes?.length ?? 0)
      if (builder.count > 0 && builder.sizeBytes + size > bytesMax) {
        appends.push({ target, batch: builder.finish() })
      }
      const value = bytes && { bytes, start: 0, end: bytes.length }
      builder.append(timeMs, { bytes: key, start, end: key.length }, value)
    }
    appends.push({ target, batch: builder.finish() })
    return appends
  }

  #write(sealed: SealedWrites, batch: WriteBatch): void {
    const { entries, keys, values, ranges, receipts, timeMs } = sealed
    for (const [gte, lt] of ranges) batch.deleteRange(this.#databaseKey(gte), this.#databaseKey(lt))
    const gone = (key: RowKey) => ranges.some(([gte, lt]) => key >= gte && key < lt)
    for (let i = 0; i < keys.length; i++) {
      const value = values[i]!
      if (value !== null) batch.put(keys[i]!, value)
      else if (!gone(entries[i]!.key)) batch.delete(keys[i]!)
    }
    const last = receipts.at(-1)
    if (last === undefined) return
    writeApplied(batch, this, { offset: last.nextOffset, timeMs, topicId: this.topicId })
  }

  applied(): void {
    const values = this.#sealedRows?.values ?? []
    this.#entries.applied(i => values[i]?.length ?? 0)
    this.#sealedRows = undefined
  }

  reset(): void {
    this.#floor = ''
    this.#live = undefined
    this.#dirtyRanges = []
    this.#entries.clear()
    this.#sealedRows = undefined
  }

  *sealedChanges(): Generator<RowChange<V>> {
    const { codec } = this.#options
    const { entries, values } = this.#sealedRows ?? { entries: [], values: [] }
    for (let i = 0; i < entries.length; i++) {
      const { key, sealed } = entries[i] as Entry<V>
      if (sealed === DELETED) yield { key, value: undefined }
      else yield { key, value: codec.mutable ? codec.decode(values[i]!) : (sealed as V) }
    }
  }

  async restore(onProgress?: RestoreProgress, pace?: RestorePace): Promise<void> {
    const { log, changelog, database, clock } = this.#options
    if (log === undefined || changelog === undefined) return
    this.reset()
    this.#absent.forget()
    const replay = { store: this, log, changelog, database, onProgress, pace }
    this.topicId = await restoreRows({ ...replay, ...(clock && { clock }) })
  }
}

/** The rows of a sealed epoch, a column each. */
interface SealedRows {
  readonly entries: readonly Entry<unknown>[]
  /** As in the database. */
  readonly keys: Buffer[]
  /** Null where the row is deleted. */
  readonly values: (Buffer | null)[]
}

interface SealedWrites extends SealedRows {
  readonly ranges: readonly [RowKey, RowKey][]
  readonly receipts: readonly AppendReceipt[]
  readonly timeMs: number
}

const builder = new RecordBatchBuilder()

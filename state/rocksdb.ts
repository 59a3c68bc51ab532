/**
 * The `Database` on disk, over rocksdb-native: the one file that knows RocksDB.
 *
 * The binding's traps that shape this code: `close()` never resolves while a batch, iterator or
 * snapshot is left (so every one is counted and released first); keys and values are read by
 * pool threads until a flush resolves; the iterator's default capacity of 8 is slow.
 *
 * Durability: a commit is in the operating system when it resolves, so a killed process loses
 * nothing. `sync` makes it survive a power cut; without it a power cut may lose the last
 * moments and leaves a consistent prefix.
 */
import { mkdir, open, readdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Database, Entry, ScanRange, Snapshot, WriteBatch } from '../log/database.ts'
import { CollectedBatch, type Operation } from './collected-batch.ts'
import { assert, stateError } from './errors.ts'
import {
  accessError,
  keyPlace,
  keysPlace,
  nativeLoadError,
  openError,
  scanPlace,
} from './rocksdb-errors.ts'
import { nativeOptions, type RocksDBOptions } from './rocksdb-options.ts'
import { readOwner, removeOwner, syncDirectory, writeOwner } from './rocksdb-owner.ts'

export type { RocksDBOptions } from './rocksdb-options.ts'

const SCAN_ENTRIES_FIRST = 64
const SCAN_ENTRIES_MAX = 1024
const SCAN_BYTES = 4 << 20
const ZERO = Buffer.of(0)

/** A database that can also be forced to the disk. */
export interface RocksDBDatabase extends Database {
  readonly path: string
  /** Resolves when all commits that resolved before the call survive a power cut. */
  sync(): Promise<void>
  /** Writes the memtable out as a sorted file. */
  flush(): Promise<void>
}

interface NativeReadBatch {
  get(key: Uint8Array): Promise<Buffer | null>
  flush(): Promise<void>
}

interface NativeWriteBatch {
  tryPut(key: Uint8Array, value: Uint8Array): void
  tryDelete(key: Uint8Array): void
  tryDeleteRange(start: Uint8Array, end: Uint8Array): void
  flush(): Promise<void>
}

/** A streamx `Readable`. */
interface NativeIterator {
  read(): Entry | null
  on(event: 'readable' | 'end' | 'close', listener: () => void): void
  on(event: 'error', listener: (error: Error) => void): void
  destroy(): void
}

interface NativeSession {
  ready(): Promise<void>
  close(): Promise<void>
  flush(): Promise<void>
  snapshot(): NativeSession
  read(options: object): NativeReadBatch
  write(options: object): NativeWriteBatch
  iterator(range: object, options: object): NativeIterator
}

type NativeRocksDB = new (path: string, options: object) => NativeSession

/** Opens the database at `path`, a directory that is made when missing. */
export async function openRocksDB(
  path: string,
  options: RocksDBOptions = {},
): Promise<RocksDBDatabase> {
  const native = loadNative()
  const { owner } = options
  const before = await readOwner(path)
  let session: NativeSession
  try {
    // The binding's own way of making the directory loops for ever where it cannot be made.
    if (!options.readOnly) await mkdir(path, { recursive: true })
    session = new native(path, nativeOptions(options, before))
    await session.ready()
  } catch (error) {
    throw openError(path, error as Error, before?.pid)
  }
  if (owner !== undefined && !options.readOnly) await writeOwner(path, owner)
  return new RocksDB(path, session, owner !== undefined)
}

function loadNative(): NativeRocksDB {
  try {
    return createRequire(import.meta.url)('rocksdb-native') as NativeRocksDB
  } catch (error) {
    throw nativeLoadError(error as Error)
  }
}

class RocksDB implements RocksDBDatabase {
  readonly path: string
  readonly #session: NativeSession
  /** How to release each open snapshot, iterator and batch. */
  readonly #open = new Set<() => Promise<void>>()
  readonly #inFlight = new Set<Promise<unknown>>()
  #closed: Promise<void> | null = null
  readonly #owned: boolean

  constructor(path: string, session: NativeSession, owned: boolean) {
    this.path = path
    this.#session = session
    this.#owned = owned
  }

  get openHandles(): number {
    return this.#open.size
  }

  getMany(keys: readonly Uint8Array[]): Promise<(Buffer | null)[]> {
    return this.#getMany(this.#session, keys)
  }

  scan(range: ScanRange): AsyncIterable<readonly Entry[]> {
    return this.#scanOwnSnapshot(range)
  }

  batch(): WriteBatch {
    this.#assertOpen()
    const ended = (): void => {
      this.#open.delete(release)
    }
    const batch = new CollectedBatch(operations => this.#write(operations), ended)
    const release = async (): Promise<void> => batch.discard()
    this.#open.add(release)
    return batch
  }

  snapshot(): Snapshot {
    this.#assertOpen()
    const session = this.#session.snapshot()
    let released: Promise<void> | null = null
    const release = (): Promise<void> => {
      this.#open.delete(release)
      return (released ??= session.close())
    }
    this.#open.add(release)
    const assertHeld = (): void => assert(!released, 'a released snapshot is not read')
    return {
      getMany: async keys => {
        assertHeld()
        return this.#getMany(session, keys)
      },
      scan: range => {
        assertHeld()
        return this.#scan(session, range)
      },
      release,
      [Symbol.asyncDispose]: release,
    }
  }

  async sync(): Promise<void> {
    this.#assertOpen()
    await this.#track(this.#syncFiles()).catch(error => {
      throw this.#writeError(error)
    })
  }

  async flush(): Promise<void> {
    this.#assertOpen()
    await this.#track(this.#session.flush()).catch(error => {
      throw this.#writeError(error)
    })
  }

  close(): Promise<void> {
    return (this.#closed ??= this.#close())
  }

  async #close(): Promise<void> {
    // Leftovers are a bug of the caller, yet the binding would wait for them for ever.
    await Promise.allSettled([...this.#open].map(release => release()))
    this.#open.clear()
    while (this.#inFlight.size > 0) await Promise.allSettled(this.#inFlight)
    await this.#session.close()
    if (this.#owned) await removeOwner(this.path)
  }

  #assertOpen(): void {
    if (this.#closed !== null) throw stateError('DATABASE_CLOSED', { path: this.path })
  }

  async #track<T>(operation: Promise<T>): Promise<T> {
    this.#inFlight.add(operation)
    try {
      return await operation
    } finally {
      this.#inFlight.delete(operation)
    }
  }

  async #getMany(session: NativeSession, keys: readonly Uint8Array[]): Promise<(Buffer | null)[]> {
    this.#assertOpen()
    if (keys.length === 0) return []
    const batch = session.read({ capacity: keys.length, autoDestroy: true })
    const values = keys.map(key => batch.get(key))
    const read = Promise.all([Promise.all(values), batch.flush()])
    try {
      return (await this.#track(read))[0]
    } catch (error) {
      await Promise.allSettled(values)
      throw this.#readError(error, keysPlace(keys))
    }
  }

  async #write(operations: readonly Operation[]): Promise<void> {
    this.#assertOpen()
    if (operations.length === 0) return
    const batch = this.#session.write({ capacity: operations.length, autoDestroy: true })
    for (const { key, value, end } of operations) {
      if (end !== null) batch.tryDeleteRange(key, end)
      else if (value === null) batch.tryDelete(key)
      else batch.tryPut(key, value)
    }
    try {
      await this.#track(batch.flush())
    } catch (error) {
      throw this.#writeError((error as Error).cause ?? error)
    }
  }

  async *#scanOwnSnapshot(range: ScanRange): AsyncGenerator<readonly Entry[]> {
    this.#assertOpen()
    const session = this.#session.snapshot()
    const release = (): Promise<void> => session.close()
    this.#open.add(release)
    try {
      yield* this.#scan(session, range)
    } finally {
      if (this.#open.delete(release)) await release()
    }
  }

  /**
   * The first iterator reads few entries; when there are more, later ones read as many at a
   * time as `SCAN_BYTES` hold, judged by the entries seen: values are 8 bytes or 256 KiB.
   */
  async *#scan(session: NativeSession, range: ScanRange): AsyncGenerator<readonly Entry[]> {
    if (Buffer.compare(range.gte, range.lt) >= 0) return
    let left = range.limit ?? Number.POSITIVE_INFINITY
    let { gte, lt } = range
    let capacity = SCAN_ENTRIES_FIRST
    for (let first = true; left > 0; first = false) {
      const window = first ? Math.min(left, capacity) : left
      let last: Entry | undefined
      let entries = 0
      let bytes = 0
      const bounds = { gte, lt, reverse: range.reverse, limit: window }
      for await (const chunk of this.#iterate(session, bounds, Math.min(capacity, window))) {
        for (const entry of chunk) bytes += entry.key.length + entry.value.length
        entries += chunk.length
        last = chunk[chunk.length - 1]
        yield chunk
      }
      left -= entries
      if (range.reverse && entries === 0 && window > 0) await this.#checkEmpty(session, bounds)
      if (last === undefined || entries < window) return
      if (range.reverse) lt = last.key
      else gte = Buffer.concat([last.key, ZERO])
      capacity = Math.min(
        Math.max(Math.floor((SCAN_BYTES * entries) / bytes), 16),
        SCAN_ENTRIES_MAX,
      )
    }
  }

  /**
   * A reverse iterator that meets a damaged block at its first step ends as if there were nothing,
   * without an error. A forward one tells, or finds what the other did not.
   */
  async #checkEmpty(session: NativeSession, { gte, lt }: ScanRange): Promise<void> {
    const range = { gte, lt, limit: 1 }
    for await (const _ of this.#iterate(session, range, 1)) {
      throw this.#readError(new Error('corrupt: rows are lost backwards'), keyPlace(gte, lt))
    }
  }

  async *#iterate(
    session: NativeSession,
    range: ScanRange,
    capacity: number,
  ): AsyncGenerator<readonly Entry[]> {
    this.#assertOpen()
    const iterator = session.iterator(range, { capacity })
    let ended = false
    let failure: Error | null = null
    let last: Entry | undefined
    let wake = (): void => {}
    const closed = new Promise<void>(resolve => iterator.on('close', resolve))
    const release = (): Promise<void> => {
      iterator.destroy()
      return closed
    }
    iterator.on('readable', () => wake())
    iterator.on('end', () => {
      ended = true
      wake()
    })
    iterator.on('error', error => {
      failure = error
    })
    iterator.on('close', () => {
      ended = true
      wake()
    })
    this.#open.add(release)
    try {
      for (;;) {
        const entries: Entry[] = []
        for (let entry = iterator.read(); entry !== null; entry = iterator.read()) {
          entries.push(entry)
        }
        last = entries.at(-1) ?? last
        if (entries.length > 0) yield entries
        else if (ended) break
        else await new Promise<void>(resolve => (wake = resolve))
      }
      if (failure !== null) throw this.#readError(failure, scanPlace(range, last))
      this.#assertOpen()
    } finally {
      this.#open.delete(release)
      await release()
    }
  }

  /** RocksDB hands each commit to the system at once, so syncing its files from here suffices. */
  async #syncFiles(): Promise<void> {
    const names = await readdir(this.path)
    for (const name of names) {
      if (!name.endsWith('.log')) continue
      const file = await open(join(this.path, name), 'r+').catch(() => null)
      // A file that went away meanwhile was written out to a sorted file, which RocksDB syncs.
      if (file === null) continue
      try {
        await file.datasync()
      } finally {
        await file.close()
      }
    }
    await syncDirectory(this.path)
  }

  #readError(error: unknown, where: string) {
    return accessError('DATABASE_READ_FAILED', { path: this.path, where, error: error as Error })
  }

  #writeError(error: unknown) {
    const { path } = this
    return accessError('DATABASE_WRITE_FAILED', { path, where: '', error: error as Error })
  }
}

/**
 * A `Database` in memory, for tests and for runs that keep nothing.
 *
 * Entries lie in one sorted list of chunks of at most 512. A snapshot shares the list and its
 * chunks: it raises the generation, and a write copies what an older generation made before it
 * changes it. Keys are binary strings, which compare as their bytes do.
 */
import type { Database, Entry, ScanRange, Snapshot, WriteBatch } from '../log/database.ts'
import { CollectedBatch, type Operation } from './collected-batch.ts'
import { assert, stateError } from './errors.ts'
import { lowerBound } from './sorted-keys.ts'

const CHUNK_ENTRIES_MAX = 512
const SCAN_ENTRIES = 256

interface Chunk {
  readonly generation: number
  readonly keys: string[]
  readonly values: Buffer[]
}

/** The entries at one moment; immutable once a snapshot holds it. */
interface Version {
  readonly generation: number
  readonly chunks: Chunk[]
}

export interface MemoryDatabaseOptions {
  /** Called before each commit is applied; a rejection makes the commit fail, unwritten. */
  readonly beforeCommit?: () => void | Promise<void>
}

const binary = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).latin1Slice()

export class MemoryDatabase implements Database {
  #version: Version
  #handles = 0
  #closed = false
  readonly #options: MemoryDatabaseOptions

  constructor(options: MemoryDatabaseOptions = {}) {
    this.#options = options
    this.#version = { generation: 0, chunks: [] }
  }

  get openHandles(): number {
    return this.#handles
  }

  /** A database over the same entries, as after a restart; this one is closed. */
  reopen(options: MemoryDatabaseOptions = this.#options): MemoryDatabase {
    const next = new MemoryDatabase(options)
    next.#version = this.#freeze()
    next.#freeze()
    this.#closed = true
    return next
  }

  async getMany(keys: readonly Uint8Array[]): Promise<(Buffer | null)[]> {
    this.#assertOpen()
    return keys.map(key => find(this.#version, binary(key)))
  }

  scan(range: ScanRange): AsyncIterable<readonly Entry[]> {
    return this.#scan(() => this.#freeze(), range)
  }

  batch(): WriteBatch {
    this.#assertOpen()
    this.#handles++
    return new CollectedBatch(
      operations => this.#apply(operations),
      () => {
        if (this.#handles > 0) this.#handles--
      },
    )
  }

  snapshot(): Snapshot {
    this.#assertOpen()
    const version = this.#freeze()
    let released = false
    this.#handles++
    const release = async (): Promise<void> => {
      if (released) return
      released = true
      this.#handles--
    }
    const assertHeld = (): void => assert(!released, 'a released snapshot is not read')
    return {
      getMany: async keys => {
        this.#assertOpen()
        assertHeld()
        return keys.map(key => find(version, binary(key)))
      },
      scan: range =>
        this.#scan(() => {
          assertHeld()
          return version
        }, range),
      release,
      [Symbol.asyncDispose]: release,
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#handles = 0
  }

  #assertOpen(): void {
    if (this.#closed) throw stateError('DATABASE_CLOSED', { path: 'in memory' })
  }

  /** Hands out the current version; later writes copy what they change of it. */
  #freeze(): Version {
    const frozen = this.#version
    this.#version = { generation: frozen.generation + 1, chunks: frozen.chunks.slice() }
    return frozen
  }

  async #apply(operations: readonly Operation[]): Promise<void> {
    this.#assertOpen()
    await this.#options.beforeCommit?.()
    this.#assertOpen()
    for (const { key, value, end } of operations) {
      if (end !== null) removeRange(this.#version, binary(key), binary(end))
      else if (value === null) remove(this.#version, binary(key))
      else insert(this.#version, binary(key), Buffer.from(value))
    }
  }

  async *#scan(open: () => Version, range: ScanRange): AsyncGenerator<readonly Entry[]> {
    this.#assertOpen()
    const version = open()
    this.#handles++
    try {
      let left = range.limit ?? Number.POSITIVE_INFINITY
      for (const entries of walk(version, range)) {
        this.#assertOpen()
        if (left <= 0) return
        const chunk = entries.length > left ? entries.slice(0, left) : entries
        left -= chunk.length
        yield chunk
      }
    } finally {
      if (this.#handles > 0) this.#handles--
    }
  }
}

/** Index of the last chunk whose first key is not greater than `key`; 0 when there is none. */
function chunkOf(version: Version, key: string): number {
  const { chunks } = version
  let low = 1
  let high = chunks.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (chunks[middle].keys[0] <= key) low = middle + 1
    else high = middle
  }
  return low - 1
}

function find(version: Version, key: string): Buffer | null {
  if (version.chunks.length === 0) return null
  const { keys, values } = version.chunks[chunkOf(version, key)]
  const at = lowerBound(keys, key)
  return keys[at] === key ? values[at] : null
}

/** The chunk at `index`, made this generation's own. */
function owned(version: Version, index: number): Chunk {
  const chunk = version.chunks[index]
  if (chunk.generation === version.generation) return chunk
  const { generation } = version
  return (version.chunks[index] = {
    generation,
    keys: chunk.keys.slice(),
    values: chunk.values.slice(),
  })
}

function insert(version: Version, key: string, value: Buffer): void {
  const { generation, chunks } = version
  if (chunks.length === 0) {
    chunks.push({ generation, keys: [key], values: [value] })
    return
  }
  const index = chunkOf(version, key)
  const chunk = owned(version, index)
  const at = lowerBound(chunk.keys, key)
  if (chunk.keys[at] === key) {
    chunk.values[at] = value
    return
  }
  chunk.keys.splice(at, 0, key)
  chunk.values.splice(at, 0, value)
  if (chunk.keys.length <= CHUNK_ENTRIES_MAX) return
  // Ascending writes are the common case: they leave full chunks behind.
  const cut = at === chunk.keys.length - 1 ? at : chunk.keys.length >>> 1
  const keys = chunk.keys.splice(cut)
  const values = chunk.values.splice(cut)
  chunks.splice(index + 1, 0, { generation, keys, values })
}

function remove(version: Version, key: string): void {
  if (version.chunks.length === 0) return
  const index = chunkOf(version, key)
  const at = lowerBound(version.chunks[index].keys, key)
  if (version.chunks[index].keys[at] !== key) return
  const chunk = owned(version, index)
  chunk.keys.splice(at, 1)
  chunk.values.splice(at, 1)
  if (chunk.keys.length === 0) version.chunks.splice(index, 1)
}

function removeRange(version: Version, start: string, end: string): void {
  if (start >= end) return
  let index = chunkOf(version, start)
  while (index < version.chunks.length) {
    const { keys } = version.chunks[index]
    if (keys[0] >= end) return
    const from = lowerBound(keys, start)
    const count = lowerBound(keys, end) - from
    if (count === keys.length) {
      version.chunks.splice(index, 1)
      continue
    }
    if (count > 0) {
      const chunk = owned(version, index)
      chunk.keys.splice(from, count)
      chunk.values.splice(from, count)
    }
    index++
  }
}

function* walk(version: Version, range: ScanRange): Generator<Entry[]> {
  const gte = binary(range.gte)
  const lt = binary(range.lt)
  const { chunks } = version
  if (gte >= lt || chunks.length === 0) return
  const step = range.reverse ? -1 : 1
  for (let index = chunkOf(version, range.reverse ? lt : gte); chunks[index]; index += step) {
    const { keys, values } = chunks[index]
    const from = lowerBound(keys, gte)
    const to = lowerBound(keys, lt)
    const entries: Entry[] = []
    for (let at = from; at < to; at++) {
      entries.push({ key: Buffer.from(keys[at], 'latin1'), value: values[at] })
    }
    if (range.reverse) entries.reverse()
    for (let at = 0; at < entries.length; at += SCAN_ENTRIES) {
      yield entries.slice(at, at + SCAN_ENTRIES)
    }
    if (range.reverse ? keys[0] < gte : keys[keys.length - 1] >= lt) return
  }
}

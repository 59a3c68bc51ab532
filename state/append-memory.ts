/**
 * What an append store holds in memory, within a budget: blocks, and indexes of segments.
 *
 * `want` notes what a lookup will need, `load` reads all of it: the missing indexes with one
 * multi-get, then the missing blocks with another. Blocks go first when memory runs short, those
 * not looked at since the last round before the others; then the indexes of the segments that
 * were not asked for longest. Only what is durable can go.
 *
 * Indexes go between epochs only (`trim`). While an epoch runs, a load may let go of blocks that
 * neither it nor the load before it was asked for.
 */
import type { Database } from '../log/database.ts'
import type { BatchReader, TopicPartition } from '../log/port.ts'
import { loadIndexes } from './append-chunks.ts'
import { type AppendKeys, baseTimeOf } from './append-format.ts'
import type { Block, Segment } from './append-segment.ts'
import { assert, stateError } from './errors.ts'

/** Where blocks are: the batches of a partition, read by their base offset. */
export interface BlockLog {
  readonly reader: BatchReader
  readonly target: TopicPartition
}

export interface AppendMemoryOptions {
  readonly database: Database
  readonly keys: AppendKeys
  /** The log that gives blocks back; without it they are rows of the database. */
  readonly blocks?: BlockLog
  readonly memoryBytesMax: number
}

export class AppendMemory {
  reads = 0
  keysRead = 0
  blockBytes = 0
  readonly #options: AppendMemoryOptions
  /** Blocks that can go, in the order in which they will be judged. */
  readonly #evictable = new Set<Block>()
  #load = 0
  #wantedIndexes = new Set<Segment>()
  #wantedHashes: { segment: Segment; hash: number }[] = []
  #wantedBlocks: Block[] = []

  constructor(options: AppendMemoryOptions) {
    this.#options = options
  }

  /** A block has been closed: its bytes count from now on. */
  closed(block: Block): void {
    this.blockBytes += block.sizeBytes
  }

  /** A block is durable: it may go. */
  applied(block: Block): void {
    if (block.bytes !== null) this.#evictable.add(block)
  }

  /** A block is no more. */
  dropped(block: Block): void {
    if (block.bytes !== null) this.blockBytes -= block.sizeBytes
    block.bytes = null
    this.#evictable.delete(block)
  }

  want(segment: Segment, hash: number): void {
    if (segment.indexedFrom > 0) {
      this.#wantedIndexes.add(segment)
      this.#wantedHashes.push({ segment, hash })
    } else if (segment.evicted > 0) segment.blocksOf(hash, this.#want)
    else segment.wantedWholeAt = this.#load
  }

  readonly #want = (block: Block): void => {
    if (block.bytes === null && block.wantedAt !== this.#load) this.#wantedBlocks.push(block)
    block.wantedAt = this.#load
  }

  load(): Promise<void> | undefined {
    const nothing = this.#wantedIndexes.size === 0 && this.#wantedBlocks.length === 0
    return nothing ? undefined : this.#loadWanted()
  }

  async #loadWanted(): Promise<void> {
    const segments = [...this.#wantedIndexes]
    const hashes = this.#wantedHashes
    this.#wantedIndexes = new Set()
    this.#wantedHashes = []
    if (segments.length > 0) {
      this.reads++
      this.keysRead += await loadIndexes(this.#options.database, this.#options.keys, segments)
      for (const { segment, hash } of hashes) segment.blocksOf(hash, this.#want)
    }
    const blocks = this.#wantedBlocks
    this.#wantedBlocks = []
    const load = this.#load++
    if (blocks.length === 0) return
    let bytes = 0
    for (const block of blocks) bytes += block.sizeBytes
    this.#evictBlocks(this.#options.memoryBytesMax - bytes, load - 1)
    this.reads++
    this.keysRead += blocks.length
    const found = await this.#read(blocks)
    for (let i = 0; i < blocks.length; i++) this.#fill(blocks[i]!, found[i] ?? null)
  }

  #read(blocks: readonly Block[]): Promise<readonly (Buffer | null)[]> {
    const { database, keys, blocks: log } = this.#options
    if (log) {
      return log.reader.readBatches(
        log.target,
        blocks.map(block => block.id),
      )
    }
    return database.getMany(blocks.map(({ segment, id }) => keys.row('b', segment.startMs, id)))
  }

  #fill(block: Block, bytes: Buffer | null): void {
    if (block.bytes !== null) return
    if (bytes === null || bytes.length !== block.sizeBytes) {
      throw stateError('BLOCK_MISSING', { ...this.#options.blocks?.target, offset: block.id })
    }
    block.bytes = bytes
    block.baseTimeMs = baseTimeOf(bytes)
    block.used = true
    block.segment.evicted--
    this.blockBytes += bytes.length
    this.#evictable.add(block)
  }

  /** Brings memory within the budget; what was loaded before may have to be loaded again. */
  trim(segments: readonly Segment[]): void {
    const { memoryBytesMax } = this.#options
    let indexBytes = 0
    for (const { index } of segments) indexBytes += index.heapBytes
    if (this.blockBytes + indexBytes <= memoryBytesMax) return
    this.#evictBlocks(memoryBytesMax - indexBytes, Number.POSITIVE_INFINITY)
    if (this.blockBytes + indexBytes <= memoryBytesMax) return
    const idle = segments.filter(segment => segment.indexedFrom < segment.applied)
    idle.sort((a, b) => a.usedAt - b.usedAt || a.startMs - b.startMs)
    for (const segment of idle) {
      if (this.blockBytes + indexBytes <= memoryBytesMax) break
      indexBytes -= segment.index.heapBytes
      segment.evictIndex()
      indexBytes += segment.index.heapBytes
    }
  }

  /** Evicts blocks that no load after `wantedMax` asked for, until they fit into `bytesMax`. */
  #evictBlocks(bytesMax: number, wantedMax: number): void {
    let left = this.#evictable.size * 2
    for (const block of this.#evictable) {
      if (this.blockBytes <= bytesMax || left-- === 0) return
      const { segment } = block
      if (block.wantedAt >= wantedMax || segment.wantedWholeAt >= wantedMax) continue
      this.#evictable.delete(block)
      if (block.used) {
        block.used = false
        this.#evictable.add(block)
      } else {
        assert(block.bytes !== null, 'a block that can go is there')
        block.bytes = null
        // The running load may have asked for it before: the next to ask needs it read.
        block.wantedAt = -1
        segment.evicted++
        this.blockBytes -= block.sizeBytes
      }
    }
  }
}

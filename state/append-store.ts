/**
 * Rows written once: the `AppendStore` over blocks (grammar in `append-format.ts`).
 *
 *     append → open block of the row's time segment
 *              full, or seal() → closed block = changelog batch
 *              [commit] the block's index row in the same write → applied()
 *
 * A row is encoded once. On a log that gives batches back by their offset the changelog holds
 * the only copy of a block; elsewhere the block is a row beside its index row, too. `expire`
 * drops whole segments: their index rows by range deletes in the epoch's write and, once that is
 * applied, the changelog below the oldest block of a live segment (law 4).
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { AppendReceipt, BatchReader, EventLog, TopicPartition } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { deleteSegments, readSegments, writeChunks } from './append-chunks.ts'
import { AppendKeys } from './append-format.ts'
import { AppendMemory, type BlockLog } from './append-memory.ts'
import { restoreBlocks } from './append-restore.ts'
import { type Block, type Epoch, emptyEpoch, firstEndingAfter, Segment } from './append-segment.ts'
import { readApplied, writeApplied } from './applied-offset.ts'
import { assert } from './errors.ts'
import type {
  AppendRow,
  AppendStore,
  Probe,
  Screening,
  SealedEpoch,
  StoredRow,
  StoreMetrics,
} from './port.ts'

export interface AppendStoreOptions {
  readonly name: string
  readonly partition: number
  readonly database: Database
  /** Absent: the store has no changelog. */
  readonly log?: EventLog & Partial<BatchReader>
  readonly changelog?: TopicPartition
  /** Wall time, epoch ms. */
  readonly clock?: () => number
  /** Length of a time segment: what expires at once, and what a lookup searches at a time. */
  readonly segmentMs: number
  /** Heap for durable blocks and indexes; what an epoch needs may pass it while it runs. */
  readonly memoryBytesMax: number
  /** A block is closed before it would pass this; a longer row has a block of its own. */
  readonly blockBytesMax?: number
}

/**
 * A lookup in an evicted block reads all of it, and a batch may need thousands: 64 KiB keeps that
 * small, and costs 0.1 % for the batch header.
 */
const BLOCK_BYTES_MAX = 64 * 1024
/** More than a record adds to its key and value. */
const RECORD_OVERHEAD_MAX = 48

export async function openAppendStore(options: AppendStoreOptions): Promise<AppendStore> {
  assert(Number.isSafeInteger(options.segmentMs) && options.segmentMs > 0, 'a segment has a length')
  const keys = new AppendKeys(options.name, options.partition)
  const segments = await readSegments(options.database, keys, options.segmentMs)
  const { offset: applied } = await readApplied(options.database, options)
  return new BlockStore(options, { keys, segments, applied })
}

interface StoredState {
  readonly keys: AppendKeys
  readonly segments: Segment[]
  readonly applied: number
}

class BlockStore implements AppendStore {
  readonly name: string
  readonly partition: number
  rows = 0
  readonly #options: AppendStoreOptions
  readonly #keys: AppendKeys
  readonly #memory: AppendMemory
  readonly #blockBytesMax: number
  /** The log that gives blocks back; without it they are rows of the database. */
  readonly #blockLog: BlockLog | undefined
  /** Live segments by start, and in order. */
  readonly #segments = new Map<number, Segment>()
  #order: Segment[] = []
  #last: Segment | undefined
  /** Segments with an open block. */
  readonly #open = new Set<Segment>()
  readonly #builders: RecordBatchBuilder[] = []
  #epoch = emptyEpoch()
  #sealed: Epoch | null = null
  #epochs = 0
  /** The changelog is applied up to here; without a changelog, the id of the next block. */
  #applied: number
  topicId = ''
  #trimmed = 0

  constructor(options: AppendStoreOptions, { keys, segments, applied }: StoredState) {
    this.name = options.name
    this.partition = options.partition
    this.#options = options
    this.#keys = keys
    this.#blockBytesMax = options.blockBytesMax ?? BLOCK_BYTES_MAX
    this.#applied = applied
    const { log, changelog } = options
    if (log?.readBatches && changelog) {
      this.#blockLog = { reader: log as BatchReader, target: changelog }
    }
    this.#memory = new AppendMemory({
      database: options.database,
      keys,
      blocks: this.#blockLog,
      memoryBytesMax: options.memoryBytesMax,
    })
    this.#load(segments)
  }

  #load(segments: Segment[]): void {
    this.#order = segments
    for (const segment of segments) {
      this.#segments.set(segment.startMs, segment)
      this.rows += segment.rows
    }
  }

  get metrics(): StoreMetrics {
    let overlayRows = 0
    let cachedRows = 0
    let indexBytes = 0
    for (const segment of this.#order) {
      indexBytes += segment.index.heapBytes
      segment.blocks.forEach((block, i) => {
        if (i >= segment.applied) overlayRows += block.records
        else if (block.bytes !== null) cachedRows += block.records
      })
    }
    const { blockBytes, reads, keysRead } = this.#memory
    return { overlayRows, cachedRows, cachedBytes: blockBytes + indexBytes, reads, keysRead }
  }

  append(row: AppendRow): void {
    const { timeMs, key, value } = row
    const last = this.#last
    const segment =
      last !== undefined && timeMs >= last.startMs && timeMs < last.endMs
        ? last
        : this.#segmentOf(timeMs)
    const open = segment.open
    const size = key.end - key.start + value.end - value.start + RECORD_OVERHEAD_MAX
    if (open === undefined) this.#open.add(segment)
    else if (open.builder!.sizeBytes + size > this.#blockBytesMax) this.#close(segment)
    segment.usedAt = this.#epochs
    segment.append(row, this.#takeBuilder)
    this.rows++
  }

  readonly #takeBuilder = (): RecordBatchBuilder => this.#builders.pop() ?? new RecordBatchBuilder()

  #segmentOf(timeMs: number): Segment {
    const { segmentMs } = this.#options
    assert(Number.isSafeInteger(timeMs), 'times of stored rows are whole ms')
    const startMs = Math.floor(timeMs / segmentMs) * segmentMs
    let segment = this.#segments.get(startMs)
    if (segment === undefined) {
      segment = new Segment(startMs, segmentMs)
      this.#segments.set(startMs, segment)
      this.#order.splice(firstEndingAfter(this.#order, startMs), 0, segment)
    }
    this.#last = segment
    return segment
  }

  /** Ends the open block of a segment: from here on its bytes stay as they are. */
  #close(segment: Segment): void {
    const block = segment.open
    assert(block?.builder, 'a segment in the open set has an open block')
    const { builder } = block
    block.bytes = builder.finish()
    block.sizeBytes = block.bytes.length
    block.builder = null
    this.#builders.push(builder)
    this.#memory.closed(block)
    this.#epoch.blocks.push(block)
  }

  get resident(): boolean {
    return this.#order.every(({ evicted, indexedFrom }) => evicted === 0 && indexedFrom === 0)
  }

  want(probe: Probe): void {
    const { fromMs, toMs, key } = probe
    const order = this.#order
    for (let i = firstEndingAfter(order, fromMs); i < order.length; i++) {
      const segment = order[i]!
      if (segment.startMs > toMs) return
      segment.usedAt = this.#epochs
      this.#memory.want(segment, key.hash)
    }
  }

  load(): Promise<void> | undefined {
    return this.#memory.load()
  }

  lookup(probe: Probe, visit: (row: StoredRow) => void): void {
    const { fromMs, toMs } = probe
    const order = this.#order
    for (let i = firstEndingAfter(order, fromMs); i < order.length; i++) {
      const segment = order[i]!
      if (segment.startMs > toMs) return
      segment.usedAt = this.#epochs
      segment.lookup(probe, visit)
    }
  }

  screen(screening: Screening): void {
    const { hits, first, end, fromMs, toMs } = screening
    const order = this.#order
    for (let i = firstEndingAfter(order, fromMs); i < order.length; i++) {
      const { startMs, indexedFrom, index } = order[i]!
      if (startMs > toMs) return
      // The lookups themselves see to what is not in memory.
      if (indexedFrom > 0) hits.fill(1, first, end)
      else index.screen(screening)
    }
  }

  expire(timeMs: number): number {
    const gone = new Set(this.#order.splice(0, firstEndingAfter(this.#order, timeMs)))
    if (gone.size === 0) return 0
    let dropped = 0
    for (const segment of gone) {
      this.#segments.delete(segment.startMs)
      dropped += segment.rows
      if (this.#open.delete(segment)) this.#abandon(segment.open!)
      this.#epoch.expired.push(segment)
    }
    // Rows of this epoch that go at once need not be written at all.
    this.#epoch.blocks = this.#epoch.blocks.filter(block => !gone.has(block.segment))
    this.#last = undefined
    this.rows -= dropped
    return dropped
  }

  /** Takes the builder from an open block that is never written. */
  #abandon(block: Block): void {
    assert(block.builder, 'an open block has a builder')
    block.builder.reset()
    this.#builders.push(block.builder)
    block.builder = null
  }

  seal(wallTimeMs: number): SealedEpoch {
    assert(this.#sealed === null, 'one sealed epoch at a time awaits its commit')
    for (const segment of this.#open) this.#close(segment)
    this.#open.clear()
    const epoch = this.#epoch
    this.#sealed = epoch
    epoch.timeMs = wallTimeMs
    this.#epoch = emptyEpoch()
    this.#epochs++
    this.#memory.trim(this.#order)
    const { changelog: target } = this.#options
    return {
      appends: target ? epoch.blocks.map(block => ({ target, batch: block.bytes! })) : [],
      write: (receipts, batch) => this.#write(epoch, receipts, batch),
    }
  }

  #write(epoch: Epoch, receipts: readonly AppendReceipt[], batch: WriteBatch): void {
    deleteSegments(batch, this.#keys, epoch.expired)
    if (epoch.blocks.length === 0) return
    const counts = new Map<Segment, number>()
    const { changelog } = this.#options
    epoch.blocks.forEach((block, i) => {
      block.id = changelog ? receipts[i]!.baseOffset : this.#applied + i
      counts.set(block.segment, (counts.get(block.segment) ?? 0) + 1)
      if (this.#blockLog === undefined) {
        batch.put(this.#keys.row('b', block.segment.startMs, block.id), block.bytes!)
      }
    })
    for (const [segment, count] of counts) {
      const range = { from: segment.applied, to: segment.applied + count }
      epoch.chunks.set(segment, writeChunks(batch, this.#keys, segment, range))
    }
    epoch.next = changelog ? receipts.at(-1)!.nextOffset : this.#applied + epoch.blocks.length
    const { timeMs, next: offset } = epoch
    writeApplied(batch, this, { offset, timeMs, topicId: this.topicId })
  }

  applied(): void {
    const epoch = this.#sealed
    assert(epoch !== null, 'an epoch is sealed before it is applied')
    this.#sealed = null
    if (epoch.next > 0) this.#applied = epoch.next
    for (const block of epoch.blocks) {
      block.segment.applied++
      this.#memory.applied(block)
    }
    for (const [segment, chunks] of epoch.chunks) segment.chunks = chunks
    for (const segment of epoch.expired) {
      for (const block of segment.blocks) this.#memory.dropped(block)
    }
    if (epoch.expired.length > 0) this.#trimChangelog()
  }

  /** Below the oldest block of a live segment nobody reads the changelog again (law 4). */
  #trimChangelog(): void {
    const { log, changelog } = this.#options
    if (!log || !changelog) return
    let before = this.#applied
    for (const { blocks, applied } of [...this.#order, ...this.#epoch.expired]) {
      if (applied > 0) before = Math.min(before, blocks[0]!.id)
    }
    if (before <= this.#trimmed) return
    this.#trimmed = before
    // A failure costs space only, until the next expiry tries again.
    log.deleteRecords(changelog, before).catch(() => {
      this.#trimmed = 0
    })
  }

  reset(): void {
    for (const segment of this.#open) this.#abandon(segment.open!)
    this.#open.clear()
    const expired = [...(this.#sealed?.expired ?? []), ...this.#epoch.expired]
    for (const segment of [...this.#order, ...expired]) {
      for (const block of segment.reset()) this.#memory.dropped(block)
    }
    const durable = [...this.#order, ...expired].filter(segment => segment.applied > 0)
    this.#epoch = emptyEpoch()
    this.#sealed = null
    this.#segments.clear()
    this.#last = undefined
    this.rows = 0
    this.#load(durable.sort((a, b) => a.startMs - b.startMs))
  }

  async restore(...[onProgress, pace]: Parameters<AppendStore['restore']>): Promise<void> {
    const { log, changelog, database, clock } = this.#options
    if (log === undefined || changelog === undefined) return
    this.topicId = await restoreBlocks({
      store: this,
      log,
      changelog,
      database,
      ...(clock && { clock }),
      onProgress,
      pace,
      keys: this.#keys,
      keepBlocks: this.#blockLog === undefined,
      segmentOf: timeMs => this.#segmentOf(timeMs),
      restored: (block, nextOffset) => {
        this.rows += block.records
        this.#memory.closed(block)
        this.#memory.applied(block)
        this.#applied = nextOffset
      },
      trim: () => this.#memory.trim(this.#order),
      clear: () => this.#clear(),
      expire: startOffset => this.#expireBelow(startOffset),
    })
  }

  /**
   * The writer trims the log below the oldest block of a live segment: a segment with an older
   * block has expired, and so have all before it.
   */
  #expireBelow(startOffset: number): readonly Segment[] {
    const last = this.#order.findLastIndex(({ blocks }) => blocks[0]!.id < startOffset)
    const gone = this.#order.splice(0, last + 1)
    for (const segment of gone) {
      for (const block of segment.blocks) this.#memory.dropped(block)
      this.#segments.delete(segment.startMs)
      this.rows -= segment.rows
    }
    if (gone.length > 0) this.#last = undefined
    return gone
  }

  /** Forgets everything, as in an empty database. */
  #clear(): readonly Segment[] {
    const segments = this.#order
    for (const { blocks } of segments) for (const block of blocks) this.#memory.dropped(block)
    this.#segments.clear()
    this.#order = []
    this.#last = undefined
    this.rows = 0
    this.#applied = 0
    return segments
  }
}

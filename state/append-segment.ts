/**
 * The rows of one time segment: its blocks in append order and the index over them.
 *
 *     blocks   applied … applied | sealed … sealed | of this epoch … | open
 *     index    rows of the blocks from `indexedFrom` on; 0 when it has them all
 */
import type { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { type RecordPlace, readRow, rowHeaders } from './append-format.ts'
import { AppendIndex } from './append-index.ts'
import { assert } from './errors.ts'
import type { AppendRow, Probe, StoredRow } from './port.ts'

/** One block of rows. It has bytes, or a builder while it is open, or neither when evicted. */
export interface Block {
  readonly segment: Segment
  /** Base offset in the changelog; -1 until the log has given it. */
  id: number
  bytes: Buffer | null
  builder: RecordBatchBuilder | null
  baseTimeMs: number
  records: number
  sizeBytes: number
  /** Looked at since the last round of eviction. */
  used: boolean
  /** The last load that asked for it. */
  wantedAt: number
}

/** Consecutive applied blocks that share one index row in the database. */
export interface Chunk {
  readonly first: number
  readonly blocks: number
  readonly records: number
  readonly tier: number
}

const NO_BYTES = Buffer.alloc(0)
const place: RecordPlace = { bytes: NO_BYTES, position: 0, baseTimeMs: 0 }
const stored: StoredRow = {
  bytes: NO_BYTES,
  keyStart: 0,
  keyEnd: 0,
  valueStart: 0,
  valueEnd: 0,
  timeMs: 0,
  streamTimeMs: 0,
  traceStart: -1,
}
/** Matching rows of lookups under way, newest first; a visitor may look up in another store. */
const matches: number[] = []

export class Segment {
  readonly startMs: number
  readonly endMs: number
  blocks: Block[] = []
  chunks: readonly Chunk[] = []
  /** Blocks that are durable: the first ones. */
  applied = 0
  index = new AppendIndex()
  indexedFrom = 0
  rows = 0
  /** Durable blocks that are not in memory. */
  evicted = 0
  /** The last epoch in which it was asked. */
  usedAt = 0
  /** The last load that asked for rows of it while all of it was in memory. */
  wantedWholeAt = -1

  constructor(startMs: number, lengthMs: number) {
    this.startMs = startMs
    this.endMs = startMs + lengthMs
  }

  /** The block that takes rows, if there is one. */
  get open(): Block | undefined {
    const last = this.blocks[this.blocks.length - 1]
    return last?.builder ? last : undefined
  }

  append(row: AppendRow, builder: () => RecordBatchBuilder): Block {
    let block = this.open
    if (block === undefined) {
      block = newBlock(this, { builder: builder(), baseTimeMs: row.timeMs })
      this.blocks.push(block)
    }
    const records = block.builder!
    const position = records.sizeBytes
    records.append(row.timeMs, row.key, row.value, rowHeaders(row))
    this.index.add(row.key.hash, this.blocks.length - 1, position)
    block.records++
    this.rows++
    return block
  }

  /** Rows of the key and time range, oldest first. */
  lookup(probe: Probe, visit: (row: StoredRow) => void): void {
    assert(this.indexedFrom === 0, 'a lookup was wanted and loaded before')
    const { index } = this
    let match = index.first(probe.key.hash)
    if (match < 0) return
    const bottom = matches.length
    for (; match >= 0; match = index.next(match)) matches.push(match)
    try {
      while (matches.length > bottom) this.#visit(matches.pop()!, probe, visit)
    } finally {
      matches.length = bottom
    }
  }

  #visit(match: number, probe: Probe, visit: (row: StoredRow) => void): void {
    const block = this.blocks[this.index.blockOf(match)]!
    const bytes = block.bytes ?? block.builder?.bytes
    assert(bytes !== undefined, 'a lookup was wanted and loaded before')
    block.used = true
    place.bytes = bytes
    place.position = this.index.positionOf(match)
    place.baseTimeMs = block.baseTimeMs
    if (!readRow(place, probe.key, stored)) return
    if (stored.timeMs >= probe.fromMs && stored.timeMs <= probe.toMs) visit(stored)
  }

  /** Visits each closed block that may hold rows of the hash. */
  blocksOf(hash: number, visit: (block: Block) => void): void {
    const { index, blocks } = this
    for (let row = index.first(hash); row >= 0; row = index.next(row)) {
      const block = blocks[index.blockOf(row)]!
      if (block.builder === null) visit(block)
    }
  }

  /** Drops the rows that are not durable; returns their blocks. */
  reset(): Block[] {
    this.index.truncate(this.applied)
    const dropped = this.blocks.splice(this.applied)
    for (const block of dropped) this.rows -= block.records
    return dropped
  }

  /** Lets go of the index of durable blocks. */
  evictIndex(): void {
    this.index = this.index.from(this.applied)
    this.indexedFrom = this.applied
  }
}

/** Position of the first of the segments, which are in order, whose end is after a time. */
export function firstEndingAfter(order: readonly Segment[], timeMs: number): number {
  let low = 0
  let high = order.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (order[middle]!.endMs <= timeMs) low = middle + 1
    else high = middle
  }
  return low
}

export function newBlock(segment: Segment, fields: Partial<Block>): Block {
  return {
    segment,
    id: -1,
    bytes: null,
    builder: null,
    baseTimeMs: 0,
    records: 0,
    sizeBytes: 0,
    used: true,
    wantedAt: -1,
    ...fields,
  }
}

/** What one epoch of a store changes. */
export interface Epoch {
  blocks: Block[]
  expired: Segment[]
  /** Index rows that its segments have once it is durable. */
  chunks: Map<Segment, readonly Chunk[]>
  /** What is applied once it is durable; 0 when it has no blocks. */
  next: number
  /** Wall time at which it was sealed. */
  timeMs: number
}

export const emptyEpoch = (): Epoch => {
  return { blocks: [], expired: [], chunks: new Map(), next: 0, timeMs: 0 }
}

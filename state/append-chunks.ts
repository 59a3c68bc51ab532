/**
 * Index rows of a segment (grammar in `append-format.ts`). Each commit adds one chunk for the
 * segment's new blocks; when the last `FAN_IN` chunks have one tier they become one of the next,
 * so a start reads few rows however small the commits were, and each entry is rewritten a few
 * times only.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import { type AppendKeys, decodeChunk, encodeChunk } from './append-format.ts'
import { AppendIndex } from './append-index.ts'
import { type Chunk, newBlock, Segment } from './append-segment.ts'
import { assert } from './errors.ts'

const FAN_IN = 16
/** A merged chunk has at most this many rows: 8 MiB of entries. */
const CHUNK_RECORDS_MAX = 1 << 20

/**
 * Writes the index rows for the blocks `[from, to)` of a segment, which follow its applied ones.
 * Returns the chunks that it has once the batch is committed.
 */
export function writeChunks(
  batch: WriteBatch,
  keys: AppendKeys,
  segment: Segment,
  { from, to }: { readonly from: number; readonly to: number },
): readonly Chunk[] {
  const written = segment.chunks.length
  const chunks = [...segment.chunks, chunkOf(segment, from, to, 0)]
  for (;;) {
    const run = chunks.slice(-FAN_IN)
    const { first, tier } = run[0]!
    const records = run.reduce((sum, chunk) => sum + chunk.records, 0)
    const mergeable = run.length === FAN_IN && run.every(chunk => chunk.tier === tier)
    if (!mergeable || records > CHUNK_RECORDS_MAX || first < segment.indexedFrom) break
    chunks.splice(-FAN_IN, FAN_IN, chunkOf(segment, first, to, tier + 1))
  }
  const last = chunks[chunks.length - 1]!
  for (const gone of segment.chunks.slice(chunks.length - 1, written)) {
    const { id } = segment.blocks[gone.first]!
    batch.delete(keys.row('c', segment.startMs, id))
    batch.delete(keys.row('e', segment.startMs, id))
  }
  const blocks = segment.blocks.slice(last.first, to)
  const { id } = blocks[0]!
  batch.put(keys.row('c', segment.startMs, id), encodeChunk(last.tier, blocks))
  batch.put(keys.row('e', segment.startMs, id), segment.index.entries(last.first, to))
  return chunks
}

function chunkOf(segment: Segment, from: number, to: number, tier: number): Chunk {
  let records = 0
  for (let i = from; i < to; i++) records += segment.blocks[i]!.records
  return { first: from, blocks: to - from, records, tier }
}

/**
 * Deletes everything of segments that were the oldest, so that there is nothing between them: a
 * few range deletes, however many they are.
 */
export function deleteSegments(
  batch: WriteBatch,
  keys: AppendKeys,
  segments: readonly Segment[],
): void {
  if (segments.length === 0) return
  let first = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const { startMs } of segments) {
    first = Math.min(first, startMs)
    last = Math.max(last, startMs)
  }
  for (const kind of ['b', 'c', 'e'] as const) {
    batch.deleteRange(keys.start(kind, first), keys.start(kind, last + 1))
  }
}

/** The segments that are in the database, in order; neither their indexes nor blocks are read. */
export async function readSegments(
  database: Database,
  keys: AppendKeys,
  segmentMs: number,
): Promise<Segment[]> {
  const segments: Segment[] = []
  for await (const rows of database.scan(keys.range('c'))) {
    for (const { key, value } of rows) {
      const startMs = keys.segmentStartOf(key)
      let segment = segments[segments.length - 1]
      if (segment?.startMs !== startMs) segments.push((segment = new Segment(startMs, segmentMs)))
      addChunk(segment, value)
    }
  }
  for (const segment of segments) {
    segment.applied = segment.blocks.length
    segment.indexedFrom = segment.applied
    segment.evicted = segment.applied
  }
  return segments
}

function addChunk(segment: Segment, value: Buffer): void {
  const { tier, blocks } = decodeChunk(value)
  const first = segment.blocks.length
  for (const block of blocks) {
    const before = segment.blocks[segment.blocks.length - 1]
    assert(before === undefined || before.id < block.id, 'blocks of a segment are in log order')
    segment.blocks.push(newBlock(segment, { ...block, used: false }))
    segment.rows += block.records
  }
  segment.chunks = [...segment.chunks, chunkOf(segment, first, segment.blocks.length, tier)]
}

/** Reads the indexes of segments that let go of them: one multi-get for all. */
export async function loadIndexes(
  database: Database,
  keys: AppendKeys,
  segments: readonly Segment[],
): Promise<number> {
  const wanted = segments.flatMap(segment =>
    segment.chunks
      .filter(chunk => chunk.first < segment.indexedFrom)
      .map(chunk => ({ segment, chunk })),
  )
  const found = await database.getMany(
    wanted.map(({ segment, chunk }) =>
      keys.row('e', segment.startMs, segment.blocks[chunk.first]!.id),
    ),
  )
  for (const segment of segments) {
    if (segment.indexedFrom === 0) continue
    const index = new AppendIndex()
    let next = 0
    wanted.forEach((want, i) => {
      if (want.segment !== segment) return
      const { first, blocks } = want.chunk
      const entries = found[i]
      assert(entries, 'a chunk has its entries')
      assert(first === next, 'chunks cover all blocks, in order')
      next = first + blocks
      const records = segment.blocks.slice(first, next).map(block => block.records)
      index.addEntries(entries, first, records)
    })
    assert(next === segment.indexedFrom, 'chunks cover all blocks that are not indexed')
    index.addRows(segment.index, 0)
    segment.index = index
    segment.indexedFrom = 0
  }
  return wanted.length
}

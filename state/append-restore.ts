/**
 * Brings an append store up to its changelog: each batch after the applied offset is a block, and
 * is written with its index rows. What the log has trimmed was expired (law 4).
 */
import type { WriteBatch } from '../log/database.ts'
import { type BatchHeader, HEADER_BYTES, readBatchHeaders } from '../log/record-batch.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { deleteSegments, writeChunks } from './append-chunks.ts'
import { type AppendKeys, hashKey } from './append-format.ts'
import { type Block, newBlock, type Segment } from './append-segment.ts'
import { type ReplayOptions, replayChangelog } from './changelog-replay.ts'
import { stateError } from './errors.ts'

export interface RestoreBlocksOptions extends ReplayOptions {
  readonly keys: AppendKeys
  /** Blocks are rows of the database, too. */
  readonly keepBlocks: boolean
  readonly segmentOf: (timeMs: number) => Segment
  readonly restored: (block: Block, nextOffset: number) => void
  /** Keeps memory within its budget. */
  readonly trim: () => void
  /** Forgets the local rows: they are of another log. */
  readonly clear: () => readonly Segment[]
  /** Forgets segments that begin below what the log still has. */
  readonly expire: (startOffset: number) => readonly Segment[]
}

/** Resolves with the changelog topic's id. */
export function restoreBlocks(options: RestoreBlocksOptions): Promise<string> {
  return replayChangelog(options, {
    compacted: false,
    clear(batch) {
      deleteSegments(batch, options.keys, options.clear())
    },
    expire(startOffset, batch) {
      deleteSegments(batch, options.keys, options.expire(startOffset))
    },
    read(bytes, position, batch) {
      const headers = readBatchHeaders(bytes, true)
      const added = readBlocks(options, { bytes, headers, position })
      const applied = writeIndexes(options, added, batch)
      const next = Math.max(position, headers.at(-1)?.nextOffset ?? position)
      return {
        next,
        committed() {
          applied()
          options.trim()
        },
      }
    },
  })
}

interface Fetched {
  readonly bytes: Buffer
  readonly headers: readonly BatchHeader[]
  /** Batches that begin before it are here already. */
  readonly position: number
}

/** Puts the fetched blocks behind those of their segments; returns how many each got. */
function readBlocks(options: RestoreBlocksOptions, fetched: Fetched): Map<Segment, number> {
  const { bytes, headers, position } = fetched
  const added = new Map<Segment, number>()
  for (const header of headers) {
    if (header.isControl || header.recordCount === 0 || header.baseOffset < position) continue
    const block = readBlock(options, Buffer.from(bytes.subarray(header.start, header.end)), header)
    added.set(block.segment, (added.get(block.segment) ?? 0) + 1)
    options.restored(block, header.nextOffset)
  }
  return added
}

function readBlock(options: RestoreBlocksOptions, bytes: Buffer, header: BatchHeader): Block {
  const foreign = (reason: string) =>
    stateError('CHANGELOG_FOREIGN', { ...options.changelog, offset: header.baseOffset, reason })
  if (header.codec !== 'none') throw foreign('it is compressed')
  const [columns] = decodeBatches(bytes, { verify: false }).runs as [RecordColumns]
  const segment = options.segmentOf(columns.timestamps[0]!)
  const at = segment.blocks.length
  for (let i = 0; i < columns.length; i++) {
    const timeMs = columns.timestamps[i]!
    if (timeMs < segment.startMs || timeMs >= segment.endMs) {
      throw foreign('its rows are of several segments')
    }
    const start = columns.keyStart[i]!
    if (start < 0 || columns.valueStart[i]! < 0) throw foreign('a key or value is null')
    const hash = hashKey(bytes, start, columns.keyEnd[i]!)
    segment.index.add(hash, at, i === 0 ? HEADER_BYTES : columns.headersEnd[i - 1]!)
  }
  const block = newBlock(segment, {
    id: header.baseOffset,
    bytes,
    baseTimeMs: header.baseTimestamp,
    records: columns.length,
    sizeBytes: bytes.length,
  })
  segment.blocks.push(block)
  segment.rows += block.records
  return block
}

/** Adds the index rows of new blocks; the result notes that they are durable. */
function writeIndexes(
  { keys, keepBlocks }: RestoreBlocksOptions,
  added: ReadonlyMap<Segment, number>,
  batch: WriteBatch,
): () => void {
  const chunks = new Map<Segment, ReturnType<typeof writeChunks>>()
  for (const [segment, count] of added) {
    const from = segment.applied
    chunks.set(segment, writeChunks(batch, keys, segment, { from, to: from + count }))
    if (!keepBlocks) continue
    for (const { id, bytes } of segment.blocks.slice(from)) {
      batch.put(keys.row('b', segment.startMs, id), bytes!)
    }
  }
  return () => {
    for (const [segment, count] of added) {
      segment.applied += count
      segment.chunks = chunks.get(segment)!
    }
  }
}

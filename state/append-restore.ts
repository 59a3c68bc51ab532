/**
 * Brings an append store up to its changelog: each batch after the applied offset is a block. It
 * reads by position to the end captured first, and writes index rows and the position reached in
 * one batch, so it goes on where it was stopped. What the log has trimmed was expired (law 4).
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { type BatchHeader, HEADER_BYTES, readBatchHeaders } from '../log/record-batch.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { deleteSegment, writeChunks } from './append-chunks.ts'
import { type AppendKeys, hashKey } from './append-format.ts'
import { type Block, newBlock, type Segment } from './append-segment.ts'
import { appliedOffset, writeAppliedOffset } from './applied-offset.ts'
import { stateError } from './errors.ts'

export interface RestoreBlocksOptions {
  readonly store: { readonly name: string; readonly partition: number }
  readonly log: EventLog
  readonly changelog: TopicPartition
  readonly database: Database
  readonly keys: AppendKeys
  /** Blocks are rows of the database, too. */
  readonly keepBlocks: boolean
  readonly segmentOf: (timeMs: number) => Segment
  readonly restored: (block: Block, nextOffset: number) => void
  /** Keeps memory within its budget. */
  readonly trim: () => void
  /** Forgets the local rows: they are of another log. */
  readonly clear: () => readonly Segment[]
  readonly onProgress?: (position: number, end: number) => void
}

const FETCH_BYTES = 4 * 1024 * 1024

export async function restoreBlocks(options: RestoreBlocksOptions): Promise<void> {
  const { store, log, changelog, database, onProgress } = options
  const [range] = await log.offsets([changelog])
  const { startOffset, endOffset } = range!
  const applied = await appliedOffset(database, store)
  let position = Math.max(applied, startOffset)
  if (applied > endOffset) {
    await clear(options)
    position = startOffset
  }
  while (position < endOffset) {
    const [response] = await log.fetch([{ ...changelog, offset: position, bytesMax: FETCH_BYTES }])
    const headers = readBatchHeaders(response!.bytes, true)
    const next = Math.max(position, headers.at(-1)?.nextOffset ?? position)
    if (next === position) throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset })
    const batch = database.batch()
    try {
      const added = readBlocks(options, { bytes: response!.bytes, headers, position })
      await write(options, { batch, added, next })
    } finally {
      batch.discard()
    }
    position = next
    options.trim()
    onProgress?.(position, endOffset)
  }
}

async function clear({ store, keys, database, ...options }: RestoreBlocksOptions): Promise<void> {
  const batch = database.batch()
  for (const segment of options.clear()) deleteSegment(batch, keys, segment)
  writeAppliedOffset(batch, store, 0)
  await batch.commit()
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

interface Written {
  readonly batch: WriteBatch
  readonly added: ReadonlyMap<Segment, number>
  readonly next: number
}

async function write(
  options: RestoreBlocksOptions,
  { batch, added, next }: Written,
): Promise<void> {
  const { keys, keepBlocks, store } = options
  const chunks = new Map<Segment, ReturnType<typeof writeChunks>>()
  for (const [segment, count] of added) {
    const from = segment.applied
    chunks.set(segment, writeChunks(batch, keys, segment, { from, to: from + count }))
    if (!keepBlocks) continue
    for (const { id, bytes } of segment.blocks.slice(from)) {
      batch.put(keys.row('b', segment.startMs, id), bytes!)
    }
  }
  writeAppliedOffset(batch, store, next)
  await batch.commit()
  for (const [segment, count] of added) {
    segment.applied += count
    segment.chunks = chunks.get(segment)!
  }
}

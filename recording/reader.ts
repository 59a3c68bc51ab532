/**
 * Reads a recording (grammar in `format.ts`): by its index where it has one, otherwise by a scan
 * of its blocks, which ends at the first one that is not whole.
 */
import { MillraceError } from '../log/errors.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { recordingError } from './errors.ts'
import {
  type BlockEntry,
  blockBatches,
  blockSpans,
  checkOrder,
  checkSpans,
  Damage,
  decodeHeader,
  decodeIndex,
  FRAME_BYTES,
  frameBody,
  headerVersion,
  indexPosition,
  MAGIC,
  type RecordingHeader,
  readFrameHead,
  type Span,
  type SpanEnds,
  TRAILER_BYTES,
  VERSION,
} from './format.ts'
import { hasFrameIn } from './frame-search.ts'
import type { RecordingFile } from './port.ts'

/** Where a recording stops being readable. */
export interface DamagePlace {
  readonly position: number
  readonly reason: string
  /** It ends within a frame, as a recording does that was interrupted. */
  readonly isTorn: boolean
}

/** What a block holds of one partition, with its batches. */
export interface SpanData {
  readonly span: Span
  /** Of the block's frame. */
  readonly position: number
  /** The caller's own. */
  readonly bytes: Buffer
}

export interface Recording {
  readonly file: RecordingFile
  readonly header: RecordingHeader
  readonly blocks: readonly BlockEntry[]
  /** End of the last whole block. */
  readonly end: number
  /** Whether it was ended, with an index. */
  readonly isComplete: boolean
  readonly damage: DamagePlace | undefined
}

/**
 * Opens a recording. `scan` reads and checks all blocks also where there is an index. Rejects with
 * RECORDING_FOREIGN, RECORDING_VERSION, or RECORDING_DAMAGED when not even the header can be read.
 */
export async function openRecording(
  file: RecordingFile,
  { scan = false } = {},
): Promise<Recording> {
  const size = await file.size()
  const { header, end: start } = await readHeader(file, size)
  const indexAt = indexPosition(await file.read(Math.max(0, size - TRAILER_BYTES), TRAILER_BYTES))
  const index =
    indexAt === undefined ? undefined : await readIndex(file, size, { header, start, end: indexAt })
  if (index !== undefined && !scan) {
    return {
      file,
      header,
      blocks: index.blocks,
      end: index.end,
      isComplete: true,
      damage: undefined,
    }
  }
  const isEnded = indexAt !== undefined
  const scanned = await scanBlocks(file, { header, start, size: index?.end ?? size, isEnded })
  return { file, header, isComplete: index !== undefined, ...scanned }
}

async function readHeader(file: RecordingFile, size: number) {
  const { path } = file
  const foreign = (reason: string) => recordingError('RECORDING_FOREIGN', { path, reason })
  const damaged = (reason: string) =>
    recordingError('RECORDING_DAMAGED', { path, position: MAGIC.length, reason })
  if (size === 0) throw foreign('it is empty')
  const head = await file.read(0, MAGIC.length + FRAME_BYTES)
  if (!head.subarray(0, MAGIC.length).equals(MAGIC)) throw foreign('it does not begin as one')
  try {
    if (head.length < MAGIC.length + FRAME_BYTES) throw new Damage('its header is cut off')
    const { size: bodySize, kind } = readFrameHead(head.subarray(MAGIC.length))
    if (kind !== 'H') throw new Damage('it has no header')
    const end = MAGIC.length + FRAME_BYTES + bodySize
    if (end > size) throw new Damage('its header is cut off')
    const body = frameBody(await file.read(MAGIC.length, FRAME_BYTES + bodySize))
    const found = headerVersion(body)
    if (found !== VERSION) {
      throw recordingError('RECORDING_VERSION', { path, found, expected: VERSION })
    }
    return { header: decodeHeader(body), end }
  } catch (error) {
    if (error instanceof Damage) throw damaged(error.message)
    throw error
  }
}

interface Place {
  readonly header: RecordingHeader
  /** Of the first block. */
  readonly start: number
}

/** The index and where it begins; undefined where there is none that can be trusted. */
async function readIndex(
  file: RecordingFile,
  size: number,
  { header, start, end }: Place & { readonly end: number },
) {
  if (end < start || end + FRAME_BYTES + TRAILER_BYTES > size) return undefined
  try {
    const frame = await file.read(end, size - TRAILER_BYTES - end)
    const head = readFrameHead(frame)
    if (head.kind !== 'I' || FRAME_BYTES + head.size !== frame.length) return undefined
    const blocks = await decodeIndex(frameBody(frame))
    const ends: SpanEnds = new Map()
    let position = start
    for (const block of blocks) {
      if (block.position !== position) return undefined
      checkSpans(block.spans, header)
      checkOrder(block.spans, ends)
      position += FRAME_BYTES + block.size
    }
    return position === end ? { blocks, end } : undefined
  } catch (error) {
    if (error instanceof Damage) return undefined
    throw error
  }
}

interface Extent extends Place {
  /** Where the blocks end at the latest. */
  readonly size: number
  /** It has a trailer: no interruption cut it off. */
  readonly isEnded: boolean
}

async function scanBlocks(
  file: RecordingFile,
  { header, start, size, isEnded }: Extent,
): Promise<Pick<Recording, 'blocks' | 'end' | 'damage'>> {
  const blocks: BlockEntry[] = []
  const ends: SpanEnds = new Map()
  let position = start
  const damaged = (reason: string, isTorn: boolean) => ({
    blocks,
    end: position,
    damage: { position, reason, isTorn },
  })
  // A frame that reaches beyond the end was cut off, unless its size is what is wrong.
  const cutOff = async () => {
    const place = { header, from: position + 1, to: size }
    const isTorn = !isEnded && !(await hasFrameIn(file, place))
    return damaged(isTorn ? 'it ends within a frame' : 'the size of its frame is wrong', isTorn)
  }
  while (position < size) {
    const head = await file.read(position, FRAME_BYTES)
    try {
      if (head.length < FRAME_BYTES || position + FRAME_BYTES > size) return await cutOff()
      const { kind, size: bodySize } = readFrameHead(head)
      if (position + FRAME_BYTES + bodySize > size) return await cutOff()
      const body = frameBody(await file.read(position, FRAME_BYTES + bodySize))
      const left = size - position - FRAME_BYTES - bodySize
      // An index whose trailer is lost is no harm: the blocks are all there.
      if (kind === 'I' && left <= TRAILER_BYTES) return { blocks, end: position, damage: undefined }
      if (kind === 'I') throw new Damage('more follows its index')
      if (kind !== 'B') throw new Damage('a second header begins there')
      const spans = blockSpans(body)
      checkSpans(spans, header)
      checkOrder(spans, ends)
      blocks.push({ position, size: bodySize, spans })
      position += FRAME_BYTES + bodySize
    } catch (error) {
      if (error instanceof Damage) return damaged(error.message, false)
      throw error
    }
  }
  return { blocks, end: position, damage: undefined }
}

/** The batches of a block. Rejects with RECORDING_DAMAGED. */
export async function readBlock(
  { file, header }: Pick<Recording, 'file' | 'header'>,
  { position, size }: BlockEntry,
): Promise<readonly SpanData[]> {
  try {
    const frame = await file.read(position, FRAME_BYTES + size)
    if (frame.length < FRAME_BYTES + size) throw new Damage('the file ends there')
    const head = readFrameHead(frame)
    if (head.kind !== 'B' || head.size !== size) throw new Damage('its index leads astray')
    const body = frameBody(frame)
    const spans = blockSpans(body)
    checkSpans(spans, header)
    const batches = await blockBatches(body, spans)
    return spans.map((span, i) => ({ span, position, bytes: batches[i]! }))
  } catch (error) {
    if (!(error instanceof Damage)) throw error
    throw recordingError('RECORDING_DAMAGED', { path: file.path, position, reason: error.message })
  }
}

/** The records of a span, without those that its ends leave out. Throws RECORDING_DAMAGED. */
export function spanRecords(
  { file, header }: Pick<Recording, 'file' | 'header'>,
  { span, position, bytes }: SpanData,
): readonly RecordColumns[] {
  try {
    const { runs } = decodeBatches(bytes, { fromOffset: span.from })
    for (const run of runs) {
      while (run.length > 0 && run.offsets[run.length - 1]! >= span.to) run.length--
    }
    return runs.filter(run => run.length > 0)
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error
    const where = `${header.topics[span.topic]!.name}-${span.partition} offset ${span.from}`
    const reason = `${where}: ${error.message}`
    throw recordingError('RECORDING_DAMAGED', { path: file.path, position, reason })
  }
}

/** Where each partition's records end, by `topic/partition` of the header's topics. */
export function endOffsets(blocks: readonly BlockEntry[]): ReadonlyMap<string, number> {
  const ends = new Map<string, number>()
  for (const { spans } of blocks) {
    for (const { topic, partition, to } of spans) {
      const key = `${topic}/${partition}`
      ends.set(key, Math.max(ends.get(key) ?? 0, to))
    }
  }
  return ends
}

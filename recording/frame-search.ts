/**
 * Finds whole frames where none was expected: behind a frame that reaches beyond the end of the
 * file. An interruption leaves nothing there, a damaged size all that was written later.
 */
import {
  blockSpans,
  checkSpans,
  Damage,
  FRAME_BYTES,
  frameBody,
  type RecordingHeader,
  readFrameHead,
} from './format.ts'
import type { RecordingFile } from './port.ts'

export interface SearchPlace {
  readonly header: RecordingHeader
  /** Bytes `[from, to)` of the file. */
  readonly from: number
  readonly to: number
}

const WINDOW_BYTES = 1 << 20
/** Of a frame, what `isLikely` looks at. */
const LOOK_BYTES = 23
const KIND_AT = FRAME_BYTES - 1
const BLOCK = 0x42
const INDEX = 0x49
const ZSTD_MAGIC = 0xfd2fb528

export async function hasFrameIn(file: RecordingFile, place: SearchPlace): Promise<boolean> {
  const { from, to, header } = place
  for (let start = from; start + LOOK_BYTES <= to; start += WINDOW_BYTES) {
    const length = Math.min(WINDOW_BYTES + LOOK_BYTES - 1, to - start)
    const window = await file.read(start, length)
    for (let at = 0; at + LOOK_BYTES <= window.length; at++) {
      if (!isLikely(window, at, { header, room: to - start - at })) continue
      if (await isFrame(file, header, start + at)) return true
    }
  }
  return false
}

/** Leaves out nearly all places, at which reading a frame and its CRC would take long. */
function isLikely(
  bytes: Buffer,
  at: number,
  { header: { topics }, room }: { readonly header: RecordingHeader; readonly room: number },
): boolean {
  const kind = bytes[at + KIND_AT]
  if (kind !== BLOCK && kind !== INDEX) return false
  if (FRAME_BYTES + bytes.readUInt32BE(at + 4) > room) return false
  const body = at + FRAME_BYTES
  if (kind === INDEX) return bytes.readUInt32LE(body) === ZSTD_MAGIC
  const topic = topics[bytes.readUInt16BE(body + 8)]
  return topic !== undefined && bytes.readUInt32BE(body + 10) < topic.partitions
}

async function isFrame(
  file: RecordingFile,
  header: RecordingHeader,
  position: number,
): Promise<boolean> {
  try {
    const { kind, size } = readFrameHead(await file.read(position, FRAME_BYTES))
    const body = frameBody(await file.read(position, FRAME_BYTES + size))
    if (kind === 'B') checkSpans(blockSpans(body), header)
    return true
  } catch (error) {
    if (error instanceof Damage) return false
    throw error
  }
}

/**
 * The five codecs of a record batch, as Kafka's Java client reads and writes them. All calls
 * are synchronous; decompression never yields more than `DECOMPRESSED_BYTES_MAX`.
 *
 *     gzip     RFC 1952
 *     snappy   Xerial framing: 82 "SNAPPY" 00, version:int32 = 1, compatible:int32 = 1, then
 *              blocks of length:int32 and raw snappy (32 KiB each as written); raw snappy
 *              without framing is read too
 *     lz4      LZ4 frame, independent blocks
 *     zstd     RFC 8878
 */
import { createRequire } from 'node:module'
import zlib from 'node:zlib'
import { logError } from './errors.ts'
import { decompressSnappyBlock } from './snappy.ts'

export type Codec = 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd'

/** By the number that the attributes of a batch hold. */
export const CODECS: readonly Codec[] = ['none', 'gzip', 'snappy', 'lz4', 'zstd']

/** A batch that would grow beyond this is corrupt or hostile. */
export const DECOMPRESSED_BYTES_MAX = 64 * 1024 * 1024

const XERIAL_MAGIC = Buffer.from('82534e41505059', 'hex')
const XERIAL_HEADER_BYTES = 16
const XERIAL_BLOCK_BYTES = 32 * 1024
const LZ4_FRAME_MAGIC = 0x184d2204
const LZ4_BLOCK_BYTES = [0, 0, 0, 0, 64 << 10, 256 << 10, 1 << 20, 4 << 20]

interface Lz4 {
  compressFrameSync(data: Buffer): Buffer
  decompressFrameSync(data: Buffer): Buffer
}

interface Snappy {
  compress(data: Buffer): Buffer
}

const loaded = new Map<string, unknown>()

function load<T>(codec: Codec, name: string): T {
  let library = loaded.get(name)
  if (library === undefined) {
    try {
      library = createRequire(import.meta.url)(name)
    } catch (cause) {
      throw logError('COMPRESSION_MISSING', { codec, package: name }, { cause })
    }
    loaded.set(name, library)
  }
  return library as T
}

export function compress(codec: Codec, bytes: Buffer): Buffer {
  switch (codec) {
    case 'none':
      return bytes
    case 'gzip':
      return zlib.gzipSync(bytes)
    case 'snappy':
      return compressSnappy(bytes)
    case 'lz4':
      return load<Lz4>(codec, 'lz4-napi').compressFrameSync(bytes)
    case 'zstd':
      return zlib.zstdCompressSync(bytes)
  }
}

/** Throws whatever the codec throws on bad input; the caller adds where it was. */
export function decompress(codec: Codec, bytes: Buffer): Buffer {
  switch (codec) {
    case 'none':
      return bytes
    case 'gzip':
      return zlib.gunzipSync(bytes, { maxOutputLength: DECOMPRESSED_BYTES_MAX })
    case 'snappy':
      return decompressSnappy(bytes)
    case 'lz4':
      checkLz4Bound(bytes)
      return load<Lz4>(codec, 'lz4-napi').decompressFrameSync(bytes)
    case 'zstd':
      return zlib.zstdDecompressSync(bytes, { maxOutputLength: DECOMPRESSED_BYTES_MAX })
  }
}

function compressSnappy(bytes: Buffer): Buffer {
  const snappy = load<Snappy>('snappy', 'snappyjs')
  const header = Buffer.alloc(XERIAL_HEADER_BYTES)
  XERIAL_MAGIC.copy(header)
  header.writeInt32BE(1, 8)
  header.writeInt32BE(1, 12)
  const parts: Buffer[] = [header]
  for (let start = 0; start < bytes.length; start += XERIAL_BLOCK_BYTES) {
    const block = snappy.compress(bytes.subarray(start, start + XERIAL_BLOCK_BYTES))
    const length = Buffer.alloc(4)
    length.writeInt32BE(block.length, 0)
    parts.push(length, block)
  }
  return Buffer.concat(parts)
}

function decompressSnappy(bytes: Buffer): Buffer {
  const framed = bytes.length >= XERIAL_HEADER_BYTES && bytes.indexOf(XERIAL_MAGIC) === 0
  if (!framed) return decompressSnappyBlock(bytes, DECOMPRESSED_BYTES_MAX)
  const parts: Buffer[] = []
  let room = DECOMPRESSED_BYTES_MAX
  let position = XERIAL_HEADER_BYTES
  while (position < bytes.length) {
    if (position + 4 > bytes.length) throw new Error('snappy block without a length')
    const end = position + 4 + bytes.readInt32BE(position)
    if (end <= position + 4 || end > bytes.length) throw new Error('snappy block out of bounds')
    const part = decompressSnappyBlock(bytes.subarray(position + 4, end), room)
    parts.push(part)
    room -= part.length
    position = end
  }
  return parts.length === 1 ? parts[0] : Buffer.concat(parts)
}

/** The library has no bound of its own, so the frame's block lengths give one beforehand. */
function checkLz4Bound(bytes: Buffer): void {
  if (bytes.length < 7 || bytes.readUInt32LE(0) !== LZ4_FRAME_MAGIC) throw new Error('not LZ4')
  const flags = bytes[4]
  const blockBytes = LZ4_BLOCK_BYTES[(bytes[5] >>> 4) & 7]
  if (blockBytes === 0) throw new Error('LZ4 block size unknown')
  let position = 7 + (flags & 8 ? 8 : 0) + (flags & 1 ? 4 : 0)
  let total = 0
  while (position + 4 <= bytes.length) {
    const word = bytes.readUInt32LE(position)
    if (word === 0) return
    const length = word & 0x7fff_ffff
    total += Math.min(blockBytes, length * 255)
    if (total > DECOMPRESSED_BYTES_MAX) throw new Error('LZ4 frame decompresses to too much')
    position += 4 + length + (flags & 16 ? 4 : 0)
  }
  throw new Error('LZ4 frame has no end')
}

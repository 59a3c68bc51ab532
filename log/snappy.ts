/**
 * Raw snappy decompression with every length checked: the library that compresses loops for
 * ever on some hostile input.
 *
 *     block    = uncompressed-length:uvarint element*
 *     element  = tag & 3: 0 literal (length in the tag or in 1-4 bytes after it),
 *                1, 2, 3 copy with a 1-, 2- or 4-byte offset
 */

/** Decompresses one block of at most `bytesMax`; throws on anything snappy cannot have written. */
export function decompressSnappyBlock(block: Buffer, bytesMax: number): Buffer {
  let p = 0
  let length = 0
  for (let shift = 0; ; shift += 7) {
    const byte = block[p++]
    if (byte === undefined || shift > 28) throw new Error('snappy block has no length')
    length += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) break
  }
  // No element grows three bytes to more than 64, so a larger claim is false.
  if (length > Math.min(bytesMax, block.length * 64)) throw new Error('snappy block too large')
  const out = Buffer.allocUnsafe(length)
  const end = inflate(block, p, out)
  if (end !== length) throw new Error('snappy block shorter than it claims')
  return out
}

function inflate(block: Buffer, start: number, out: Buffer): number {
  let p = start
  let o = 0
  while (p < block.length) {
    const tag = block[p++]
    const kind = tag & 3
    if (kind === 0) {
      const extra = tag >>> 2 < 60 ? 0 : (tag >>> 2) - 59
      if (p + extra > block.length) throw new Error('snappy literal without a length')
      const length = (extra === 0 ? tag >>> 2 : block.readUIntLE(p, extra)) + 1
      p += extra
      if (p + length > block.length || o + length > out.length) {
        throw new Error('snappy literal out of bounds')
      }
      if (length < 16) for (let i = 0; i < length; i++) out[o + i] = block[p + i]
      else block.copy(out, o, p, p + length)
      p += length
      o += length
      continue
    }
    const bytes = kind === 3 ? 4 : kind
    if (p + bytes > block.length) throw new Error('snappy copy without an offset')
    const length = kind === 1 ? ((tag >>> 2) & 7) + 4 : (tag >>> 2) + 1
    const offset = kind === 1 ? ((tag >>> 5) << 8) | block[p] : block.readUIntLE(p, bytes)
    p += bytes
    if (offset === 0 || offset > o || o + length > out.length) {
      throw new Error('snappy copy out of bounds')
    }
    // Byte by byte, since a copy may overlap itself: that is how snappy repeats.
    for (let i = 0; i < length; i++) out[o + i] = out[o - offset + i]
    o += length
  }
  return o
}

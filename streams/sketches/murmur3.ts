/**
 * MurmurHash3_x86_128 (Austin Appleby, public domain): a 128-bit hash made of 32-bit
 * operations, which is what a JS engine does fast. The first 64 bits serve as a 64-bit hash.
 */

/** The first 64 bits of a hash, as two unsigned 32-bit halves. */
export interface Hash64 {
  high: number
  low: number
}

const c1 = 0x239b961b
const c2 = 0xab0e9789
const c3 = 0x38b34ae5
const c4 = 0xa1e38b93

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}

function scramble(word: number, first: number, bits: number, second: number): number {
  return Math.imul(rotate(Math.imul(word, first), bits), second)
}

function finish(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)
}

/** The up to four bytes of `bytes[at, end)` as a word, missing ones 0. */
function partialWordAt(bytes: Uint8Array, at: number, end: number): number {
  let word = 0
  for (let i = Math.min(at + 4, end) - 1; i >= at; i -= 1) word = (word << 8) | bytes[i]
  return word
}

/**
 * Hashes `bytes[start, end)` into `state`: four unsigned 32-bit words, in the order in which
 * the reference implementation writes them.
 */
export function murmur3x86128(
  bytes: Uint8Array,
  range: { readonly start: number; readonly end: number; readonly seed: number },
  state: Uint32Array,
): void {
  const { start, end, seed } = range
  let h1 = seed | 0
  let h2 = h1
  let h3 = h1
  let h4 = h1
  let at = start
  for (; at + 16 <= end; at += 16) {
    h1 ^= scramble(wordAt(bytes, at), c1, 15, c2)
    h1 = (Math.imul(rotate(h1, 19) + h2, 5) + 0x561ccd1b) | 0
    h2 ^= scramble(wordAt(bytes, at + 4), c2, 16, c3)
    h2 = (Math.imul(rotate(h2, 17) + h3, 5) + 0x0bcaa747) | 0
    h3 ^= scramble(wordAt(bytes, at + 8), c3, 17, c4)
    h3 = (Math.imul(rotate(h3, 15) + h4, 5) + 0x96cd1c35) | 0
    h4 ^= scramble(wordAt(bytes, at + 12), c4, 18, c1)
    h4 = (Math.imul(rotate(h4, 13) + h1, 5) + 0x32ac3b17) | 0
  }
  // A word without bytes is 0 and changes nothing.
  h4 ^= scramble(partialWordAt(bytes, at + 12, end), c4, 18, c1)
  h3 ^= scramble(partialWordAt(bytes, at + 8, end), c3, 17, c4)
  h2 ^= scramble(partialWordAt(bytes, at + 4, end), c2, 16, c3)
  h1 ^= scramble(partialWordAt(bytes, at, end), c1, 15, c2)
  const length = end - start
  h1 ^= length
  h2 ^= length
  h3 ^= length
  h4 ^= length
  h1 = (h1 + h2 + h3 + h4) | 0
  h2 = (h2 + h1) | 0
  h3 = (h3 + h1) | 0
  h4 = (h4 + h1) | 0
  h1 = finish(h1)
  h2 = finish(h2)
  h3 = finish(h3)
  h4 = finish(h4)
  h1 = (h1 + h2 + h3 + h4) | 0
  state[0] = h1
  state[1] = h2 + h1
  state[2] = h3 + h1
  state[3] = h4 + h1
}

const words = new Uint32Array(4)

/** The 64-bit hash of `bytes[start, end)` with seed 0, written into `hash`. */
export function hash64(bytes: Uint8Array, start: number, end: number, hash: Hash64): void {
  murmur3x86128(bytes, { start, end, seed: 0 }, words)
  hash.high = words[0]
  hash.low = words[1]
}

/** The 64-bit hash of a text's UTF-8 bytes. */
export function hash64OfText(text: string, hash: Hash64): void {
  const bytes = Buffer.from(text)
  hash64(bytes, 0, bytes.length, hash)
}

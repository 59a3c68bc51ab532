import { expect, test } from 'vitest'
import {
  type Hash64,
  hash64,
  hash64OfText,
  murmur3x86128,
} from '../../../streams/sketches/murmur3.ts'

/** The hash as the reference implementation writes it: four words, little-endian. */
function hashBytes(bytes: Uint8Array, seed: number): Buffer {
  const words = new Uint32Array(4)
  murmur3x86128(bytes, { start: 0, end: bytes.length, seed }, words)
  const written = Buffer.alloc(16)
  words.forEach((word, i) => {
    written.writeUInt32LE(word, 4 * i)
  })
  return written
}

test("SMHasher's verification value of MurmurHash3_x86_128 is 0xb3ece62a", () => {
  const key = Buffer.alloc(256)
  const hashes: Buffer[] = []
  for (let length = 0; length < 256; length += 1) {
    key[length] = length
    hashes.push(hashBytes(key.subarray(0, length), 256 - length))
  }
  expect(hashBytes(Buffer.concat(hashes), 0).readUInt32LE(0)).toBe(0xb3ece62a)
})

test('the hash of a range is that of the same bytes alone, and of the same text', () => {
  const whole: Hash64 = { high: 0, low: 0 }
  const part: Hash64 = { high: 0, low: 0 }
  const text: Hash64 = { high: 0, low: 0 }
  const around = Buffer.from('xx-customer-00042-yy')
  hash64(around, 3, 17, part)
  hash64(Buffer.from('customer-00042'), 0, 14, whole)
  hash64OfText('customer-00042', text)
  expect(part).toEqual(whole)
  expect(text).toEqual(whole)
})

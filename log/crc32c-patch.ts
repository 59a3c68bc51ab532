/**
 * CRC-32C of bytes of which a part has changed, without reading the others again.
 *
 * The CRC is linear over exclusive or: for messages of one length, crc(a) ^ crc(b) is the raw CRC
 * (register from 0, no inversion) of a ^ b. Zero bytes behind a difference multiply its raw CRC
 * by x^8 each, modulo the polynomial, which takes a step for every bit of their number.
 */

/** Bits reversed, as the register is: the highest bit is x^0. */
const POLYNOMIAL = 0x82f63b78
const ONE = 0x8000_0000

const byteTable = new Int32Array(256)
for (let byte = 0; byte < 256; byte++) {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
  byteTable[byte] = crc
}

/** Product of two polynomials modulo the CRC's. */
function multiply(a: number, b: number): number {
  let product = 0
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= b
    b = b & 1 ? (b >>> 1) ^ POLYNOMIAL : b >>> 1
  }
  return product
}

/** x^(8 * 2^k) for the bits k of a number of bytes. */
const powers = new Int32Array(32)
powers[0] = ONE >>> 8
for (let k = 1; k < powers.length; k++) powers[k] = multiply(powers[k - 1]!, powers[k - 1]!)

/** The register after these bytes, from 0 and without inversion. */
export function crc32cRaw(bytes: Uint8Array): number {
  let crc = 0
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ byteTable[(crc ^ bytes[i]!) & 255]!
  return crc >>> 0
}

/** The register after so many zero bytes more. */
export function crc32cAdvance(crc: number, zeroBytes: number): number {
  let advanced = crc
  for (let rest = zeroBytes, k = 0; rest > 0 && advanced !== 0; rest >>>= 1, k++) {
    if (rest & 1) advanced = multiply(powers[k]!, advanced)
  }
  return advanced >>> 0
}

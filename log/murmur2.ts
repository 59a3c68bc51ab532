/** Kafka's default partitioner: the Java client's murmur2 over the key bytes. */

const SEED = 0x9747b28c
const M = 0x5bd1e995

/** Java's `Utils.murmur2` over `bytes[start, end)`: a signed 32-bit integer. */
export function murmur2(bytes: Uint8Array, start = 0, end = bytes.length): number {
  const length = end - start
  let h = SEED ^ length
  let p = start
  for (const last = end - 3; p < last; p += 4) {
    let k = bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    h = Math.imul(h, M) ^ Math.imul(k, M)
  }
  const rest = end - p
  if (rest > 2) h ^= bytes[p + 2] << 16
  if (rest > 1) h ^= bytes[p + 1] << 8
  if (rest > 0) h = Math.imul(h ^ bytes[p], M)
  h = Math.imul(h ^ (h >>> 13), M)
  return h ^ (h >>> 15)
}

/** The partition that a Java producer gives a key: `toPositive(murmur2(key)) % partitions`. */
export function partitionOf(
  bytes: Uint8Array,
  start: number,
  end: number,
  partitions: number,
): number {
  return (murmur2(bytes, start, end) & 0x7fff_ffff) % partitions
}

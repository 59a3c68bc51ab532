/**
 * Quantiles within a relative error of 1 % (DDSketch, arXiv:1908.10693). A value falls into the
 * bucket of its logarithm; a quantile is the middle of the bucket that holds its rank. The state
 * depends only on the values, never on their order or on how sketches were merged.
 *
 * Each sign has at most 2048 buckets: enough for magnitudes from 1 to 10^17. When they do not
 * reach, the smallest magnitudes share the last one and lose precision, the large ones do not.
 *
 * Bytes, version 1:
 *
 *   sketch   := 0x01 zeros:varint positive:buckets negative:buckets [min:float64be max:float64be]
 *   buckets  := used:varint [ first:zigzag { gap:varint count:varint } ]   by index, ascending
 *   gap      := buckets since the last used one; 0 for the first
 *   varint   := seven bits a byte, low bits first, up to 2^53 - 1
 *
 * `min` and `max` are absent from an empty sketch.
 */
import { sketchError } from './errors.ts'

const version = 1
export const relativeError = 0.01
const gamma = (1 + relativeError) / (1 - relativeError)
const logGamma = Math.log(gamma)
const bucketsMax = 2048

/** Counts by bucket index; indexes below the window of the largest 2048 share its lowest. */
class Buckets {
  private counts = new Float64Array(0)
  /** Index of `counts[0]`. */
  private base = 0
  lowest = 0
  highest = -1
  total = 0

  get empty(): boolean {
    return this.total === 0
  }

  at(index: number): number {
    return this.counts[index - this.base]
  }

  add(index: number, count: number): void {
    if (this.empty) {
      this.counts = new Float64Array(64)
      this.base = index - 32
      this.lowest = index
      this.highest = index
    }
    const highest = Math.max(this.highest, index)
    const floor = highest - bucketsMax + 1
    const place = Math.max(index, floor)
    this.reach(Math.min(Math.max(this.lowest, floor), place), highest)
    this.counts[place - this.base] += count
    this.total += count
  }

  merge(other: Buckets): void {
    // From the top, so that the window is where it will end before anything small comes.
    for (let index = other.highest; index >= other.lowest; index -= 1) {
      const count = other.at(index)
      if (count > 0) this.add(index, count)
    }
  }

  clone(): Buckets {
    const copy = new Buckets()
    copy.counts = this.counts.slice()
    copy.base = this.base
    copy.lowest = this.lowest
    copy.highest = this.highest
    copy.total = this.total
    return copy
  }

  /** Makes `[lowest, highest]` the window, collecting what lies below it in its lowest bucket. */
  private reach(lowest: number, highest: number): void {
    if (lowest < this.base || highest >= this.base + this.counts.length) {
      const base = lowest - 32
      const larger = new Float64Array(highest + 33 - base)
      for (let index = this.lowest; index <= this.highest; index += 1) {
        larger[Math.max(index, lowest) - base] += this.at(index)
      }
      this.counts = larger
      this.base = base
    } else {
      for (let index = this.lowest; index < lowest; index += 1) {
        this.counts[lowest - this.base] += this.at(index)
        this.counts[index - this.base] = 0
      }
    }
    this.lowest = lowest
    this.highest = highest
  }
}

export class DDSketch {
  private zeros = 0
  private positive = new Buckets()
  private negative = new Buckets()
  private smallest = Number.POSITIVE_INFINITY
  private largest = Number.NEGATIVE_INFINITY

  /** Values seen. */
  get count(): number {
    return this.zeros + this.positive.total + this.negative.total
  }

  /** Smallest value seen, exactly; Infinity when there is none. */
  get min(): number {
    return this.smallest
  }

  /** Largest value seen, exactly; -Infinity when there is none. */
  get max(): number {
    return this.largest
  }

  /** Adds a finite number, so many times. */
  add(value: number, times = 1): void {
    if (!Number.isFinite(value)) throw new TypeError(`${value} is not finite: it has no quantile`)
    if (value > 0) this.positive.add(bucketOf(value), times)
    else if (value < 0) this.negative.add(bucketOf(-value), times)
    else this.zeros += times
    // `+ 0` turns -0 into 0: equal numbers must have equal bytes.
    if (value < this.smallest) this.smallest = value + 0
    if (value > this.largest) this.largest = value + 0
  }

  /**
   * The value of rank ⌊share × (count - 1)⌋ within 1 %: `quantile(0.5)` is the (lower) median.
   * Undefined when empty.
   */
  quantile(share: number): number | undefined {
    if (!(share >= 0 && share <= 1))
      throw new TypeError(`a quantile is a share of 0 to 1: ${share}`)
    const { count } = this
    if (count === 0) return undefined
    const value = this.valueOfRank(Math.floor(share * (count - 1)))
    return Math.min(Math.max(value, this.smallest), this.largest)
  }

  /** Adds all that `other` has seen. */
  merge(other: DDSketch): void {
    this.zeros += other.zeros
    this.positive.merge(other.positive)
    this.negative.merge(other.negative)
    this.smallest = Math.min(this.smallest, other.smallest)
    this.largest = Math.max(this.largest, other.largest)
  }

  /** A copy that may be added to without changing this one. */
  clone(): DDSketch {
    const copy = new DDSketch()
    copy.zeros = this.zeros
    copy.positive = this.positive.clone()
    copy.negative = this.negative.clone()
    copy.smallest = this.smallest
    copy.largest = this.largest
    return copy
  }

  toBytes(): Buffer {
    const bytes: number[] = [version]
    pushVarint(bytes, this.zeros)
    pushBuckets(bytes, this.positive)
    pushBuckets(bytes, this.negative)
    if (this.count === 0) return Buffer.from(bytes)
    const bounds = Buffer.allocUnsafe(16)
    bounds.writeDoubleBE(this.smallest, 0)
    bounds.writeDoubleBE(this.largest, 8)
    return Buffer.concat([Buffer.from(bytes), bounds])
  }

  /** Throws SKETCH_CORRUPT on bytes that `toBytes` cannot have written. */
  static fromBytes(bytes: Buffer): DDSketch {
    if (bytes[0] !== version) throw corrupt('wrong version')
    const reader = { bytes, position: 1 }
    const sketch = new DDSketch()
    sketch.zeros = readVarint(reader)
    readBuckets(reader, sketch.positive)
    readBuckets(reader, sketch.negative)
    const boundsBytes = sketch.count === 0 ? 0 : 16
    if (bytes.length !== reader.position + boundsBytes) throw corrupt('wrong length')
    if (boundsBytes === 0) return sketch
    sketch.smallest = bytes.readDoubleBE(reader.position)
    sketch.largest = bytes.readDoubleBE(reader.position + 8)
    if (!(sketch.smallest <= sketch.largest)) throw corrupt('wrong bounds')
    return sketch
  }

  private valueOfRank(rank: number): number {
    const { negative, positive } = this
    let left = rank
    if (left < negative.total) {
      for (let index = negative.highest; index >= negative.lowest; index -= 1) {
        left -= negative.at(index)
        if (left < 0) return -middleOf(index)
      }
    }
    left -= negative.total + this.zeros
    if (rank < negative.total + this.zeros) return 0
    for (let index = positive.lowest; index <= positive.highest; index += 1) {
      left -= positive.at(index)
      if (left < 0) return middleOf(index)
    }
    return this.largest
  }
}

/** Bucket i holds (γ^(i-1), γ^i]. */
function bucketOf(magnitude: number): number {
  return Math.ceil(Math.log(magnitude) / logGamma)
}

/** The value with the same relative distance to both ends of the bucket. */
function middleOf(index: number): number {
  return (2 * gamma ** index) / (1 + gamma)
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value
  while (rest >= 128) {
    bytes.push((rest % 128) | 128)
    rest = Math.floor(rest / 128)
  }
  bytes.push(rest)
}

function pushBuckets(bytes: number[], buckets: Buckets): void {
  const used: number[] = []
  for (let index = buckets.lowest; index <= buckets.highest; index += 1) {
    if (buckets.at(index) > 0) used.push(index)
  }
  pushVarint(bytes, used.length)
  if (used.length === 0) return
  let last = used[0]
  pushVarint(bytes, last < 0 ? -2 * last - 1 : 2 * last)
  for (const index of used) {
    pushVarint(bytes, index - last)
    pushVarint(bytes, buckets.at(index))
    last = index
  }
}

interface ByteReader {
  readonly bytes: Buffer
  position: number
}

function readVarint(reader: ByteReader): number {
  let value = 0
  for (let factor = 1; factor < 2 ** 53; factor *= 128) {
    if (reader.position >= reader.bytes.length) throw corrupt('it ends too early')
    const byte = reader.bytes[reader.position++]
    value += (byte & 127) * factor
    if (byte < 128) {
      if (!Number.isSafeInteger(value)) break
      return value
    }
  }
  throw corrupt('a number over 2^53 - 1')
}

/** Larger than the bucket of any double. */
const indexMax = 2 ** 17

function readBuckets(reader: ByteReader, buckets: Buckets): void {
  const used = readVarint(reader)
  if (used > bucketsMax) throw corrupt(`${used} buckets`)
  if (used === 0) return
  const zigzag = readVarint(reader)
  let index = zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2
  const entries: (readonly [number, number])[] = []
  for (let i = 0; i < used; i += 1) {
    const gap = readVarint(reader)
    const count = readVarint(reader)
    index += gap
    if (i > 0 !== gap > 0 || count === 0) throw corrupt('buckets out of order')
    if (Math.abs(index) > indexMax) throw corrupt(`bucket ${index}`)
    entries.push([index, count])
  }
  if (index - entries[0][0] >= bucketsMax) throw corrupt('buckets too far apart')
  for (const [at, count] of entries) buckets.add(at, count)
}

function corrupt(reason: string): Error {
  return sketchError('SKETCH_CORRUPT', { sketch: 'DDSketch', reason })
}

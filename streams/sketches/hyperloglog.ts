/**
 * Counts distinct things by their 64-bit hashes: exactly up to 256, then by HyperLogLog with
 * 2^14 registers, standard error 0.8 %. The state, and so its bytes, depends only on the set
 * of hashes, never on their order or on how sketches were merged.
 *
 * Bytes, version 1:
 *
 *   sketch    := 0x01 (exact | sparse | dense)
 *   exact     := 0x00 count:uint16be { high:uint32be low:uint32be }   hashes, ascending
 *   sparse    := 0x01 count:uint16be { index:14 bits rank:10 bits }   non-zero registers, ascending
 *   dense     := 0x02 12288 bytes: 16384 registers of 6 bits, first in the high bits
 *
 * `sparse` is written where it is smaller than `dense`.
 */
import { sketchError } from './errors.ts'
import { type Hash64, hash64 } from './murmur3.ts'

const version = 1
const exactMax = 256
const precision = 14
const registerCount = 2 ** precision
/** Hash bits after the register's index. */
const rankBits = 64 - precision
const rankMax = rankBits + 1
const sparseMax = (registerCount * 6) / 8 / 3
const denseBytes = (registerCount * 6) / 8
const kinds = { exact: 0, sparse: 1, dense: 2 } as const

export class HyperLogLog {
  /** Pairs (high, low) in ascending order; unused once there are registers. */
  private hashes = new Uint32Array(8)
  private size = 0
  private registers: Uint8Array | undefined
  private estimated = -1

  /** Adds a 64-bit hash, given as unsigned halves. Returns whether the state changed. */
  add(high: number, low: number): boolean {
    const changed =
      this.registers === undefined
        ? this.addExact(high >>> 0, low >>> 0)
        : raise(this.registers, high, low)
    if (changed) this.estimated = -1
    return changed
  }

  /** Adds the hash of `bytes[start, end)`. Returns whether the state changed. */
  addBytes(bytes: Uint8Array, start = 0, end = bytes.length): boolean {
    hash64(bytes, start, end, scratch)
    return this.add(scratch.high, scratch.low)
  }

  /** Distinct hashes, an integer: exact up to 256. */
  count(): number {
    if (this.registers === undefined) return this.size
    if (this.estimated < 0) this.estimated = Math.round(estimate(this.registers))
    return this.estimated
  }

  /** Adds all that `other` has seen. */
  merge(other: HyperLogLog): void {
    if (other.registers === undefined) {
      for (let i = 0; i < other.size; i += 1) {
        this.add(other.hashes[2 * i], other.hashes[2 * i + 1])
      }
      return
    }
    const mine = this.toRegisters()
    for (let i = 0; i < registerCount; i += 1) {
      if (other.registers[i] > mine[i]) mine[i] = other.registers[i]
    }
    this.estimated = -1
  }

  /** A copy that may be added to without changing this one. */
  clone(): HyperLogLog {
    const copy = new HyperLogLog()
    copy.hashes = this.hashes.slice()
    copy.size = this.size
    copy.registers = this.registers?.slice()
    copy.estimated = this.estimated
    return copy
  }

  toBytes(): Buffer {
    if (this.registers === undefined) return exactBytes(this.hashes, this.size)
    const used = registerCount - zeros(this.registers)
    return used < sparseMax ? sparseBytes(this.registers, used) : packedBytes(this.registers)
  }

  /** Throws SKETCH_CORRUPT on bytes that `toBytes` cannot have written. */
  static fromBytes(bytes: Buffer): HyperLogLog {
    if (bytes.length < 4 || bytes[0] !== version) throw corrupt('wrong version')
    const sketch = new HyperLogLog()
    if (bytes[1] === kinds.exact) sketch.readExact(bytes)
    else sketch.registers = readRegisters(bytes)
    return sketch
  }

  private addExact(high: number, low: number): boolean {
    const { hashes, size } = this
    let from = 0
    let to = size
    while (from < to) {
      const middle = (from + to) >>> 1
      const order = hashes[2 * middle] - high || hashes[2 * middle + 1] - low
      if (order === 0) return false
      if (order < 0) from = middle + 1
      else to = middle
    }
    if (size === exactMax) {
      raise(this.toRegisters(), high, low)
      return true
    }
    this.insert(from, high, low)
    return true
  }

  private insert(place: number, high: number, low: number): void {
    if (2 * this.size === this.hashes.length) {
      const larger = new Uint32Array(this.hashes.length * 2)
      larger.set(this.hashes)
      this.hashes = larger
    }
    this.hashes.copyWithin(2 * place + 2, 2 * place, 2 * this.size)
    this.hashes[2 * place] = high
    this.hashes[2 * place + 1] = low
    this.size += 1
  }

  private toRegisters(): Uint8Array {
    if (this.registers !== undefined) return this.registers
    const registers = new Uint8Array(registerCount)
    for (let i = 0; i < this.size; i += 1) {
      raise(registers, this.hashes[2 * i], this.hashes[2 * i + 1])
    }
    this.registers = registers
    this.hashes = new Uint32Array(0)
    this.size = 0
    return registers
  }

  private readExact(bytes: Buffer): void {
    const size = bytes.readUInt16BE(2)
    if (size > exactMax || bytes.length !== 4 + 8 * size) throw corrupt('wrong length')
    this.hashes = new Uint32Array(Math.max(8, 2 * size))
    for (let i = 0; i < 2 * size; i += 1) this.hashes[i] = bytes.readUInt32BE(4 + 4 * i)
    this.size = size
    for (let i = 1; i < size; i += 1) {
      const { hashes } = this
      const step = hashes[2 * i] - hashes[2 * i - 2] || hashes[2 * i + 1] - hashes[2 * i - 1]
      if (step <= 0) throw corrupt('hashes out of order')
    }
  }
}

const scratch: Hash64 = { high: 0, low: 0 }

/** Raises the hash's register to its rank; whether it was lower. */
function raise(registers: Uint8Array, high: number, low: number): boolean {
  const index = high >>> (32 - precision)
  // The index bits shifted out, a rank counts the zeros before the first one bit.
  const rest = high << precision
  const rank = rest !== 0 ? Math.clz32(rest) + 1 : 32 - precision + Math.clz32(low) + 1
  if (registers[index] >= rank) return false
  registers[index] = rank
  return true
}

/** Ertl's improved estimator (arXiv:1702.01284, algorithm 6): no bias at any size. */
function estimate(registers: Uint8Array): number {
  const histogram = new Float64Array(rankMax + 1)
  for (let i = 0; i < registerCount; i += 1) histogram[registers[i]] += 1
  let z = registerCount * tau(1 - histogram[rankMax] / registerCount)
  for (let rank = rankBits; rank >= 1; rank -= 1) z = 0.5 * (z + histogram[rank])
  z += registerCount * sigma(histogram[0] / registerCount)
  return registerCount ** 2 / (2 * Math.LN2 * z)
}

function sigma(share: number): number {
  if (share === 1) return Number.POSITIVE_INFINITY
  let x = share
  let y = 1
  let z = x
  for (let before = -1; z !== before; ) {
    x *= x
    before = z
    z += x * y
    y += y
  }
  return z
}

function tau(share: number): number {
  if (share === 0 || share === 1) return 0
  let x = share
  let y = 1
  let z = 1 - x
  for (let before = -1; z !== before; ) {
    x = Math.sqrt(x)
    before = z
    y *= 0.5
    z -= (1 - x) ** 2 * y
  }
  return z / 3
}

function zeros(registers: Uint8Array): number {
  let count = 0
  for (let i = 0; i < registerCount; i += 1) if (registers[i] === 0) count += 1
  return count
}

function exactBytes(hashes: Uint32Array, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(4 + 8 * size)
  bytes[0] = version
  bytes[1] = kinds.exact
  bytes.writeUInt16BE(size, 2)
  for (let i = 0; i < 2 * size; i += 1) bytes.writeUInt32BE(hashes[i], 4 + 4 * i)
  return bytes
}

function sparseBytes(registers: Uint8Array, used: number): Buffer {
  const bytes = Buffer.allocUnsafe(4 + 3 * used)
  bytes[0] = version
  bytes[1] = kinds.sparse
  let at = bytes.writeUInt16BE(used, 2)
  for (let i = 0; i < registerCount; i += 1) {
    if (registers[i] !== 0) at = bytes.writeUIntBE(i * 1024 + registers[i], at, 3)
  }
  return bytes
}

function packedBytes(registers: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(2 + denseBytes)
  bytes[0] = version
  bytes[1] = kinds.dense
  for (let i = 0, at = 2; i < registerCount; i += 4, at += 3) {
    const word =
      (registers[i] << 18) | (registers[i + 1] << 12) | (registers[i + 2] << 6) | registers[i + 3]
    bytes[at] = word >>> 16
    bytes[at + 1] = word >>> 8
    bytes[at + 2] = word
  }
  return bytes
}

function readRegisters(bytes: Buffer): Uint8Array {
  const registers = new Uint8Array(registerCount)
  if (bytes[1] === kinds.sparse) readSparse(bytes, registers)
  else if (bytes[1] === kinds.dense) readDense(bytes, registers)
  else throw corrupt(`kind ${bytes[1]}`)
  if (registers.some(rank => rank > rankMax)) throw corrupt(`a rank over ${rankMax}`)
  return registers
}

function readSparse(bytes: Buffer, registers: Uint8Array): void {
  const used = bytes.readUInt16BE(2)
  if (used >= sparseMax || bytes.length !== 4 + 3 * used) throw corrupt('wrong length')
  let last = -1
  for (let i = 0; i < used; i += 1) {
    const entry = bytes.readUIntBE(4 + 3 * i, 3)
    const index = entry >>> 10
    if (index <= last || (entry & 1023) === 0) throw corrupt('registers out of order')
    if ((entry & 1023) > rankMax) throw corrupt(`a rank over ${rankMax}`)
    registers[index] = entry & 1023
    last = index
  }
}

function readDense(bytes: Buffer, registers: Uint8Array): void {
  if (bytes.length !== 2 + denseBytes) throw corrupt('wrong length')
  for (let i = 0, at = 2; i < registerCount; i += 4, at += 3) {
    const word = bytes.readUIntBE(at, 3)
    registers[i] = word >>> 18
    registers[i + 1] = (word >>> 12) & 63
    registers[i + 2] = (word >>> 6) & 63
    registers[i + 3] = word & 63
  }
}

function corrupt(reason: string): Error {
  return sketchError('SKETCH_CORRUPT', { sketch: 'HyperLogLog', reason })
}

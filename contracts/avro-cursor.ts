/**
 * Reads Avro's primitives from a range of a larger Buffer. Every read is bounded by the range,
 * whatever the bytes say, and nothing is allocated on the word of a length prefix.
 */
import { isUtf8 } from 'node:buffer'
import { ContractError } from './errors.ts'

const internSlots = 2048
const internBytesMax = 24
/** Below this a loop in JS beats the call into native code. */
const loopBytesMax = 32

/** Buffer's own decoders: `toString` ends in them, after looking the encoding up. */
interface TextBuffer extends Buffer {
  latin1Slice(start: number, end: number): string
  utf8Slice(start: number, end: number): string
}

export class AvroCursor {
  private bytes = Buffer.alloc(0) as Buffer as TextBuffer
  private position = 0
  private end = 0
  /** Direct-mapped: one string a slot, so memory is bounded whatever the input. */
  private readonly interned: (string | undefined)[] = new Array(internSlots).fill(undefined)

  /** Starts reading at `start`; nothing at or after `end` is touched. */
  open(bytes: Buffer, start: number, end: number): void {
    if (!(start >= 0 && start <= end && end <= bytes.length)) {
      throw new ContractError('EVENT_FRAME', `bytes ${start} to ${end} of ${bytes.length}`)
    }
    this.bytes = bytes as TextBuffer
    this.position = start
    this.end = end
  }

  get left(): number {
    return this.end - this.position
  }

  boolean(): boolean {
    if (this.position >= this.end) throw truncated(1, 0)
    const byte = this.bytes[this.position++]
    if (byte > 1) throw new ContractError('EVENT_NUMBER', `a boolean of ${byte}`)
    return byte === 1
  }

  int(): number {
    const value = this.long()
    if (value !== (value | 0)) throw new ContractError('EVENT_NUMBER', `${value} is not an int`)
    return value
  }

  /** A zigzag varint; EVENT_NUMBER beyond ±(2^53 - 1). */
  long(): number {
    const { bytes, end } = this
    let position = this.position
    if (position >= end) throw truncated(1, 0)
    let byte = bytes[position++]
    let low = byte & 0x7f
    let shift = 7
    while (byte >= 128 && shift < 28) {
      if (position >= end) throw truncated(1, 0)
      byte = bytes[position++]
      low |= (byte & 0x7f) << shift
      shift += 7
    }
    this.position = position
    if (byte >= 128) return this.wideLong(low)
    return (low >>> 1) ^ -(low & 1)
  }

  /** The rest of a varint whose first 28 bits are `low`. */
  private wideLong(low: number): number {
    // Halved from the start: twice 2^53 - 1, as zigzag has it, is not exact in a double.
    let half = low >>> 1
    let factor = 2 ** 27
    for (let more = 0; more < 6; more += 1) {
      if (this.position >= this.end) throw truncated(1, 0)
      const byte = this.bytes[this.position++]
      half += (byte & 0x7f) * factor
      factor *= 128
      if (byte < 128) {
        const value = low & 1 ? -half - 1 : half
        if (Number.isSafeInteger(value)) return value
        throw new ContractError('EVENT_NUMBER', 'an integer beyond 2^53 - 1')
      }
    }
    throw new ContractError('EVENT_NUMBER', 'an integer of more than 10 bytes')
  }

  float(): number {
    return this.finite(this.bytes.readFloatLE(this.take(4)))
  }

  double(): number {
    return this.finite(this.bytes.readDoubleLE(this.take(8)))
  }

  string(): string {
    const start = this.text()
    const end = this.position
    if (end - start >= loopBytesMax) return this.longString(start, end)
    const { bytes } = this
    let bits = 0
    for (let at = start; at < end; at += 1) bits |= bytes[at]
    return bits < 128 ? bytes.latin1Slice(start, end) : this.longString(start, end)
  }

  /** As `string`, for fields with few distinct values: equal texts share one string. */
  internedString(): string {
    const start = this.text()
    const end = this.position
    const length = end - start
    if (length > internBytesMax) return this.longString(start, end)
    const { bytes } = this
    let hash = length
    for (let at = start; at < end; at += 1) hash = Math.imul(hash ^ bytes[at], 0x01000193)
    const slot = (hash ^ (hash >>> 15)) & (internSlots - 1)
    const known = this.interned[slot]
    if (known !== undefined && known.length === length) {
      let same = 0
      while (same < length && known.charCodeAt(same) === bytes[start + same]) same += 1
      if (same === length) return known
    }
    const text = this.longString(start, end)
    // One unit a byte means ASCII, which is what the comparison above relies on.
    if (text.length === length) this.interned[slot] = text
    return text
  }

  /** Passes over a string, checking it as `string` does. */
  skipString(): void {
    const start = this.text()
    const end = this.position
    const { bytes } = this
    let bits = 0
    for (let at = start; at < end && bits < 128; at += 1) bits |= bytes[at]
    if (bits >= 128) this.checkText(start, end)
  }

  /**
   * Items in the next block of an array, 0 at its end. Every item takes at least a byte, so a
   * larger count than bytes left is refused at once.
   */
  blockItems(): number {
    let items = this.long()
    if (items < 0) {
      items = -items
      const size = this.long()
      if (size < 0 || size > this.left) throw impossible(`a block of ${size} bytes`, this.left)
    }
    if (items > this.left) throw impossible(`${items} items`, this.left)
    return items
  }

  /** An index below `count`: a union's branch or an enum's symbol. */
  index(count: number): number {
    const index = this.long()
    if (index >= 0 && index < count) return index
    throw new ContractError('EVENT_LENGTH', `index ${index} of ${count}`)
  }

  private text(): number {
    const length = this.long()
    const start = this.position
    if (length < 0) throw impossible(`a text of ${length} bytes`, this.end - start)
    if (length > this.end - start) throw truncated(length, this.end - start)
    this.position = start + length
    return start
  }

  private longString(start: number, end: number): string {
    const text = this.bytes.utf8Slice(start, end)
    // Invalid bytes decode to U+FFFD; so does a valid U+FFFD, hence the second look.
    if (text.includes('\ufffd')) this.checkText(start, end)
    return text
  }

  private checkText(start: number, end: number): void {
    if (isUtf8(this.bytes.subarray(start, end))) return
    throw new ContractError('EVENT_TEXT', `${end - start} bytes`)
  }

  private take(size: number): number {
    const start = this.position
    if (size > this.end - start) throw truncated(size, this.end - start)
    this.position = start + size
    return start
  }

  private finite(value: number): number {
    if (Number.isFinite(value)) return value
    throw new ContractError('EVENT_NUMBER', `${value} is not a finite number`)
  }
}

function truncated(wanted: number, left: number): ContractError {
  return new ContractError('EVENT_TRUNCATED', `${wanted} bytes wanted, ${left} left`)
}

function impossible(what: string, left: number): ContractError {
  return new ContractError('EVENT_LENGTH', `${what}, ${left} bytes left`)
}

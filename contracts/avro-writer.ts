/**
 * Compiles an Avro schema into a writer that checks each value as it writes it: EVENT_VALUE
 * names the field and what it expected.
 */
import {
  type AvroRecord,
  type AvroType,
  isArray,
  isEnum,
  isRecord,
  isUnion,
  nameOf,
} from './avro-schema.ts'
import { ContractError, inField } from './errors.ts'

export type AvroWrite = (sink: AvroSink, value: unknown) => void

/** So short that its length takes one byte. */
const shortMax = 32

/** A growing byte buffer; `reset` keeps its memory. */
export class AvroSink {
  private bytes = Buffer.allocUnsafe(4096)
  private length = 0

  reset(): void {
    this.length = 0
  }

  /** A copy of what was written. */
  copy(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.length))
  }

  byte(value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  /** Big-endian: for the frame, not for Avro. */
  uint32(value: number): void {
    this.reserve(4)
    this.length = this.bytes.writeUInt32BE(value, this.length)
  }

  /** A zigzag varint of a safe integer. */
  long(value: number): void {
    this.reserve(10)
    const { bytes } = this
    if (value < 0x4000_0000 && value >= -0x4000_0000) {
      let zigzag = (value << 1) ^ (value >> 31)
      while (zigzag > 127) {
        bytes[this.length++] = zigzag | 0x80
        zigzag >>>= 7
      }
      bytes[this.length++] = zigzag
      return
    }
    // Twice 2^53 - 1 is not exact in a double, so the sign bit joins the first seven bits only.
    const sign = value < 0 ? 1 : 0
    let half = sign === 1 ? -value - 1 : value
    let byte = ((half % 64) << 1) | sign
    half = Math.floor(half / 64)
    while (half > 0) {
      bytes[this.length++] = byte | 0x80
      byte = half % 128
      half = Math.floor(half / 128)
    }
    bytes[this.length++] = byte
  }

  double(value: number): void {
    this.reserve(8)
    this.length = this.bytes.writeDoubleLE(value, this.length)
  }

  float(value: number): void {
    this.reserve(4)
    this.length = this.bytes.writeFloatLE(value, this.length)
  }

  string(value: string): void {
    if (this.shortAscii(value)) return
    const size = Buffer.byteLength(value)
    this.long(size)
    this.reserve(size)
    this.length += this.bytes.write(value, this.length)
  }

  /** Writes a short ASCII text, which a loop does faster than a call; otherwise nothing. */
  private shortAscii(value: string): boolean {
    const size = value.length
    if (size >= shortMax) return false
    this.reserve(size + 1)
    const { bytes, length } = this
    for (let at = 0; at < size; at += 1) {
      const unit = value.charCodeAt(at)
      if (unit > 127) return false
      bytes[length + 1 + at] = unit
    }
    bytes[length] = size << 1
    this.length = length + 1 + size
    return true
  }

  private reserve(size: number): void {
    if (this.length + size <= this.bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + size))
    this.bytes.copy(larger, 0, 0, this.length)
    this.bytes = larger
  }
}

export function compileWriter(type: AvroType): AvroWrite {
  if (isUnion(type)) return unionWriter(type)
  if (isArray(type)) return arrayWriter(compileWriter(type.items))
  if (isRecord(type)) return recordWriter(type)
  if (isEnum(type)) {
    const { symbols } = type
    return (sink, value) => {
      const index = symbols.indexOf(String(value))
      if (index < 0) throw wrong(`one of ${symbols.join(', ')}`, value)
      sink.long(index)
    }
  }
  return primitiveWriter(nameOf(type))
}

function recordWriter(type: AvroRecord): AvroWrite {
  const names = type.fields.map(field => field.name)
  const writes = type.fields.map(field => compileWriter(field.type))
  return (sink, value) => {
    if (typeof value !== 'object' || value === null) throw wrong('an object', value)
    const row = value as Readonly<Record<string, unknown>>
    let at = 0
    try {
      for (; at < writes.length; at += 1) writes[at](sink, row[names[at]])
    } catch (error) {
      throw inField(error, names[at])
    }
  }
}

function arrayWriter(writeItem: AvroWrite): AvroWrite {
  return (sink, value) => {
    if (!Array.isArray(value)) throw wrong('an array', value)
    let at = 0
    try {
      if (value.length > 0) sink.long(value.length)
      for (; at < value.length; at += 1) writeItem(sink, value[at])
    } catch (error) {
      throw inField(error, `[${at}]`)
    }
    sink.byte(0)
  }
}

/** Unions are for optional fields: `null` and one other type. */
function unionWriter(branches: readonly AvroType[]): AvroWrite {
  const nullIndex = branches.findIndex(branch => nameOf(branch) === 'null')
  if (branches.length !== 2 || nullIndex < 0) {
    throw new ContractError('SCHEMA_UNSUPPORTED', `writing ${nameOf(branches)}`)
  }
  const write = compileWriter(branches[1 - nullIndex])
  return (sink, value) => {
    const isNull = value === null || value === undefined
    sink.long(isNull ? nullIndex : 1 - nullIndex)
    if (!isNull) write(sink, value)
  }
}

function primitiveWriter(name: string): AvroWrite {
  switch (name) {
    case 'string':
      return (sink, value) => {
        // A lone surrogate has no UTF-8: it would be written as something else.
        if (typeof value !== 'string' || !value.isWellFormed()) throw wrong('a text', value)
        sink.string(value)
      }
    case 'long':
      return (sink, value) => {
        if (!Number.isSafeInteger(value)) throw wrong('an integer up to 2^53 - 1', value)
        sink.long(value as number)
      }
    case 'int':
      return (sink, value) => {
        if (typeof value !== 'number' || value !== (value | 0))
          throw wrong('a 32-bit integer', value)
        sink.long(value)
      }
    case 'double':
    case 'float':
      return (sink, value) => {
        if (!Number.isFinite(value)) throw wrong('a finite number', value)
        if (name === 'double') sink.double(value as number)
        else sink.float(value as number)
      }
    case 'boolean':
      return (sink, value) => {
        if (typeof value !== 'boolean') throw wrong('a boolean', value)
        sink.byte(value ? 1 : 0)
      }
    case 'null':
      return (_, value) => {
        if (value !== null) throw wrong('null', value)
      }
    default:
      throw new ContractError('SCHEMA_UNSUPPORTED', `type ${name}`)
  }
}

function wrong(expected: string, value: unknown): ContractError {
  return new ContractError('EVENT_VALUE', `expected ${expected}, got ${shown(value)}`)
}

const shownCharactersMax = 60

/** A value for an error text: short, whatever was sent. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value !== 'string') return String(value)
  const quoted = JSON.stringify(value.slice(0, shownCharactersMax))
  return value.length > shownCharactersMax ? `${quoted.slice(0, -1)}…"` : quoted
}

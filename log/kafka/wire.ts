/**
 * Codecs of Kafka's flexible message versions, over the client library's connection.
 *
 * The library's own Writer and Reader walk a list of chunks from its start at every access, and
 * its parsers throw on an error code, with a table that ends at 127. These keep a position and
 * leave codes to the caller. Integers are big-endian; int64 are numbers, safe to 2^53, or bigints
 * where an id may use all bits.
 */
import { createAPI, type Reader, Writer } from '@platformatic/kafka'
import { assert } from '../errors.ts'

/** A request and the reading of its answer; made by `defineApi` or one of the library's. */
export interface KafkaApi<Args extends readonly unknown[], Result> {
  (
    ...args: [...ConnectionFirst<Args>, callback: (error: Error | null, result?: Result) => void]
  ): void
  readonly key: number
  readonly version: number
}
type ConnectionFirst<Args extends readonly unknown[]> = [
  connection: Parameters<ReturnType<typeof createAPI>>[0],
  ...args: Args,
]

export interface ApiDefinition<Args extends readonly unknown[], Result> {
  readonly key: number
  readonly version: number
  readonly encode: (writer: RequestWriter, ...args: Args) => void
  readonly decode: (reader: ResponseReader) => Result
}

/** Both headers are the flexible ones, except that ApiVersions answers without tagged fields. */
export function defineApi<Args extends readonly unknown[], Result>(
  definition: ApiDefinition<Args, Result>,
): KafkaApi<Args, Result> {
  const { key, version, encode, decode } = definition
  const request = (...args: Args) => {
    const writer = new RequestWriter()
    encode(writer, ...args)
    return writer.forLibrary()
  }
  const response = (_correlation: number, _key: number, _version: number, reader: Reader) =>
    decode(new ResponseReader(reader.buffer.buffers, reader.position))
  const API_VERSIONS = 18
  return createAPI<[...Args], Result>(key, version, request, response, true, key !== API_VERSIONS)
}

const INITIAL_BYTES = 256
/** Longer byte fields are sent from where they are, not copied into the request. */
const COPY_BYTES_MAX = 512

/** Writes a request's body. Every method returns the writer. */
export class RequestWriter {
  readonly #chunks: Buffer[] = []
  #bytes = Buffer.allocUnsafe(INITIAL_BYTES)
  #start = 0
  #position = 0

  #room(size: number): number {
    const position = this.#position
    const needed = position + size
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, needed))
      this.#bytes.copy(larger, 0, 0, position)
      this.#bytes = larger
    }
    this.#position = needed
    return position
  }

  int8(value: number): this {
    const at = this.#room(1)
    this.#bytes.writeInt8(value, at)
    return this
  }

  boolean(value: boolean): this {
    return this.int8(value ? 1 : 0)
  }

  int16(value: number): this {
    const at = this.#room(2)
    this.#bytes.writeInt16BE(value, at)
    return this
  }

  uint16(value: number): this {
    const at = this.#room(2)
    this.#bytes.writeUInt16BE(value, at)
    return this
  }

  int32(value: number): this {
    const at = this.#room(4)
    this.#bytes.writeInt32BE(value, at)
    return this
  }

  int64(value: number | bigint): this {
    const at = this.#room(8)
    assert(typeof value === 'bigint' || Number.isSafeInteger(value), 'an int64 is an integer')
    this.#bytes.writeBigInt64BE(BigInt(value), at)
    return this
  }

  uvarint(value: number): this {
    let rest = value >>> 0
    while (rest > 0x7f) {
      const at = this.#room(1)
      this.#bytes[at] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    const at = this.#room(1)
    this.#bytes[at] = rest
    return this
  }

  string(value: string): this {
    const size = Buffer.byteLength(value)
    this.uvarint(size + 1)
    const at = this.#room(size)
    this.#bytes.write(value, at)
    return this
  }

  nullableString(value: string | null): this {
    return value === null ? this.uvarint(0) : this.string(value)
  }

  /** With or without hyphens; null is the zero id. */
  uuid(value: string | null): this {
    const at = this.#room(16)
    if (value === null) this.#bytes.fill(0, at, at + 16)
    else {
      const written = this.#bytes.write(value.replaceAll('-', ''), at, 'hex')
      assert(written === 16, `${value} is a UUID`)
    }
    return this
  }

  /** Also a record set. The buffer is not to be changed until the answer is there. */
  bytes(value: Buffer): this {
    return this.byteParts([value])
  }

  /** One byte field that lies in several buffers. */
  byteParts(parts: readonly Buffer[]): this {
    let size = 0
    for (const part of parts) size += part.length
    this.uvarint(size + 1)
    for (const part of parts) {
      if (part.length > COPY_BYTES_MAX) {
        this.#seal()
        this.#chunks.push(part)
      } else {
        const at = this.#room(part.length)
        part.copy(this.#bytes, at)
      }
    }
    return this
  }

  /** An array of anything but structs: no tagged fields follow the entries. */
  array<T>(values: readonly T[] | null, write: (value: T) => unknown): this {
    this.uvarint(values === null ? 0 : values.length + 1)
    for (const value of values ?? []) write(value)
    return this
  }

  /** An array of structs: empty tagged fields are written after each. */
  structs<T>(values: readonly T[] | null, write: (value: T) => unknown): this {
    return this.array(values, value => {
      write(value)
      this.tags()
    })
  }

  nullableStruct<T>(value: T | null, write: (value: T) => unknown): this {
    if (value === null) return this.int8(-1)
    this.int8(1)
    write(value)
    return this.tags()
  }

  /** No tagged fields: the end of the body and of every struct. */
  tags(): this {
    return this.uvarint(0)
  }

  /** The whole body, for tests and for the library. */
  finish(): readonly Buffer[] {
    this.#seal()
    return this.#chunks
  }

  forLibrary(): Writer {
    const writer = Writer.create()
    for (const chunk of this.finish()) writer.append(chunk)
    return writer
  }

  #seal(): void {
    if (this.#position > this.#start) {
      this.#chunks.push(this.#bytes.subarray(this.#start, this.#position))
    }
    this.#start = this.#position
  }
}

/** Reads an answer's body once, front to back, over the chunks as they came from the socket. */
export class ResponseReader {
  readonly #chunks: readonly Buffer[]
  #next = 0
  #chunk: Buffer = Buffer.alloc(0)
  #position = 0
  /** What `#take` gave a place in: the chunk, or a field that was joined from several. */
  #field: Buffer = this.#chunk

  constructor(chunks: readonly Buffer[], position = 0) {
    this.#chunks = chunks
    this.skip(position)
  }

  /** Moves over `size` bytes; they are in `#field` at the place returned. */
  #take(size: number): number {
    if (this.#position === this.#chunk.length && size > 0) this.#advance()
    const at = this.#position
    if (at + size <= this.#chunk.length) {
      this.#position = at + size
      this.#field = this.#chunk
      return at
    }
    this.#field = this.#copy(size)
    return 0
  }

  #copy(size: number): Buffer {
    if (size > this.#remaining()) throw new RangeError('it ends within a field')
    const target = Buffer.allocUnsafeSlow(size)
    for (let filled = 0; filled < size; ) {
      if (this.#position === this.#chunk.length) this.#advance()
      const copied = this.#chunk.copy(target, filled, this.#position)
      filled += copied
      this.#position += copied
    }
    return target
  }

  #advance(): void {
    const chunk = this.#chunks[this.#next++]
    if (chunk === undefined) throw new RangeError('it ends within a field')
    this.#chunk = chunk
    this.#position = 0
  }

  #remaining(): number {
    let bytes = this.#chunk.length - this.#position
    for (let i = this.#next; i < this.#chunks.length; i++) bytes += this.#chunks[i]!.length
    return bytes
  }

  int8(): number {
    const at = this.#take(1)
    return this.#field.readInt8(at)
  }

  boolean(): boolean {
    return this.int8() !== 0
  }

  int16(): number {
    const at = this.#take(2)
    return this.#field.readInt16BE(at)
  }

  uint16(): number {
    const at = this.#take(2)
    return this.#field.readUInt16BE(at)
  }

  int32(): number {
    const at = this.#take(4)
    return this.#field.readInt32BE(at)
  }

  int64(): number {
    const at = this.#take(8)
    return this.#field.readInt32BE(at) * 0x1_0000_0000 + this.#field.readUInt32BE(at + 4)
  }

  bigint64(): bigint {
    const at = this.#take(8)
    return this.#field.readBigInt64BE(at)
  }

  uvarint(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const at = this.#take(1)
      const byte = this.#field[at]!
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new RangeError('it has a varint of more than five bytes')
  }

  string(): string {
    return this.nullableString() ?? ''
  }

  nullableString(): string | null {
    const size = this.uvarint() - 1
    if (size < 0) return null
    const at = this.#take(size)
    return this.#field.utf8Slice(at, at + size)
  }

  /** With hyphens. */
  uuid(): string {
    const at = this.#take(16)
    const hex = this.#field.toString('hex', at, at + 16)
    const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)]
    return `${parts.join('-')}-${hex.slice(20)}`
  }

  /**
   * Also a record set. Always a copy, of exactly this size: a view would keep the socket's
   * chunk in memory for as long as it lives.
   */
  nullableBytes(): Buffer | null {
    const size = this.uvarint() - 1
    return size < 0 ? null : this.#copy(size)
  }

  array<T>(read: () => T): T[] {
    return this.nullableArray(read) ?? []
  }

  nullableArray<T>(read: () => T): T[] | null {
    const length = this.uvarint() - 1
    if (length < 0) return null
    const values: T[] = []
    for (let i = 0; i < length; i++) values.push(read())
    return values
  }

  /** An array of structs: the tagged fields after each are skipped. */
  structs<T>(read: () => T): T[] {
    return this.nullableStructs(read) ?? []
  }

  nullableStructs<T>(read: () => T): T[] | null {
    return this.nullableArray(() => {
      const value = read()
      this.tags()
      return value
    })
  }

  nullableStruct<T>(read: () => T): T | null {
    if (this.int8() < 0) return null
    const value = read()
    this.tags()
    return value
  }

  /** Skips tagged fields, but for those that a reader is given for, by tag. */
  tags(known: Readonly<Record<number, () => void>> = {}): void {
    for (let left = this.uvarint(); left > 0; left--) {
      const tag = this.uvarint()
      const size = this.uvarint()
      const before = this.#remaining()
      known[tag]?.()
      this.skip(size - (before - this.#remaining()))
    }
  }

  skip(size: number): void {
    for (let left = size; left > 0; ) {
      if (this.#position === this.#chunk.length) this.#advance()
      const step = Math.min(left, this.#chunk.length - this.#position)
      this.#position += step
      left -= step
    }
  }
}

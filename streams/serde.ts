/**
 * How keys and values become bytes. A key has one encoding, an order-preserving binary string
 * (`state/keys.ts`): it is the record key on the wire, the row key in stores and what the
 * partitioner hashes. Values are whatever the codec writes.
 */
import { deserialize, serialize } from 'node:v8'
import { decodeText, decodeTextFields, encodeText, encodeTextFields } from '../state/keys.ts'
import type { Codec, RowKey } from '../state/port.ts'
import { streamsError } from './errors.ts'

export interface KeySerde<K> {
  /** Part of the state's identity: another name is another format. */
  readonly name: string
  /** Names of the key's fields, in their order. */
  readonly fields: readonly string[]
  /** Those of them that are integers; the others are texts. */
  readonly integers?: readonly string[]
  encode(key: K): RowKey
  /** Throws on bytes that `encode` cannot have written. */
  decode(row: RowKey): K
  /** The key as flat fields, for views. */
  toFields(key: K): Record<string, unknown>
}

export interface ValueSerde<V> {
  encode(value: V): Buffer
  /**
   * Reads `bytes[start, end)`. Throws on bytes that are no value: the record is poison. An error
   * with `retriable: true` is tried again first, with `pending: true`, too, until it passes.
   */
  decode(bytes: Buffer, start: number, end: number): V
}

/** A text key: UTF-8, as every Kafka client writes a string key. */
export function textKey(field = 'key'): KeySerde<string> {
  return {
    name: 'text',
    fields: [field],
    encode: encodeText,
    decode: decodeText,
    toFields: key => ({ [field]: key }),
  }
}

/** A key of several text fields, ordered by them. */
export function fieldsKey<F extends string>(...fields: F[]): KeySerde<Record<F, string>> {
  return {
    name: `fields(${fields.join(',')})`,
    fields,
    encode: key => encodeTextFields(fields.map(field => key[field])),
    decode: row => {
      const texts = decodeTextFields(row, fields.length)
      const key = {} as Record<F, string>
      fields.forEach((field, i) => {
        key[field] = texts[i]!
      })
      return key
    },
    toFields: key => ({ ...key }),
  }
}

/** JSON values; `undefined` is not a value. */
export function json<V>(): ValueSerde<V> & Codec<V> {
  const serde: { encode(value: V): Buffer; decode(b: Buffer, start?: number, end?: number): V } = {
    encode: value => Buffer.from(JSON.stringify(value)),
    decode: (bytes, start = 0, end = bytes.length) => JSON.parse(bytes.utf8Slice(start, end)) as V,
  }
  return serde
}

/** UTF-8 text values. */
export function text(): ValueSerde<string> {
  return {
    encode: value => Buffer.from(value),
    decode: (bytes, start, end) => bytes.utf8Slice(start, end),
  }
}

/**
 * Any plain data: objects, arrays, primitives, `Map`, `Set`, `Date`, bytes. Node's own structured
 * serialization, so `undefined` and `NaN` stay what they are. Throws VALUE_NOT_PLAIN on an
 * instance of a class, whose type would be lost.
 */
export function plain(): ValueSerde<unknown> {
  return {
    encode(value) {
      checkPlain(value, '')
      return serialize(value)
    },
    decode: (bytes, start, end) => deserialize(bytes.subarray(start, end)),
  }
}

const PLAIN = new Set<unknown>([Object.prototype, Array.prototype, Date.prototype, null])

function checkPlain(value: unknown, path: string): void {
  if (typeof value === 'function' || typeof value === 'symbol') {
    throw streamsError('VALUE_NOT_PLAIN', { path: path || 'it', type: typeof value })
  }
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return
  if (value instanceof Map || value instanceof Set) {
    for (const entry of value) checkPlain(entry, `${path}[…]`)
    return
  }
  if (!PLAIN.has(Object.getPrototypeOf(value))) {
    const type = value.constructor?.name ?? 'an unknown class'
    throw streamsError('VALUE_NOT_PLAIN', { path: path || 'it', type })
  }
  for (const [name, inner] of Object.entries(value)) {
    if (typeof inner === 'object' || typeof inner === 'function') {
      checkPlain(inner, path === '' ? name : `${path}.${name}`)
    }
  }
}

/** A stored value with the event time it stands for. */
export interface Timed<V> {
  readonly value: V
  readonly timeMs: number
}

/** `time: float64 big-endian, value: bytes of the inner codec`. */
export function timedCodec(inner: Codec<unknown>): Codec<unknown> {
  return {
    mutable: inner.mutable,
    encode(row) {
      const { value, timeMs } = row as Timed<unknown>
      const encoded = inner.encode(value)
      const bytes = Buffer.allocUnsafe(8 + encoded.length)
      bytes.writeDoubleBE(timeMs, 0)
      encoded.copy(bytes, 8)
      return bytes
    },
    decode(bytes) {
      return { value: inner.decode(bytes.subarray(8)), timeMs: bytes.readDoubleBE(0) }
    },
  }
}

/** A value that later changes in place of `value` do not reach. */
export function detach<V>(codec: Codec<V>, value: V): V {
  return codec.mutable ? codec.decode(codec.encode(value)) : value
}

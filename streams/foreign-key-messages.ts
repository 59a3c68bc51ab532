/**
 * What the steps of a foreign-key join tell each other, version 1; integers are big-endian.
 *
 *     message  = kind:uint8 version:float64 length:uint32 key [left]
 *     response = version:float64 [result]
 *
 * A key of a message is where it goes; `key` inside is that of the left row. An absent `left` or
 * `result` is none.
 */
import type { Codec, RowKey } from '../state/port.ts'
import type { KeySerde, ValueSerde } from './serde.ts'

const KINDS = ['leave', 'join', 'alone'] as const

export interface Message {
  /**
   * `leave`: the left row no longer refers to this one. `join`: it does, in this version. `alone`:
   * it refers to none, or is deleted.
   */
  readonly kind: (typeof KINDS)[number]
  readonly key: RowKey
  /** Counts the changes of the left row. */
  readonly version: number
  /** The left row; null when it is deleted. */
  readonly left: unknown
}

export interface Response {
  readonly version: number
  /** Null: no row. */
  readonly result: unknown
}

/** Keys that are rows of another key serde already. */
export const routeKey: KeySerde<RowKey> = {
  name: 'row',
  fields: ['row'],
  encode: row => row,
  decode: row => row,
  toFields: row => ({ row }),
}

const HEAD_BYTES = 13

export function messageSerde(left: ValueSerde<unknown>): ValueSerde<Message> {
  return {
    encode({ kind, key, version, left: value }) {
      const head = Buffer.allocUnsafe(HEAD_BYTES + key.length)
      head[0] = KINDS.indexOf(kind)
      head.writeDoubleBE(version, 1)
      head.writeUInt32BE(key.length, 9)
      head.latin1Write(key, HEAD_BYTES)
      return value === null ? head : Buffer.concat([head, left.encode(value)])
    },
    decode(bytes, start, end) {
      const keyEnd = start + HEAD_BYTES + bytes.readUInt32BE(start + 9)
      return {
        kind: KINDS[bytes[start]!]!,
        version: bytes.readDoubleBE(start + 1),
        key: bytes.latin1Slice(start + HEAD_BYTES, keyEnd),
        left: keyEnd === end ? null : left.decode(bytes, keyEnd, end),
      }
    },
  }
}

export function responseSerde(result: Codec<unknown>): ValueSerde<Response> {
  return {
    encode({ version, result: value }) {
      const head = Buffer.allocUnsafe(8)
      head.writeDoubleBE(version, 0)
      return value === null ? head : Buffer.concat([head, result.encode(value)])
    },
    decode(bytes, start, end) {
      const version = bytes.readDoubleBE(start)
      return {
        version,
        result: start + 8 === end ? null : result.decode(bytes.subarray(start + 8, end)),
      }
    },
  }
}

/**
 * What the steps of a foreign-key join tell each other, version 1; integers are big-endian.
 *
 *     message  = kind:uint8 has:uint8 version:float64 length:uint32 key [left]
 *     response = has:uint8 version:float64 [result]
 *
 * `has` is 1 where there is a `left` or `result`, which may have no bytes, and 0 where there is
 * none.
 * A key of a message is where it goes; `key` inside is that of the left row.
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

const HEAD_BYTES = 14
const RESPONSE_HEAD_BYTES = 9

export function messageSerde(left: ValueSerde<unknown>): ValueSerde<Message> {
  return {
    encode({ kind, key, version, left: value }) {
      const head = Buffer.allocUnsafe(HEAD_BYTES + key.length)
      head[0] = KINDS.indexOf(kind)
      head[1] = value === null ? 0 : 1
      head.writeDoubleBE(version, 2)
      head.writeUInt32BE(key.length, 10)
      head.latin1Write(key, HEAD_BYTES)
      return value === null ? head : Buffer.concat([head, left.encode(value)])
    },
    decode(bytes, start, end) {
      const keyEnd = start + HEAD_BYTES + bytes.readUInt32BE(start + 10)
      return {
        kind: KINDS[bytes[start]!]!,
        version: bytes.readDoubleBE(start + 2),
        key: bytes.latin1Slice(start + HEAD_BYTES, keyEnd),
        left: bytes[start + 1] === 0 ? null : left.decode(bytes, keyEnd, end),
      }
    },
  }
}

export function responseSerde(result: Codec<unknown>): ValueSerde<Response> {
  return {
    encode({ version, result: value }) {
      const head = Buffer.allocUnsafe(RESPONSE_HEAD_BYTES)
      head[0] = value === null ? 0 : 1
      head.writeDoubleBE(version, 1)
      return value === null ? head : Buffer.concat([head, result.encode(value)])
    },
    decode(bytes, start, end) {
      const own = bytes.subarray(start + RESPONSE_HEAD_BYTES, end)
      return {
        version: bytes.readDoubleBE(start + 1),
        result: bytes[start] === 0 ? null : result.decode(own),
      }
    },
  }
}

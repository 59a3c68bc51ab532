/**
 * Keys of ranking rows, version 1: rows sort by group, then by rank.
 *
 *     ranked = field(group key) rank:uint32 big-endian
 */
import { keyField, keyOfField } from '../state/keys.ts'
import type { RowKey } from '../state/port.ts'
import type { KeySerde } from './serde.ts'

export interface Ranked<K> {
  readonly group: K
  /** From 1. */
  readonly rank: number
}

const RANK_BYTES = 4

export function rankedRow(group: RowKey, rank: number): RowKey {
  return (
    keyField(group) +
    String.fromCharCode(rank >>> 24, (rank >> 16) & 255, (rank >> 8) & 255, rank & 255)
  )
}

export function rankedKey<K>(group: KeySerde<K>): KeySerde<Ranked<K>> {
  return {
    name: `ranked(${group.name})`,
    fields: [...group.fields, 'rank'],
    integers: [...(group.integers ?? []), 'rank'],
    encode: ({ group: key, rank }) => rankedRow(group.encode(key), rank),
    decode: row => {
      const end = row.length - RANK_BYTES
      const unit = (i: number) => row.charCodeAt(end + i)
      const rank = ((unit(0) << 24) | (unit(1) << 16) | (unit(2) << 8) | unit(3)) >>> 0
      return { group: group.decode(keyOfField(row, 0, end)), rank }
    },
    toFields: ({ group: key, rank }) => ({ ...group.toFields(key), rank }),
  }
}

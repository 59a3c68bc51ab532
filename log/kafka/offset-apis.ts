/** Offsets of partitions: where they begin and end, and moving the beginning. */
import type { TopicPartition } from '../port.ts'
import { byTopic } from './leader-requests.ts'
import { defineApi } from './wire.ts'

/** Timestamps that ask for a place instead. */
export const PLACE = { latest: -1, earliest: -2 } as const

export type IsolationLevel = 'read_uncommitted' | 'read_committed'

export interface OffsetAsk extends TopicPartition {
  /** The first offset at or after this time is wanted, or a `PLACE`. */
  readonly timestampMs: number
}

export interface OffsetAnswer extends TopicPartition {
  readonly error: number
  /** -1: no record is that late. */
  readonly offset: number
}

/** ListOffsets v8. The latest is the high watermark; read_committed, the last stable offset. */
export const listOffsets = defineApi({
  key: 2,
  version: 8,
  encode: (writer, isolation: IsolationLevel, asks: readonly OffsetAsk[]) => {
    const NO_REPLICA = -1
    const NO_EPOCH = -1
    writer.int32(NO_REPLICA).int8(isolation === 'read_committed' ? 1 : 0)
    writer.structs(byTopic(asks), ([topic, partitions]) => {
      writer.string(topic).structs(partitions, ({ partition, timestampMs }) => {
        writer.int32(partition).int32(NO_EPOCH).int64(timestampMs)
      })
    })
    writer.tags()
  },
  decode: (reader): readonly OffsetAnswer[] => {
    reader.int32() // throttle time
    const topics = reader.structs(() => {
      const topic = reader.string()
      return reader.structs(() => {
        const answer = { topic, partition: reader.int32(), error: reader.int16() }
        reader.int64() // timestamp
        const offset = reader.int64()
        reader.int32() // leader epoch
        return { ...answer, offset }
      })
    })
    reader.tags()
    return topics.flat()
  },
})

export interface DeleteAsk extends TopicPartition {
  /** The first offset that stays. */
  readonly beforeOffset: number
}

/** DeleteRecords v2. The answer comes when every replica in sync has moved its start. */
export const deleteRecords = defineApi({
  key: 21,
  version: 2,
  encode: (writer, asks: readonly DeleteAsk[], timeoutMs: number) => {
    writer.structs(byTopic(asks), ([topic, partitions]) => {
      writer.string(topic).structs(partitions, ({ partition, beforeOffset }) => {
        writer.int32(partition).int64(beforeOffset)
      })
    })
    writer.int32(timeoutMs).tags()
  },
  decode: (reader): readonly (TopicPartition & { readonly error: number })[] => {
    reader.int32() // throttle time
    const topics = reader.structs(() => {
      const topic = reader.string()
      return reader.structs(() => {
        const partition = reader.int32()
        reader.int64() // low watermark
        return { topic, partition, error: reader.int16() }
      })
    })
    reader.tags()
    return topics.flat()
  },
})

/**
 * The Fetch request, version 17, without a session: topics go by id, the isolation level is
 * read_committed. The records come as they are, one copy in a buffer of their own.
 */
import { defineApi } from './wire.ts'

export interface FetchOptions {
  /** How long the broker may wait for a first byte. */
  readonly waitMsMax: number
  /** Soft limit of the whole answer. */
  readonly bytesMax: number
}

export interface PartitionPlace {
  readonly topicId: string
  readonly partition: number
  readonly leaderEpoch: number
  readonly offset: number
  readonly bytesMax: number
}

export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}

export interface FetchedPartition {
  readonly topicId: string
  readonly partition: number
  readonly error: number
  /** -1 beside an error, like the two below. */
  readonly highWatermark: number
  readonly lastStableOffset: number
  readonly startOffset: number
  readonly aborted: readonly AbortedTransaction[]
  /** May end within a batch. */
  readonly records: Buffer
}

export interface FetchAnswer {
  readonly throttleMs: number
  readonly error: number
  /** Not all that were asked for: a broker that throttles leaves them out. */
  readonly partitions: readonly FetchedPartition[]
}

const READ_COMMITTED = 1
const NO_SESSION = { id: 0, epoch: -1 }
const EMPTY = Buffer.alloc(0)

/** Partitions of a topic in a row are sent together; their order is the broker's. */
function byTopic(places: readonly PartitionPlace[]): PartitionPlace[][] {
  const groups: PartitionPlace[][] = []
  for (const place of places) {
    const group = groups.at(-1)
    if (group?.[0]?.topicId === place.topicId) group.push(place)
    else groups.push([place])
  }
  return groups
}

export const fetchPartitions = defineApi({
  key: 1,
  version: 17,
  encode: (writer, { waitMsMax, bytesMax }: FetchOptions, places: readonly PartitionPlace[]) => {
    const BYTES_MIN = 1
    writer.int32(waitMsMax).int32(BYTES_MIN).int32(bytesMax).int8(READ_COMMITTED)
    writer.int32(NO_SESSION.id).int32(NO_SESSION.epoch)
    writer.structs(byTopic(places), group => {
      writer.uuid(group[0]!.topicId).structs(group, place => {
        writer.int32(place.partition).int32(place.leaderEpoch).int64(place.offset)
        // No last fetched epoch, and no log start: that is for followers.
        writer.int32(-1).int64(-1).int32(place.bytesMax)
      })
    })
    writer.structs([], () => {}) // topics that leave the session
    writer.string('').tags() // rack
  },
  decode: (reader): FetchAnswer => {
    const throttleMs = reader.int32()
    const error = reader.int16()
    reader.int32() // session
    const readPartition = (topicId: string): FetchedPartition => {
      const partition = reader.int32()
      const error = reader.int16()
      const highWatermark = reader.int64()
      const lastStableOffset = reader.int64()
      const startOffset = reader.int64()
      const aborted = reader.structs(() => ({
        producerId: reader.int64(),
        firstOffset: reader.int64(),
      }))
      reader.int32() // preferred replica
      const records = reader.nullableBytes() ?? EMPTY
      const bounds = { highWatermark, lastStableOffset, startOffset }
      return { topicId, partition, error, ...bounds, aborted, records }
    }
    const topics = reader.structs(() => {
      const topicId = reader.uuid()
      return reader.structs(() => readPartition(topicId))
    })
    reader.tags()
    return { throttleMs, error, partitions: topics.flat() }
  },
})

/** Groups: which there are, and what they have committed. */
import type { GroupMember, TopicPartition } from '../port.ts'
import { byTopic } from './leader-requests.ts'
import { defineApi } from './wire.ts'

export interface ListedGroup {
  readonly group: string
  readonly state: string
  /** `classic`, `consumer`, `share` or `streams`. */
  readonly type: string
}

export interface GroupsAnswer {
  readonly error: number
  readonly groups: readonly ListedGroup[]
}

/** ListGroups v5: groups of every state and type that one broker coordinates. */
export const listGroups = defineApi({
  key: 16,
  version: 5,
  encode: writer => {
    // No filter of types is every type, no filter of states every state.
    writer.array<string>([], () => {})
    writer.array<string>([], () => {}).tags()
  },
  decode: (reader): GroupsAnswer => {
    reader.int32() // throttle time
    const error = reader.int16()
    const groups = reader.structs(() => {
      const group = reader.string()
      reader.string() // protocol
      return { group, state: reader.string(), type: reader.string() }
    })
    reader.tags()
    return { error, groups }
  },
})

export interface FetchedOffset extends TopicPartition {
  readonly error: number
  /** -1: nothing is committed, if the error is 0. */
  readonly offset: number
  /** Of the last record that was read; -1 when it was not told. */
  readonly leaderEpoch: number
  readonly metadata: string
}

export interface GroupOffsetsAnswer {
  readonly error: number
  readonly offsets: readonly FetchedOffset[]
}

/**
 * OffsetFetch v9, for one group; without targets, all that it has committed. It is stable: where
 * a transaction holds an offset open, the answer is UNSTABLE_OFFSET_COMMIT.
 */
export const fetchOffsets = defineApi({
  key: 9,
  version: 9,
  encode: (
    writer,
    group: string,
    targets: readonly TopicPartition[] | null,
    member: GroupMember | undefined,
  ) => {
    writer.structs([group], one => {
      writer.string(one).nullableString(member?.id ?? null)
      writer.int32(member?.epoch ?? -1)
      writer.structs(targets && byTopic(targets), ([topic, partitions]) => {
        writer.string(topic).array(partitions, ({ partition }) => writer.int32(partition))
      })
    })
    const REQUIRE_STABLE = true
    writer.boolean(REQUIRE_STABLE).tags()
  },
  decode: (reader): GroupOffsetsAnswer => {
    reader.int32() // throttle time
    const readOffset = (topic: string): FetchedOffset => {
      const partition = reader.int32()
      const offset = reader.int64()
      const leaderEpoch = reader.int32()
      const metadata = reader.string()
      return { topic, partition, offset, leaderEpoch, metadata, error: reader.int16() }
    }
    const groups = reader.structs(() => {
      reader.string() // group
      const topics = reader.structs(() => {
        const topic = reader.string()
        return reader.structs(() => readOffset(topic))
      })
      return { error: reader.int16(), offsets: topics.flat() }
    })
    reader.tags()
    const [answer] = groups
    if (answer === undefined) throw new RangeError('it does not name the group')
    return answer
  },
})

/** What is committed for a partition. */
export type OffsetToCommit = Omit<FetchedOffset, 'error'>

export interface OffsetCommitAnswer {
  /** Of the first partition that was refused; 0 when all were taken. */
  readonly error: number
}

/**
 * OffsetCommit v9 in nobody's name: the broker takes it for a group without members only. A group
 * that does not exist becomes a classic one, without members.
 */
export const commitOffsets = defineApi({
  key: 8,
  version: 9,
  encode: (writer, group: string, offsets: readonly OffsetToCommit[]) => {
    const NO_GENERATION = -1
    writer.string(group).int32(NO_GENERATION).string('').nullableString(null)
    writer.structs(byTopic(offsets), ([topic, partitions]) => {
      writer.string(topic).structs(partitions, one => {
        writer.int32(one.partition).int64(one.offset).int32(one.leaderEpoch)
        writer.nullableString(one.metadata)
      })
    })
    writer.tags()
  },
  decode: (reader): OffsetCommitAnswer => {
    reader.int32() // throttle time
    const topics = reader.structs(() => {
      reader.string() // topic
      return reader.structs(() => {
        reader.int32() // partition
        return reader.int16()
      })
    })
    reader.tags()
    return { error: topics.flat().find(error => error !== 0) ?? 0 }
  },
})

/** DeleteGroups v2, for one group; its offsets go with it. */
export const deleteGroup = defineApi({
  key: 42,
  version: 2,
  encode: (writer, group: string) => {
    writer.array([group], name => writer.string(name)).tags()
  },
  decode: (reader): { readonly error: number } => {
    reader.int32() // throttle time
    const [answer] = reader.structs(() => {
      reader.string() // group
      return { error: reader.int16() }
    })
    reader.tags()
    return answer ?? { error: -1 }
  },
})

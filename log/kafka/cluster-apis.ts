/** The requests by which a client finds its way: versions, metadata, coordinators. */
import { defineApi } from './wire.ts'

export interface ApiVersions {
  readonly error: number
  /** Highest version by API key; the lowest is 0 or 1 for all that matter here. */
  readonly versions: ReadonlyMap<number, { readonly min: number; readonly max: number }>
  /** Finalized level by feature name. */
  readonly features: ReadonlyMap<string, number>
}

const NOTHING: ApiVersions = { error: 0, versions: new Map(), features: new Map() }

/**
 * ApiVersions v3. A broker that does not know this version answers with an error in the format
 * of v0, so nothing after the code is read then.
 */
export const apiVersions = defineApi({
  key: 18,
  version: 3,
  encode: (writer, name: string, version: string) => {
    writer.string(name).string(version).tags()
  },
  decode: (reader): ApiVersions => {
    const error = reader.int16()
    if (error !== 0) return { ...NOTHING, error }
    const keys = reader.structs(() => ({
      key: reader.int16(),
      min: reader.int16(),
      max: reader.int16(),
    }))
    reader.int32() // throttle time
    const FINALIZED_FEATURES = 2
    const features = new Map<string, number>()
    reader.tags({
      [FINALIZED_FEATURES]: () =>
        reader.structs(() => {
          features.set(reader.string(), reader.int16())
          reader.int16() // lowest level
        }),
    })
    return { error, versions: new Map(keys.map(({ key, ...range }) => [key, range])), features }
  },
})

export interface PartitionMetadata {
  readonly partition: number
  /** -1 while there is none. */
  readonly leader: number
  readonly leaderEpoch: number
  readonly replicas: readonly number[]
}

export interface TopicMetadata {
  readonly name: string
  /** UUID with hyphens; changes when a topic of the same name is created anew. */
  readonly id: string
  /** By partition number. */
  readonly partitions: readonly PartitionMetadata[]
  readonly internal: boolean
}

export interface MetadataAnswer {
  readonly brokers: readonly {
    readonly node: number
    readonly host: string
    readonly port: number
  }[]
  readonly clusterId: string
  readonly controller: number
  readonly topics: readonly (TopicMetadata & { readonly error: number })[]
}

/** Metadata v12, without creating topics. No names: brokers only; null: every topic. */
export const metadata = defineApi({
  key: 3,
  version: 12,
  encode: (writer, names: readonly string[] | null) => {
    writer.structs(names, name => writer.uuid(null).nullableString(name))
    writer.boolean(false).boolean(false).tags()
  },
  decode: (reader): MetadataAnswer => {
    reader.int32() // throttle time
    const brokers = reader.structs(() => {
      const broker = { node: reader.int32(), host: reader.string(), port: reader.int32() }
      reader.nullableString() // rack
      return broker
    })
    const clusterId = reader.string()
    const controller = reader.int32()
    const readPartition = () => {
      reader.int16() // error: no leader is told by its number
      const partition = reader.int32()
      const leader = reader.int32()
      const leaderEpoch = reader.int32()
      const replicas = reader.array(() => reader.int32())
      reader.array(() => reader.int32()) // in sync
      reader.array(() => reader.int32()) // offline
      return { partition, leader, leaderEpoch, replicas }
    }
    const topics = reader.structs(() => {
      const error = reader.int16()
      const name = reader.string()
      const id = reader.uuid()
      const internal = reader.boolean()
      const partitions = reader.structs(readPartition)
      reader.int32() // authorized operations
      return { error, name, id, internal, partitions: partitions.sort(byPartition) }
    })
    reader.tags()
    return { brokers, clusterId, controller, topics }
  },
})

function byPartition(a: PartitionMetadata, b: PartitionMetadata): number {
  return a.partition - b.partition
}

export type CoordinatorKind = 'group' | 'transaction'
const KEY_TYPE: Readonly<Record<CoordinatorKind, number>> = { group: 0, transaction: 1 }

export interface CoordinatorAnswer {
  readonly node: number
  readonly error: number
  readonly message: string | null
}

/** FindCoordinator v4, for one key. */
export const findCoordinator = defineApi({
  key: 10,
  version: 4,
  encode: (writer, kind: CoordinatorKind, key: string) => {
    writer.int8(KEY_TYPE[kind])
    writer.array([key], one => writer.string(one)).tags()
  },
  decode: (reader): CoordinatorAnswer => {
    reader.int32() // throttle time
    const answers = reader.structs(() => {
      reader.string() // key
      const node = reader.int32()
      reader.string() // host
      reader.int32() // port
      return { node, error: reader.int16(), message: reader.nullableString() }
    })
    reader.tags()
    const [answer] = answers
    if (answer === undefined) throw new RangeError('it names no coordinator')
    return answer
  },
})

/**
 * Codecs of a streams group (KIP-1071): StreamsGroupHeartbeat (key 88, version 0) and
 * StreamsGroupDescribe (key 89, version 0), as Kafka 4.2 and 4.3 speak them.
 *
 * Two fields of the heartbeat are always null: taskOffsets and taskEndOffsets, which these
 * brokers refuse ("TaskOffsets are not supported yet"). Static membership (instanceId) likewise.
 */
import type { Assignment, TaskIds } from '../membership.ts'
import { defineApi, type RequestWriter, type ResponseReader } from './wire.ts'

export interface Endpoint {
  readonly host: string
  readonly port: number
}

export interface WireTopic {
  readonly name: string
  readonly partitions: number
  /** 0: the broker's default. */
  readonly replicationFactor: number
  readonly configs: readonly (readonly [key: string, value: string])[]
}

/** Indices into the sub-topology's lists of topics. */
export interface WireCopartitionGroup {
  readonly sourceTopics: readonly number[]
  readonly repartitionSources: readonly number[]
}

export interface WireSubTopology {
  readonly id: string
  readonly sourceTopics: readonly string[]
  readonly changelogs: readonly WireTopic[]
  readonly repartitionSinks: readonly string[]
  readonly repartitionSources: readonly WireTopic[]
  readonly copartitionGroups: readonly WireCopartitionGroup[]
}

export interface HeartbeatRequest {
  readonly group: string
  readonly memberId: string
  /** 0 joins, -1 leaves. */
  readonly memberEpoch: number
  /** The last one received: endpoints come only when the group's is another. */
  readonly endpointEpoch: number
  /** All that a join says, and nothing else may. */
  readonly joining: JoinFields | null
  /** Owned tasks; null when unchanged. A join owns nothing. */
  readonly owned: Assignment | null
  /** Asks all members to shut down. */
  readonly shutdown: boolean
}

export interface JoinFields {
  readonly rackId: string | null
  /** How long a member may take to give up tasks, ms. */
  readonly rebalanceTimeoutMs: number
  readonly subTopologies: readonly WireSubTopology[]
  readonly processId: string
  readonly endpoint: Endpoint | null
  readonly clientTags: Readonly<Record<string, string>>
}

export interface GroupStatus {
  readonly code: number
  readonly detail: string
}

/** Topic -> partitions. */
export type TopicPartitions = readonly (readonly [topic: string, partitions: readonly number[]])[]

export interface EndpointPartitions extends Endpoint {
  readonly active: TopicPartitions
  readonly standby: TopicPartitions
}

export interface HeartbeatReply {
  readonly error: number
  readonly message: string | null
  readonly memberEpoch: number
  readonly heartbeatIntervalMs: number
  readonly statuses: readonly GroupStatus[]
  /** Null when this heartbeat has not changed it: an assignment is sent once. */
  readonly assignment: Assignment | null
  readonly endpointEpoch: number
  readonly endpoints: readonly EndpointPartitions[] | null
}

/** Entries of one map type, in wire order. */
function pairs(writer: RequestWriter, values: Readonly<Record<string, string>> | null): void {
  writer.structs(values === null ? null : Object.entries(values), ([key, value]) =>
    writer.string(key).string(value),
  )
}

function writeTopics(writer: RequestWriter, topics: readonly WireTopic[]): void {
  writer.structs(topics, topic => {
    writer.string(topic.name).int32(topic.partitions).int16(topic.replicationFactor)
    writer.structs(topic.configs, ([key, value]) => writer.string(key).string(value))
  })
}

const TOPOLOGY_EPOCH = 0
const NO_STRINGS: readonly string[] = []

function writeTopology(writer: RequestWriter, subTopologies: readonly WireSubTopology[]): void {
  const strings = (values: readonly string[]) => writer.array(values, value => writer.string(value))
  const indices = (values: readonly number[]) => writer.array(values, value => writer.int16(value))
  writer.int32(TOPOLOGY_EPOCH).structs(subTopologies, sub => {
    writer.string(sub.id)
    strings(sub.sourceTopics)
    strings(NO_STRINGS) // source topics by regular expression
    writeTopics(writer, sub.changelogs)
    strings(sub.repartitionSinks)
    writeTopics(writer, sub.repartitionSources)
    writer.structs(sub.copartitionGroups, group => {
      indices(group.sourceTopics)
      indices([])
      indices(group.repartitionSources)
    })
  })
}

function writeTasks(writer: RequestWriter, tasks: TaskIds | null): void {
  writer.structs(tasks === null ? null : Object.entries(tasks), ([subTopology, partitions]) => {
    writer.string(subTopology).array(partitions, partition => writer.int32(partition))
  })
}

function writeHeartbeat(writer: RequestWriter, request: HeartbeatRequest): void {
  const { joining, owned } = request
  writer.string(request.group).string(request.memberId).int32(request.memberEpoch)
  writer.int32(request.endpointEpoch).nullableString(null)
  writer.nullableString(joining?.rackId ?? null).int32(joining?.rebalanceTimeoutMs ?? -1)
  writer.nullableStruct(joining, ({ subTopologies }) => writeTopology(writer, subTopologies))
  writeTasks(writer, owned?.active ?? null)
  writeTasks(writer, owned?.standby ?? null)
  writeTasks(writer, owned?.warmup ?? null)
  writer.nullableString(joining?.processId ?? null)
  writer.nullableStruct(joining?.endpoint ?? null, ({ host, port }) =>
    writer.string(host).uint16(port),
  )
  pairs(writer, joining?.clientTags ?? null)
  writer.structs(null, () => {}).structs(null, () => {}) // task offsets, task end offsets
  writer.boolean(request.shutdown).tags()
}

function readPartitions(reader: ResponseReader): readonly (readonly [string, readonly number[]])[] {
  return reader.structs(() => [reader.string(), reader.array(() => reader.int32())] as const)
}

/** Partitions rising, sub-topologies by name: equal tasks read equal. */
function tasksOf(list: readonly (readonly [string, readonly number[]])[]): TaskIds {
  const sorted = list
    .filter(([, partitions]) => partitions.length > 0)
    .map(([id, partitions]) => [id, partitions.toSorted((a, b) => a - b)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(sorted)
}

function readNullableTasks(reader: ResponseReader): TaskIds | null {
  const list = reader.nullableStructs(
    () => [reader.string(), reader.array(() => reader.int32())] as const,
  )
  return list === null ? null : tasksOf(list)
}

function readHeartbeat(reader: ResponseReader): HeartbeatReply {
  reader.int32() // throttle time
  const error = reader.int16()
  const message = reader.nullableString()
  reader.string() // member id
  const memberEpoch = reader.int32()
  const heartbeatIntervalMs = reader.int32()
  reader.int32() // acceptable recovery lag
  reader.int32() // task offset interval
  const statuses = reader.structs(() => ({ code: reader.int8(), detail: reader.string() }))
  const active = readNullableTasks(reader)
  const standby = readNullableTasks(reader)
  const warmup = readNullableTasks(reader)
  const endpointEpoch = reader.int32()
  const endpoints = reader.nullableStructs(() => {
    const endpoint = { host: reader.string(), port: reader.uint16() }
    reader.tags()
    return { ...endpoint, active: readPartitions(reader), standby: readPartitions(reader) }
  })
  reader.tags()
  const assignment =
    active === null ? null : { active, standby: standby ?? {}, warmup: warmup ?? {} }
  return {
    error,
    message,
    memberEpoch,
    heartbeatIntervalMs,
    statuses,
    assignment,
    endpointEpoch,
    endpoints,
  }
}

/**
 * Version 0, the only one of brokers up to 4.3. A newer broker that offers more still takes it
 * while it is in its range, which is asked at connecting (`requirements.ts`).
 */
export const streamsGroupHeartbeat = defineApi<[HeartbeatRequest], HeartbeatReply>({
  key: 88,
  version: 0,
  encode: writeHeartbeat,
  decode: readHeartbeat,
})

/** A sub-topology as the group keeps it: without its copartition groups. */
export type DescribedSubTopology = Omit<WireSubTopology, 'copartitionGroups'>

export interface DescribedMember {
  readonly memberId: string
  readonly memberEpoch: number
  readonly rackId: string | null
  readonly clientId: string
  /** As the broker saw it: `/10.0.0.7`. */
  readonly clientHost: string
  readonly processId: string
  readonly endpoint: Endpoint | null
  readonly clientTags: Readonly<Record<string, string>>
  readonly assignment: Assignment
  readonly target: Assignment
}

export interface DescribedGroup {
  readonly error: number
  readonly message: string | null
  readonly group: string
  /** `Empty`, `NotReady`, `Assigning`, `Reconciling`, `Stable` or `Dead`. */
  readonly state: string
  readonly groupEpoch: number
  readonly assignmentEpoch: number
  /** Null while the group has no topology, or keeps it to itself. */
  readonly subTopologies: readonly DescribedSubTopology[] | null
  readonly members: readonly DescribedMember[]
}

function readTopics(reader: ResponseReader): WireTopic[] {
  return reader.structs(() => ({
    name: reader.string(),
    partitions: reader.int32(),
    replicationFactor: reader.int16(),
    configs: reader.structs(() => [reader.string(), reader.string()] as const),
  }))
}

function readTopology(reader: ResponseReader): DescribedSubTopology[] | null {
  const strings = () => reader.array(() => reader.string())
  const topology = reader.nullableStruct(() => {
    reader.int32() // topology epoch
    return reader.nullableStructs(() => ({
      id: reader.string(),
      sourceTopics: strings(),
      repartitionSinks: strings(),
      changelogs: readTopics(reader),
      repartitionSources: readTopics(reader),
    }))
  })
  return topology
}

function readTasks(reader: ResponseReader): Assignment {
  const read = () => tasksOf(readPartitions(reader))
  const assignment = { active: read(), standby: read(), warmup: read() }
  reader.tags()
  return assignment
}

function readMember(reader: ResponseReader): DescribedMember {
  const taskOffset = () => reader.string() + reader.int32() + reader.int64()
  const memberId = reader.string()
  const memberEpoch = reader.int32()
  reader.nullableString() // instance id
  const rackId = reader.nullableString()
  const clientId = reader.string()
  const clientHost = reader.string()
  reader.int32() // topology epoch
  const processId = reader.string()
  const endpoint = reader.nullableStruct(() => ({ host: reader.string(), port: reader.uint16() }))
  const clientTags = Object.fromEntries(
    reader.structs(() => [reader.string(), reader.string()] as const),
  )
  reader.structs(taskOffset)
  reader.structs(taskOffset)
  const assignment = readTasks(reader)
  const target = readTasks(reader)
  reader.boolean() // a classic member
  const names = { memberId, memberEpoch, rackId, clientId, clientHost, processId }
  return { ...names, endpoint, clientTags, assignment, target }
}

function readGroup(reader: ResponseReader): DescribedGroup {
  const group = {
    error: reader.int16(),
    message: reader.nullableString(),
    group: reader.string(),
    state: reader.string(),
    groupEpoch: reader.int32(),
    assignmentEpoch: reader.int32(),
    subTopologies: readTopology(reader),
    members: reader.structs(() => readMember(reader)),
  }
  reader.int32() // authorized operations
  return group
}

export const streamsGroupDescribe = defineApi<
  [groups: readonly string[]],
  readonly DescribedGroup[]
>({
  key: 89,
  version: 0,
  encode: (writer, groups) => {
    writer.array(groups, group => writer.string(group)).boolean(false)
    writer.tags()
  },
  decode: reader => {
    reader.int32() // throttle time
    const groups = reader.structs(() => readGroup(reader))
    reader.tags()
    return groups
  },
})

/**
 * Deploying a changed topology. A streams group keeps the topology that its first member brought
 * and refuses any other, empty or not; deleting the group deletes its offsets. So, when no member
 * is left:
 *
 *   1. lock: create the topic `<group>-migration`. Instances often start together, and creating
 *      a topic is what only one of them can do.
 *   2. read the group's offsets, stable, between two looks at the group that find it unchanged.
 *   3. commit them to the group `<group>-migration`: the copy.
 *   4. delete the group.
 *   5. commit the copy to it: it is a classic group now, which the next join turns into a
 *      streams group with the topology that it brings.
 *   6. delete the copy, then the lock.
 *
 * A kill before 4 leaves the old group as it was. A kill after it leaves the copy; whoever finds
 * a copy and no streams group goes on at 5, lock or no lock: the steps may be repeated, and 5 is
 * refused once a member has joined. A lock that does not go away is that of a dead instance.
 * One thing stays unguarded: an instance of the *old* topology that joins between 4 and 5 begins
 * without offsets; then 5 is refused, and the copy is kept.
 */
import { logError, MillraceError } from '../errors.ts'
import { noTasks } from '../membership.ts'
import type { TopicPartition } from '../port.ts'
import { checkGroup } from '../topics.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode, nameOf } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { offsetsOfGroup, putOffsets, removeGroup } from './group-offsets.ts'
import { askGroup } from './group-requests.ts'
import { pause } from './pause.ts'
import { joinFieldsOf, type StreamsGroupOptions } from './streams-group.ts'
import { judge } from './streams-group-replies.ts'
import { groupSettings } from './streams-group-settings.ts'
import { topologyDifferences, wireTopology } from './streams-group-topology.ts'
import {
  type DescribedGroup,
  type DescribedMember,
  type JoinFields,
  streamsGroupDescribe,
  streamsGroupHeartbeat,
} from './streams-group-wire.ts'
import { createTopic, deleteTopic } from './topic-apis.ts'

export interface PreparedGroup {
  /** `new`: there is no such group; `unchanged`: it has this topology; `migrated`: it takes it. */
  readonly outcome: 'new' | 'unchanged' | 'migrated'
  /** What differed, in words. */
  readonly changes: readonly string[]
}

/** Longer than a migration takes. */
const LOCK_MS_MAX = 45_000
const LOCK_LOOK_MS = 200
/** What a description of the group does not show. */
const HIDDEN = ['copartition groups, or partition counts of repartition topics']

/** Name of the lock and of the copy. */
export function migrationName(group: string): string {
  return `${group}-migration`
}

/**
 * To be called before `joinStreamsGroup`, with the same options: makes sure that the group takes
 * the topology, its offsets kept. An instance that was killed under the old topology does not
 * stand in the way of its own restart. Where the group has no other member this one joins it.
 *
 * Rejects with GROUP_HAS_MEMBERS when others run the old topology, KAFKA_OFFSETS_HELD when
 * transactions hold offsets open, and with what its requests reject with.
 */
export async function prepareGroup(options: StreamsGroupOptions): Promise<PreparedGroup> {
  const { cluster, group } = options
  checkGroup(group)
  const { clock } = cluster.environment
  let waitingMs = clock()
  let seen: readonly string[] | undefined
  for (;;) {
    const changes = await changesOf(options)
    if (changes === undefined) return resume(cluster, group, seen)
    if (changes.length === 0) {
      // The group has a member by now, so no migration can be under way.
      await removeGroup(cluster, migrationName(group))
      return { outcome: seen === undefined ? 'unchanged' : 'migrated', changes: seen ?? [] }
    }
    seen = changes
    if (await lock(cluster, group)) break
    if (clock() - waitingMs >= LOCK_MS_MAX) {
      await unlock(cluster, group)
      waitingMs = clock()
    }
    await pause(cluster.environment, LOCK_LOOK_MS)
  }
  try {
    await migrate(options)
  } finally {
    await unlock(cluster, group)
  }
  return { outcome: 'migrated', changes: seen }
}

/** What the stored topology has otherwise; undefined when there is no streams group. */
async function changesOf(options: StreamsGroupOptions): Promise<readonly string[] | undefined> {
  const { cluster, group, memberId, topology } = options
  const found = await describeGroup(cluster, group)
  if (found === undefined) return undefined
  const stored = found.subTopologies ?? []
  const changes = stored.length > 0 ? topologyDifferences(stored, wireTopology(topology)) : []
  const others = found.members.filter(member => member.memberId !== memberId)
  if (changes.length > 0 && others.length > 0) throw await hasMembers(options, changes, others)
  if (changes.length > 0 || others.length > 0) return changes
  return (await isRefused(options)) ? HIDDEN : []
}

/** Only a join tells for sure, and disturbs nobody where nobody else is a member. */
async function isRefused(options: StreamsGroupOptions): Promise<boolean> {
  const { cluster, group, memberId } = options
  const reply = await say(cluster, { group, memberId, joining: joinFieldsOf(options) })
  const verdict = judge(group, reply, true)
  if (verdict.kind === 'good') return false
  if (verdict.kind === 'refused') {
    if (verdict.error.code === 'GROUP_TOPOLOGY_DIFFERS') return true
    throw verdict.error
  }
  const request = `a look at the topology of group ${group}`
  throw kafkaError('KAFKA_REFUSED', { request, error: nameOf(reply.error), detail: '' })
}

/** Under the lock: steps 2 to 6, unless another instance was first. */
async function migrate(options: StreamsGroupOptions): Promise<void> {
  const { cluster, group, memberId } = options
  const changes = await changesOf(options)
  if (changes === undefined) return restore(cluster, group)
  if (changes.length === 0) return
  await say(cluster, { group, memberId, joining: null })
  const before = await describeGroup(cluster, group)
  const offsets = await offsetsOfGroup(cluster, group, await partitionsOf(cluster, before))
  const after = await describeGroup(cluster, group)
  if (after === undefined || before === undefined) return restore(cluster, group)
  if (after.members.length > 0 || after.groupEpoch !== before.groupEpoch) {
    throw await hasMembers(options, changes, after.members)
  }
  await removeGroup(cluster, migrationName(group))
  await putOffsets(cluster, migrationName(group), offsets)
  await removeGroup(cluster, group)
  await restore(cluster, group)
}

/** What the members of a group may have committed offsets of. */
async function partitionsOf(
  cluster: Cluster,
  group: DescribedGroup | undefined,
): Promise<readonly TopicPartition[]> {
  const topics = (group?.subTopologies ?? []).flatMap(({ sourceTopics, repartitionSources }) => [
    ...sourceTopics,
    ...repartitionSources.map(({ name }) => name),
  ])
  const found: TopicPartition[] = []
  for (const topic of new Set(topics)) {
    const partitions = (await cluster.topic(topic))?.partitions ?? []
    for (const partition of partitions.keys()) found.push({ topic, partition })
  }
  return found
}

/** Steps 5 and 6, while no streams group is there: what the group has already, stays. */
async function restore(cluster: Cluster, group: string): Promise<void> {
  const copy = await offsetsOfGroup(cluster, migrationName(group))
  const missing = async () => {
    const there = await offsetsOfGroup(cluster, group)
    return copy.filter(
      ({ topic, partition }) =>
        !there.some(one => one.topic === topic && one.partition === partition),
    )
  }
  try {
    await putOffsets(cluster, group, await missing())
  } catch (error) {
    const isJoined = error instanceof MillraceError && error.code === 'GROUP_NOT_EMPTY'
    // Another instance may have restored them, and joined.
    if (!isJoined || (await missing()).length > 0) throw error
  }
  await removeGroup(cluster, migrationName(group))
}

async function resume(
  cluster: Cluster,
  group: string,
  seen: readonly string[] | undefined,
): Promise<PreparedGroup> {
  const isLeft = (await offsetsOfGroup(cluster, migrationName(group))).length > 0
  if (isLeft) {
    await restore(cluster, group)
    await unlock(cluster, group)
  }
  const outcome = isLeft || seen !== undefined ? 'migrated' : 'new'
  return { outcome, changes: seen ?? [] }
}

/** False when another instance has it. */
async function lock(cluster: Cluster, group: string): Promise<boolean> {
  const name = migrationName(group)
  const topic = { name, partitions: 1, replicas: -1, configs: {} }
  const timeoutMs = cluster.requestTimeoutMs
  const outcome = await cluster.callAny('metadata', createTopic, topic, timeoutMs)
  if (outcome.error === ErrorCode.NONE) return true
  if (outcome.error === ErrorCode.TOPIC_ALREADY_EXISTS) return false
  const request = `the topic ${name}, the lock of a migration`
  const detail = outcome.message === null ? '' : `: ${outcome.message}`
  throw refusalOf(request, outcome.error, { detail, right: ['Create', name] })
}

/** If this fails, the next migration waits for the lock in vain, and then removes it. */
async function unlock(cluster: Cluster, group: string): Promise<void> {
  const { requestTimeoutMs } = cluster
  const name = migrationName(group)
  await cluster.callAny('metadata', deleteTopic, name, requestTimeoutMs).catch(() => {})
}

/** Undefined when there is no streams group of that name. */
async function describeGroup(cluster: Cluster, group: string): Promise<DescribedGroup | undefined> {
  const found = await askGroup(cluster, group, async node => {
    const [answer] = await cluster.call(node, 'coordinator', streamsGroupDescribe, [group])
    if (answer === undefined) throw logError('GROUP_INVALID', { group, reason: 'it is not told' })
    return answer
  })
  if (found.error === ErrorCode.GROUP_ID_NOT_FOUND || found.state === 'Dead') return undefined
  if (found.error === ErrorCode.NONE) return found
  const request = `the description of group ${group}`
  const detail = found.message === null ? '' : `: ${found.message}`
  throw refusalOf(request, found.error, { detail, right: ['Describe', group] })
}

async function hasMembers(
  { cluster, group }: StreamsGroupOptions,
  changes: readonly string[],
  members: readonly DescribedMember[],
): Promise<Error> {
  const { sessionTimeoutMs } = await groupSettings(cluster, group)
  const names = members.map(({ memberId, clientHost, endpoint }) => {
    const at = endpoint === null ? clientHost.replace('/', '') : `${endpoint.host}:${endpoint.port}`
    return `${memberId} at ${at}`
  })
  return kafkaError('GROUP_HAS_MEMBERS', {
    group,
    changes: changes.join(', '),
    members: names.join(', ') || 'one that came and went',
    sessionTimeoutMs,
  })
}

/** Joins, or leaves. */
function say(
  cluster: Cluster,
  who: { group: string; memberId: string; joining: JoinFields | null },
) {
  const owned = who.joining === null ? null : noTasks
  const memberEpoch = who.joining === null ? -1 : 0
  const request = { ...who, memberEpoch, endpointEpoch: 0, owned, shutdown: false }
  return askGroup(cluster, who.group, node =>
    cluster.call(node, 'heartbeat', streamsGroupHeartbeat, request),
  )
}

/** Offsets of a group without members, as a whole: read, put, removed with the group. */
import type { TopicPartition } from '../port.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { commitOffsets, deleteGroup, fetchOffsets, type OffsetToCommit } from './group-apis.ts'
import { askGroup } from './group-requests.ts'
import { Backoff } from './pause.ts'

/** Longer than the transactions of an instance that died may stay open. */
const STABLE_MS_MAX = 20_000
/** A request becomes one batch of the broker's own topic, which takes 1 MiB. */
const COMMIT_BYTES_MAX = 500_000
const OFFSET_BYTES = 32

/**
 * All that a group has committed, once no transaction holds any of it; empty when there is no
 * such group. Asked for all, a broker does not tell of a partition whose first commit a transaction
 * still holds: it has to be `among` those named. Rejects with KAFKA_OFFSETS_HELD or KAFKA_REFUSED.
 */
export async function offsetsOfGroup(
  cluster: Cluster,
  group: string,
  among: readonly TopicPartition[] = [],
): Promise<readonly OffsetToCommit[]> {
  if (among.length > 0) await stableOffsets(cluster, group, among)
  return stableOffsets(cluster, group, null)
}

async function stableOffsets(
  cluster: Cluster,
  group: string,
  targets: readonly TopicPartition[] | null,
): Promise<readonly OffsetToCommit[]> {
  const { environment } = cluster
  const beganMs = environment.clock()
  const backoff = new Backoff(environment)
  for (;;) {
    const answer = await askGroup(cluster, group, node =>
      cluster.call(node, 'coordinator', fetchOffsets, group, targets, undefined),
    )
    if (answer.error === ErrorCode.GROUP_ID_NOT_FOUND) return []
    const failed = answer.offsets.find(({ error }) => error !== ErrorCode.NONE)
    const error = failed?.error ?? answer.error
    if (error === ErrorCode.NONE) return answer.offsets.filter(({ offset }) => offset >= 0)
    const waitedMs = environment.clock() - beganMs
    if (error !== ErrorCode.UNSTABLE_OFFSET_COMMIT) {
      const request = `the committed offsets of group ${group}`
      throw refusalOf(request, error, { right: ['Describe', failed?.topic ?? group] })
    }
    if (waitedMs >= STABLE_MS_MAX) {
      throw kafkaError('KAFKA_OFFSETS_HELD', { ...failed, group, waitedMs })
    }
    await backoff.wait()
  }
}

/**
 * Commits these to a group that has no member, making it if need be, and reads them back.
 * Rejects with GROUP_NOT_EMPTY or KAFKA_REFUSED.
 */
export async function putOffsets(
  cluster: Cluster,
  group: string,
  offsets: readonly OffsetToCommit[],
): Promise<void> {
  const request = `offsets for group ${group}`
  for (const chunk of chunksOf(offsets)) {
    const { error } = await askGroup(cluster, group, node =>
      cluster.call(node, 'coordinator', commitOffsets, group, chunk),
    )
    if (fencing.has(error)) throw kafkaError('GROUP_NOT_EMPTY', { group })
    if (error !== ErrorCode.NONE) throw refusalOf(request, error, { right: ['Read', group] })
  }
  const found = new Map((await offsetsOfGroup(cluster, group)).map(one => [keyOf(one), one]))
  for (const wanted of offsets) {
    const { offset, metadata } = found.get(keyOf(wanted)) ?? { offset: -1, metadata: '' }
    if (offset === wanted.offset && metadata === wanted.metadata) continue
    const error = `${keyOf(wanted)} is at ${offset} and not at ${wanted.offset}`
    throw kafkaError('KAFKA_REFUSED', { request, error, detail: '' })
  }
}

/** A group with members answers so to who is none. */
const fencing: ReadonlySet<number> = new Set([
  ErrorCode.UNKNOWN_MEMBER_ID,
  ErrorCode.ILLEGAL_GENERATION,
])

/** Its offsets go with it. Nothing happens when there is none. Rejects as `putOffsets`. */
export async function removeGroup(cluster: Cluster, group: string): Promise<void> {
  const { error } = await askGroup(cluster, group, node =>
    cluster.call(node, 'coordinator', deleteGroup, group),
  )
  if (error === ErrorCode.NONE || error === ErrorCode.GROUP_ID_NOT_FOUND) return
  if (error === ErrorCode.NON_EMPTY_GROUP) throw kafkaError('GROUP_NOT_EMPTY', { group })
  throw refusalOf(`the deletion of group ${group}`, error, { right: ['Delete', group] })
}

function keyOf({ topic, partition }: OffsetToCommit): string {
  return `${topic}-${partition}`
}

function chunksOf(offsets: readonly OffsetToCommit[]): OffsetToCommit[][] {
  const chunks: OffsetToCommit[][] = []
  let bytes = COMMIT_BYTES_MAX
  for (const one of offsets) {
    const size = OFFSET_BYTES + Buffer.byteLength(one.metadata) + one.topic.length
    if (bytes + size > COMMIT_BYTES_MAX) {
      chunks.push([])
      bytes = 0
    }
    chunks.at(-1)!.push(one)
    bytes += size
  }
  return chunks
}

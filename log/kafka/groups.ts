/**
 * What groups have committed, read so that it can be gone on from: never below an offset that a
 * transaction is just committing, and never "nothing" from a coordinator that has not loaded yet
 * (KAFKA-20416: a changelog was then taken as new and the state as empty).
 */
import type { CommittedOffset, GroupMember, TopicPartition } from '../port.ts'
import { checkGroup } from '../topics.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode, isTransient, kindOf, nameOf } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { type FetchedOffset, fetchOffsets, listGroups } from './group-apis.ts'
import { askGroup } from './group-requests.ts'
import { Backoff } from './pause.ts'
import { migrationName } from './streams-group-migration.ts'

/** The broker's default bound on transactions of others is 15 min; ours take 10 s. */
const STABLE_WAIT_MS = 60_000
/** A partition that had an offset and has none: this long the coordinator is doubted. */
const DOUBT_MS = 10_000

export class Groups {
  readonly #cluster: Cluster
  /** Partitions that are known to have an offset, by group and topic id. */
  readonly #known = new Set<string>()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /**
   * What notes, once they are committed, that these have offsets: that nothing is committed
   * cannot be true from then on.
   */
  async noteOf(group: string, offsets: readonly TopicPartition[]): Promise<() => void> {
    const keys = await Promise.all(offsets.map(target => this.#keyOf(group, target)))
    return () => {
      for (const key of keys) this.#known.add(key)
    }
  }

  async committed(
    group: string,
    targets: readonly TopicPartition[],
    member?: GroupMember,
  ): Promise<readonly (CommittedOffset | null)[]> {
    checkGroup(group)
    const { environment } = this.#cluster
    const keys = await Promise.all(targets.map(target => this.#keyOf(group, target)))
    const backoff = new Backoff(environment)
    const beganMs = environment.clock()
    for (;;) {
      const offsets = await this.#found(group, targets, member)
      const waitedMs = environment.clock() - beganMs
      const unstable = offsets.find(({ error }) => error !== 0)
      if (unstable !== undefined) {
        if (!isTransient(unstable.error)) throw refusal(group, unstable, member)
        if (waitedMs >= STABLE_WAIT_MS) throw held(group, unstable, waitedMs)
      } else {
        const lost = offsets.findIndex(({ offset }, i) => offset < 0 && this.#known.has(keys[i]!))
        if (lost < 0) {
          for (const [i, { offset }] of offsets.entries())
            if (offset >= 0) this.#known.add(keys[i]!)
          return offsets.map(toCommitted)
        }
        if (waitedMs >= DOUBT_MS) {
          throw kafkaError('KAFKA_OFFSETS_LOST', { group, ...offsets[lost]! })
        }
      }
      await backoff.wait()
    }
  }

  /** Groups that have members or offsets, of every type, by name. */
  async list(): Promise<readonly string[]> {
    const lists = await Promise.all(this.#cluster.nodes.map(node => this.#listAt(node)))
    const listed = lists.flat()
    const kept = await Promise.all(
      listed.map(async ({ group, state }) => {
        if (state === 'Dead') return false
        // Its topics are gone and their offsets with them, but its name stays for days.
        return state !== 'Empty' || (await this.#fetch(group, null)).length > 0
      }),
    )
    return listed
      .filter((_, i) => kept[i])
      .map(({ group }) => group)
      .sort()
  }

  /**
   * While a changed topology takes the group over, its offsets are in the copy; or in the group
   * again, when the copy is gone. Who took them for not there would take the application for new.
   */
  async #found(
    group: string,
    targets: readonly TopicPartition[],
    member?: GroupMember,
  ): Promise<readonly FetchedOffset[]> {
    const offsets = await this.#fetch(group, targets, member)
    const isThere = ({ offset, error }: FetchedOffset) => offset >= 0 || error !== 0
    if (member !== undefined || offsets.every(isThere)) return offsets
    const copy = await this.#fetch(migrationName(group), targets)
    const again = await this.#fetch(group, targets)
    return again.map((one, i) => (isThere(one) ? one : copy[i]!))
  }

  /** By topic id: a topic created anew has no offsets. */
  async #keyOf(group: string, target: TopicPartition): Promise<string> {
    const { id } = await this.#cluster.partitionTopic(target)
    return `${id}/${target.partition}/${group}`
  }

  /** Again until the group's coordinator answers; codes of partitions are the caller's. */
  async #fetch(
    group: string,
    targets: readonly TopicPartition[] | null,
    member?: GroupMember,
  ): Promise<readonly FetchedOffset[]> {
    const answer = await askGroup(this.#cluster, group, async node => {
      const fetched = await this.#cluster.call(
        node,
        'coordinator',
        fetchOffsets,
        group,
        targets,
        member,
      )
      const moved = fetched.offsets.find(({ error }) => kindOf(error) === 'refresh')
      return fetched.error === 0 && moved !== undefined
        ? { ...fetched, error: moved.error }
        : fetched
    })
    if (answer.error === ErrorCode.GROUP_ID_NOT_FOUND) return nothing(targets)
    if (answer.error !== 0) throw refusal(group, answer, member)
    if (targets === null) return answer.offsets.filter(({ offset }) => offset >= 0)
    const byKey = new Map(answer.offsets.map(one => [`${one.topic}/${one.partition}`, one]))
    return targets.map(target => byKey.get(`${target.topic}/${target.partition}`) ?? none(target))
  }

  async #listAt(node: number) {
    const { environment, requestTimeoutMs } = this.#cluster
    const untilMs = environment.clock() + requestTimeoutMs
    const backoff = new Backoff(environment)
    for (;;) {
      const { error, groups } = await this.#cluster.call(node, 'metadata', listGroups)
      if (error === 0) return groups
      if (!isTransient(error) || environment.clock() >= untilMs) {
        throw refusalOf('the list of groups', error)
      }
      await backoff.wait()
    }
  }
}

function nothing(targets: readonly TopicPartition[] | null): readonly FetchedOffset[] {
  return (targets ?? []).map(none)
}

function none({ topic, partition }: TopicPartition): FetchedOffset {
  return { topic, partition, offset: -1, leaderEpoch: -1, metadata: '', error: 0 }
}

function toCommitted({ topic, partition, offset, metadata }: FetchedOffset) {
  return offset < 0 ? null : { topic, partition, offset, metadata }
}

function held(group: string, { topic, partition }: TopicPartition, waitedMs: number): Error {
  return kafkaError('KAFKA_OFFSETS_HELD', { group, topic, partition, waitedMs })
}

const FENCED: ReadonlySet<number> = new Set([
  ErrorCode.STALE_MEMBER_EPOCH,
  ErrorCode.FENCED_MEMBER_EPOCH,
  ErrorCode.UNKNOWN_MEMBER_ID,
])

function refusal(
  group: string,
  { error, topic }: { readonly error: number; readonly topic?: string },
  member: GroupMember | undefined,
): Error {
  if (member !== undefined && FENCED.has(error)) {
    const { id: memberId, epoch: memberEpoch } = member
    return kafkaError('KAFKA_MEMBER_STALE', { group, memberId, memberEpoch, reason: nameOf(error) })
  }
  const right = ['Describe', topic ?? group] as const
  return refusalOf(`the committed offsets of group ${group}`, error, { right })
}

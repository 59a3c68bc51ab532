/** What the replies of a group's coordinator mean to a member. */
import type { MillraceError } from '../errors.ts'
import type { Assignment, MembershipState } from '../membership.ts'
import { countTasks, hasTasks } from '../task-ids.ts'
import { ErrorCode, isTransient, nameOf } from './error-codes.ts'
import { forbidden, kafkaError } from './errors.ts'
import type { GroupStatus, HeartbeatReply } from './streams-group-wire.ts'

/**
 * - `good`: the heartbeat was processed, and the reply says all.
 * - `unknown`: it may have been processed, and its reply lost: a coordinator that moves or times
 *   out answers so too, with the change already written.
 * - `fenced`: the group has removed the member, or does not know it.
 * - `refused`: trying again cannot help.
 */
export type Verdict =
  | { readonly kind: 'good' }
  | { readonly kind: 'unknown'; readonly reason: string }
  | { readonly kind: 'fenced'; readonly reason: string }
  | { readonly kind: 'refused'; readonly error: MillraceError }

const fencing: ReadonlySet<number> = new Set([
  ErrorCode.UNKNOWN_MEMBER_ID,
  ErrorCode.FENCED_MEMBER_EPOCH,
])

const otherKinds: ReadonlySet<number> = new Set([
  ErrorCode.GROUP_ID_NOT_FOUND,
  ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
])

const badTopologies: ReadonlySet<number> = new Set([
  ErrorCode.STREAMS_INVALID_TOPOLOGY,
  ErrorCode.STREAMS_INVALID_TOPOLOGY_EPOCH,
  ErrorCode.STREAMS_TOPOLOGY_FENCED,
])

/** The broker's text of INVALID_REQUEST for a join with another topology than the group's. */
const TOPOLOGY_UPDATE = /topology update/i

function refusalOfJoin(group: string, reply: HeartbeatReply): MillraceError {
  const { error } = reply
  const reason = reply.message ?? nameOf(error)
  if (error === ErrorCode.INVALID_REQUEST && TOPOLOGY_UPDATE.test(reason)) {
    return kafkaError('GROUP_TOPOLOGY_DIFFERS', { group })
  }
  const isGroup = error === ErrorCode.GROUP_AUTHORIZATION_FAILED
  const right = isGroup ? (['Read', group] as const) : (['Describe', `${group}-…`] as const)
  const denial = forbidden(`the membership of group ${group}`, error, right)
  if (denial !== undefined) return denial
  if (badTopologies.has(error)) return kafkaError('GROUP_TOPOLOGY_INVALID', { reason })
  if (otherKinds.has(error)) return kafkaError('GROUP_OF_OTHER_KIND', { group })
  return kafkaError('GROUP_REFUSED', { group, error: nameOf(error), reason })
}

export function judge(group: string, reply: HeartbeatReply, joining: boolean): Verdict {
  const { error } = reply
  if (error === ErrorCode.NONE) return { kind: 'good' }
  const reason = `${nameOf(error)}${reply.message === null ? '' : `: ${reply.message}`}`
  const passing = error === ErrorCode.UNKNOWN_SERVER_ERROR || isTransient(error)
  if (passing || error === ErrorCode.GROUP_MAX_SIZE_REACHED) return { kind: 'unknown', reason }
  // A member whose owned tasks the topology no longer has gets INVALID_REQUEST, and as a member
  // of a group that is gone GROUP_ID_NOT_FOUND: joining anew cures both.
  if (fencing.has(error)) return { kind: 'fenced', reason }
  const anew = error === ErrorCode.INVALID_REQUEST || error === ErrorCode.GROUP_ID_NOT_FOUND
  if (!joining && anew) return { kind: 'fenced', reason }
  return { kind: 'refused', error: refusalOfJoin(group, reply) }
}

const MISSING_SOURCE_TOPICS = 1
const WRONG_PARTITIONS = 2
const MISSING_INTERNAL_TOPICS = 3
const SHUTDOWN = 4
const ASSIGNMENT_DELAYED = 5

const problems: ReadonlyMap<number, Parameters<typeof kafkaError>[0]> = new Map([
  [MISSING_SOURCE_TOPICS, 'GROUP_SOURCES_MISSING'],
  [WRONG_PARTITIONS, 'GROUP_PARTITIONS_DIFFER'],
  [MISSING_INTERNAL_TOPICS, 'GROUP_TOPICS_MISSING'],
])

export interface GroupCondition {
  /** What keeps the group from placing tasks. */
  readonly error: MillraceError | undefined
  readonly shutdownRequested: boolean
  /** The group will place tasks by itself after a moment. */
  readonly delayed: boolean
}

export const noCondition: GroupCondition = {
  error: undefined,
  shutdownRequested: false,
  delayed: false,
}

/** The gravest of the group's statuses; codes of newer brokers are left alone. */
export function conditionOf(group: string, statuses: readonly GroupStatus[]): GroupCondition {
  const found = (code: number) => statuses.find(status => status.code === code)
  const problem = statuses
    .filter(({ code }) => problems.has(code))
    .sort((a, b) => a.code - b.code)[0]
  const detail = problem && shortened(problem.detail.replace(/\.+$/, ''))
  return {
    error: problem && kafkaError(problems.get(problem.code)!, { group, detail }),
    shutdownRequested: found(SHUTDOWN) !== undefined,
    delayed: found(ASSIGNMENT_DELAYED) !== undefined,
  }
}

const DETAIL_MAX = 300

/** A broker names every topic that is missing. */
function shortened(detail: string): string {
  return detail.length <= DETAIL_MAX ? detail : `${detail.slice(0, DETAIL_MAX)}…`
}

/** What the status of a member in good standing says. */
export function describeTasks(
  target: Assignment,
  { error, delayed }: GroupCondition,
): { state: MembershipState; detail: string } {
  if (hasTasks(target)) {
    const standbys = countTasks(target.standby) + countTasks(target.warmup)
    const detail = `${countTasks(target.active)} active and ${standbys} standby tasks.`
    return { state: 'stable', detail: error?.message ?? detail }
  }
  if (error !== undefined) return { state: 'waiting', detail: error.message }
  if (delayed) return { state: 'waiting', detail: 'The group is about to place its tasks.' }
  return { state: 'idle', detail: 'The group has no task for this instance at present.' }
}

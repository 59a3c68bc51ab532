/**
 * The port between engine and group membership: which tasks this instance holds, who says so,
 * and the promises both sides make. `log/kafka` implements it with a streams group. An engine
 * without a membership holds all tasks.
 *
 * What the engine does, in the order of a task's life:
 *
 * 1. `target` names a task it does not hold: it says so with `own` and takes the task (offsets
 *    until stable, restore to the high watermark, run: law 3).
 * 2. `target` no longer names a task it holds: it collects nothing more of it, finishes or aborts
 *    every epoch that holds it, applies, stops answering for it, and only then leaves it out of
 *    `own` (law 15). Nobody else gets the task before that, and it does not come back before.
 * 3. `target` becomes undefined: others may already have its tasks. It aborts the open
 *    transaction, drops every task (state stays on disk) and says `own(noTasks)`, also when it
 *    held none; until then it gets no new target.
 * 4. `settling`: it lets the open transaction end, begins none, and says `settled()`.
 * 5. `alive` is false: it stops committing, and its views answer 503 (law 15).
 *
 * A transaction names `memberId` and the `epoch` at which it *began*: the broker takes the
 * current epoch for any partition, and only an older one shows that a task has moved (law 2).
 */
import type { MillraceError } from './errors.ts'

/** Tasks: sub-topology id -> partitions, rising. */
export interface TaskIds {
  readonly [subTopology: string]: readonly number[]
}

export interface Assignment {
  readonly active: TaskIds
  /** Copies to be kept restored, never on the process that has the task active. */
  readonly standby: TaskIds
  /** Copies on their way to become active here. Brokers up to 4.3 assign none. */
  readonly warmup: TaskIds
}

export const noTasks: Assignment = { active: {}, standby: {}, warmup: {} }

export interface InternalTopic {
  readonly name: string
  /** Sent as they are; the broker adds none, so retention and cleanup belong here (law 4). */
  readonly configs: Readonly<Record<string, string>>
}

export interface RepartitionTopic extends InternalTopic {
  /** 0: as many as the sub-topology that writes it has. */
  readonly partitions: number
}

export interface GroupSubTopology {
  readonly id: string
  readonly sourceTopics: readonly string[]
  /** Get as many partitions as the sub-topology has tasks. */
  readonly changelogs: readonly InternalTopic[]
  /** Names of the repartition topics it writes. */
  readonly repartitionSinks: readonly string[]
  /** The repartition topics it reads. */
  readonly repartitionSources: readonly RepartitionTopic[]
  /**
   * Topics (source or repartition) whose records meet in one task, group by group: refused, with
   * a clear error, when their partition counts differ. Undeclared, differing counts pass.
   */
  readonly copartitionGroups: readonly (readonly string[])[]
}

/**
 * What the group knows of the application. It cannot be changed while the group has members, so
 * settings that are meant to change stay out of it. The order of lists means nothing.
 */
export interface GroupTopology {
  readonly subTopologies: readonly GroupSubTopology[]
}

/** Where the tasks of a member can be asked for, by the group's own account. */
export interface MemberEndpoint {
  readonly host: string
  readonly port: number
  readonly active: TaskIds
  readonly standby: TaskIds
}

export type MembershipState =
  /** No answer to a join yet. */
  | 'joining'
  /** A member, but the group has not placed tasks yet, or cannot: `detail` says why. */
  | 'waiting'
  /** A member for which the group has no task: there are more instances than tasks. */
  | 'idle'
  /** A member that holds, or is taking and giving up, what `target` says. */
  | 'stable'
  /** The group has removed the member: it joins anew once the engine said `own(noTasks)`. */
  | 'fenced'
  /** The last heartbeat has no definite answer: the member tries to join again. */
  | 'unreachable'
  /** It has left, by its own wish. */
  | 'left'
  /** It cannot be a member: `error` says why. Final. */
  | 'failed'

export interface MembershipStatus {
  readonly state: MembershipState
  /** A sentence for people. */
  readonly detail: string
  /** When the state began, epoch ms. */
  readonly sinceMs: number
  /**
   * What keeps the group from placing tasks (missing or wrongly partitioned topics), or why the
   * state is `failed`. Present problems of the world that may pass have recovery `retry`.
   */
  readonly error: MillraceError | undefined
  /** A member has asked the whole application to shut down: the instance should close. */
  readonly shutdownRequested: boolean
}

export interface Membership {
  readonly memberId: string
  /**
   * Epoch of the membership, named in offset commits: read it as a transaction begins. It does not
   * rise while the engine holds a task that is no longer the member's.
   */
  readonly epoch: number
  /** What this member should hold, whole; undefined before the first and after fencing. */
  readonly target: Assignment | undefined
  readonly status: MembershipStatus
  /**
   * True from a lost reply until the member has joined again. The lost reply may have asked for
   * tasks, and joining again gives those up at once: begin no transaction meanwhile.
   */
  readonly settling: boolean
  /**
   * False when no heartbeat was answered well for the session timeout: others may have the tasks.
   * Read it before each commit; it does not wait for a timer.
   */
  readonly alive: boolean
  /** The members' endpoints that the group last told, this one's own among them. */
  readonly endpoints: readonly MemberEndpoint[]
  /** Called after `target`, `status`, `settling`, `alive` or `endpoints` changed. */
  onChange(listener: () => void): () => void
  /**
   * What this member holds from now on, whole: a task is in it from the moment the engine begins
   * to take it until it is really given up (committed, applied, closed). Heartbeats repeat it to
   * the group, at once when it shrinks.
   */
  own(owned: Assignment): void
  /**
   * No transaction is open and none will begin while `settling`. The member waits for it only for
   * a heartbeat interval: a transaction that is still open then is refused if a task has moved.
   */
  settled(): void
  /** Asks the group at once, to be used when it refused an offset commit: has the member moved? */
  confirm(): void
  /** Asks all instances of the application, this one included, to shut down. */
  requestShutdown(): void
  /**
   * The end of this membership, to be said when all transactions are ended and tasks are closed.
   * `give-up` (default): others get the tasks at once. `remain`: says nothing, so the tasks wait
   * for a restart with the same member id, which moves nothing, for up to the session timeout.
   * Resolves when the group has answered or cannot be reached.
   */
  leave(tasks?: 'give-up' | 'remain'): Promise<void>
}

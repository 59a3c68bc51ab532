/** What the engine asks of the outside: clock, timers and places to be killed at, as arguments. */
import type { Database } from '../log/database.ts'
import type { Membership } from '../log/membership.ts'
import type { CommitCrashPoint, EventLog, LogEnvironment } from '../log/port.ts'
import type { SideReason } from './operator.ts'
import type { Plan } from './plan.ts'
import type { RetryPolicy } from './retries.ts'
import type { Tracing } from './spans.ts'
import type { Topology } from './topology.ts'

/** Places where a crash test kills the process: between durable facts, or beside one. */
export type CrashPoint =
  | 'polled'
  | 'run'
  | 'log-committed'
  | 'store-applied'
  | 'published'
  | 'restore-mid'
  | 'expire-mid'
  | 'close-mid'
  /** Tasks are given up here, and the group does not know it yet. */
  | 'revoke-mid'
  /** A standby has stopped following its changelogs, and the task is not open yet. */
  | 'promote-mid'
  | CommitCrashPoint

export interface EngineEnvironment extends LogEnvironment {
  /** Lets timers and sockets have their turn; the engine calls it about every 2 ms of work. */
  readonly yieldNow: () => Promise<void>
  readonly reached?: (point: CrashPoint) => void
  /** Absent: nothing is traced, and contexts are passed on where headers are. */
  readonly tracing?: Tracing
}

export interface EngineOptions {
  readonly topology: Topology
  readonly log: EventLog
  readonly database: Database
  readonly environment: EngineEnvironment
  readonly settings?: Partial<EngineSettings>
  /** Joins the group that spreads the tasks over instances; absent, all tasks run here. */
  readonly join?: (plan: Plan) => Promise<Membership>
  /** Called when an epoch failed and is tried again, or when the engine gave up. */
  readonly onError?: (error: unknown) => void
}

/** Where steps with state begin that a running application did not have: see `branches.ts`. */
export type NewState =
  /** At the beginning of their inputs, as far as the topics still have them. */
  | 'beginning'
  /** With what is read from now on, together with the steps that are there. */
  | 'now'

export interface EngineSettings {
  /** An epoch takes in records for this long at most, ms. */
  readonly epochMsMax: number
  /** From one epoch's beginning to the next one's at least, ms: a transaction has its price. */
  readonly epochMsMin: number
  readonly epochRecordsMax: number
  /** Fetched and not yet processed, bytes a source partition. */
  readonly bufferBytesMax: number
  /** Collect takes records at most this far ahead of the slowest partition's next, ms. */
  readonly alignMs: number
  /** A partition read to its end for this long leaves the watermark, ms; Infinity for never. */
  readonly idleAfterMs: number
  /** A record further ahead of the clock is refused, ms. */
  readonly futureMsMax: number
  /** Partitions of input topics that are missing; undefined makes a missing one an error. */
  readonly createPartitions: number | undefined
  /** Heap for cached rows and blocks of the whole instance, bytes: an equal part for each store. */
  readonly storeCacheBytes: number
  /** How often `onWallClock` of operators is called, ms. */
  readonly wallClockIntervalMs: number
  /** Progress without records is told to tasks elsewhere at most this often, ms (law 6). */
  readonly watermarkIntervalMs: number
  /** Repartition topics are trimmed of what is committed as read at most this often, ms. */
  readonly trimIntervalMs: number
  /** Rows that a step closes in one epoch; a larger close takes several (law 13). */
  readonly closeRowsMax: number
  readonly newState: NewState
  /** Of steps that have no policy of their own. */
  readonly retry: RetryPolicy
  /** Reasons for which records become dead letters although a side output takes them. */
  readonly deadLetters: readonly SideReason[]
}

export const defaultSettings: EngineSettings = {
  epochMsMax: 100,
  epochMsMin: 0,
  epochRecordsMax: 50_000,
  bufferBytesMax: 4 * 1024 * 1024,
  alignMs: 10_000,
  idleAfterMs: 30_000,
  futureMsMax: 24 * 60 * 60 * 1000,
  createPartitions: 4,
  storeCacheBytes: 512 * 1024 * 1024,
  wallClockIntervalMs: 1000,
  watermarkIntervalMs: 100,
  trimIntervalMs: 10_000,
  closeRowsMax: 10_000,
  newState: 'beginning',
  retry: { attempts: 5, firstMs: 100, maxMs: 10_000 },
  deadLetters: [],
}

/**
 * What an operator is. It holds only its own step: offsets, watermarks, commit and forwarding
 * live once in `task.ts`. A batch passes an operator in two phases, `prepare` (find what is not
 * in memory, read it with one asynchronous call) and `process` (synchronous, per record).
 */
import type { AppendStore, Codec, RowStore } from '../state/port.ts'
import type { Batch } from './batch.ts'
import type { Closing } from './closing.ts'
import type { CrashPoint } from './environment.ts'

export const sideReasons = [
  'late',
  'null-key',
  'poison',
  'duplicate',
  'overflow',
  'too-large',
] as const
/** Why a record leaves the flow. */
export type SideReason = (typeof sideReasons)[number]

/** What is not to be told from the error. */
export interface FailureContext {
  readonly reason?: SideReason
  /** What was being done, before the error's message. */
  readonly during?: string
  /** The step keeps some of the record, so that it cannot be replayed. */
  readonly isPart?: boolean
}

/** The batches an operator fills; the task forwards them when the call returns. */
export interface Outputs {
  main: Batch | undefined
  /** Takes record `i` out of the flow, with the reason, counted and sent to the side output. */
  drop(input: Batch, i: number, reason: SideReason, detail?: string): void
  /** The same of one that the step keeps some of, so that it cannot be replayed. */
  dropPart(input: Batch, i: number, reason: SideReason, detail: string): void
  /**
   * The same for a record whose processing threw, by `overflow` for a RangeError and else by
   * `poison`, unless it is to be tried again: then it throws, and the epoch with it. Unless the
   * context says that some of it is, nothing of the record is kept either way.
   */
  fail(input: Batch, i: number, error: unknown, about?: FailureContext): void
}

export interface Operator {
  /** Reads what `process` will need; undefined when it is all in memory. */
  prepare?(input: Batch, port: number): Promise<void> | undefined
  process(input: Batch, port: number, out: Outputs): void
  /**
   * The input watermark reached `watermarkMs`: everything not late at or below it has been
   * processed. `prepareClose` reads, `close` emits final results and drops state.
   *
   * A step closes at most `closeRowsMax` rows. When some are left, `prepareClose` resolves with
   * how far it came, and both are called again in the next epoch, with that as `from` (law 13).
   */
  prepareClose?(watermarkMs: number, from?: Closing): Promise<Closing | undefined> | undefined
  close?(watermarkMs: number, out: Outputs): void
  /** What may be forwarded once `close` returned; the input watermark unless given (law 8). */
  forwardedWatermark?(watermarkMs: number): number
  /**
   * Both are called about every `wallClockIntervalMs` with the caller's clock, and in the next
   * epoch again when `prepareWallClock` resolves with true: more is due than a step may do.
   */
  prepareWallClock?(wallTimeMs: number): Promise<boolean> | undefined
  onWallClock?(wallTimeMs: number, out: Outputs): void
  /** What was committed, before the first batch after a start: the watermark, what it left. */
  resume?(watermarkMs: number, closing?: Closing): Promise<void> | undefined
}

/** A partition of a source topic. */
export interface RecordOrigin {
  readonly topic: string
  readonly partition: number
}

/** What an operator gets of its task. */
export interface OperatorContext {
  readonly partition: number
  /** All source partitions, by their place in the `sources` column of batches. */
  readonly origins: readonly RecordOrigin[]
  rowStore<V>(name: string): RowStore<V>
  appendStore(name: string): AppendStore
  /** Somebody takes the main output; without, changes need not be put together. */
  readonly observed: boolean
  /** The watermark all earlier rounds have reached; a returning idle partition may be behind. */
  watermarkMs(): number
  wallTimeMs(): number
  /** Rows that a step may close, delete or call timers for at once. */
  readonly closeRowsMax: number
  /** Marks a place where a crash test may kill the process. */
  reached(point: CrashPoint): void
}

export type StoreSpec =
  | {
      readonly kind: 'rows'
      readonly name: string
      readonly codec: Codec<unknown>
      /** The step puts a record aside whose row is larger than the changelog takes. */
      readonly refusesLarge?: boolean
    }
  | { readonly kind: 'blocks'; readonly name: string; readonly segmentMs: number }

/** When results of a node leave it (law 8). */
export type Emission = 'records' | 'updates' | 'final'

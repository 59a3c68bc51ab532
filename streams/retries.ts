/**
 * Records whose processing failed with an error that may pass: how often each was tried, and until
 * when it waits. Meanwhile the partition that it was read from waits at it, so that no record of
 * its key overtakes it, and all others go on (docs/decisions/0008). Kept in memory: a new process,
 * or another instance that gets the task, begins to count anew.
 */
import { NO_SOURCE } from './batch.ts'

/**
 * Thrown by a function of a step (predicate, mapper, joiner, aggregator, processor, serde) when the
 * same record may well succeed later. Any error with `retriable: true` does the same.
 */
export class RetriableError extends Error {
  override readonly name: string = 'RetriableError'
  readonly retriable = true
}

export function isRetriable(error: unknown): boolean {
  return (error as { retriable?: unknown } | null | undefined)?.retriable === true
}

/** It is no fault of the record and passes: with `pending: true`, too, it is never given up. */
function isPending(error: unknown): boolean {
  return (error as { pending?: unknown } | null | undefined)?.pending === true
}

/** How often a step tries a record again whose processing fails with a retriable error. */
export interface RetryPolicy {
  /** In all, the first included; 1 tries nothing again. */
  readonly attempts: number
  /** From the first failure to the second attempt, ms; doubled from attempt to attempt. */
  readonly firstMs: number
  /** No wait is longer, ms. */
  readonly maxMs: number
}

/** Ends an epoch: its record is to be tried again. Nothing is wrong with what is committed. */
export class RetryLater extends Error {
  override readonly name = 'RetryLater'
}

/** What a record is known by: where its source partition stands in the plan, and its offset. */
export interface RecordOrigin {
  readonly source: number
  readonly offset: number
}

export interface Failure extends RecordOrigin {
  readonly timeMs: number
  readonly step: string
  readonly policy: RetryPolicy
  readonly error: unknown
  /** Tells apart what a timer or a closing makes at one time. */
  readonly key?: unknown
}

interface Waiting {
  readonly attempts: Map<string, number>
  untilMs: number
  /** It is in an epoch that is not committed yet. */
  taken: boolean
}

export class Retries {
  readonly #clock: () => number
  readonly #waiting = new Map<string, Waiting>()
  /** Of results of closing and of timers: no partition waits at them. */
  readonly #sourceless = new Map<string, number>()
  #allUntilMs = Number.NEGATIVE_INFINITY
  readonly #counts = new Map<string, number>()

  constructor(clock: () => number) {
    this.#clock = clock
  }

  /** Some record is being tried again. */
  get any(): boolean {
    return this.#waiting.size > 0
  }

  /** Failed attempts after which a record was tried again, by step. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts
  }

  /** Gives the number of attempts when there are to be no more. Throws RetryLater otherwise. */
  failed(failure: Failure): number {
    const { step, policy, error, source } = failure
    const attempts = this.#attemptsBefore(failure) + 1
    if (!isRetriable(error)) return attempts
    if (attempts >= policy.attempts && !isPending(error)) return attempts
    const delayMs = Math.min(policy.firstMs * 2 ** (attempts - 1), policy.maxMs)
    const untilMs = this.#clock() + delayMs
    if (source === NO_SOURCE) this.#holdAll(failure, attempts, untilMs)
    else this.#hold(failure, attempts, untilMs)
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + 1)
    throw new RetryLater(`${step} tries a record again in ${delayMs} ms`)
  }

  #attemptsBefore(failure: Failure): number {
    const { step, source, offset } = failure
    if (source === NO_SOURCE) return this.#sourceless.get(sourceless(failure)) ?? 0
    return this.#waiting.get(idOf(source, offset))?.attempts.get(step) ?? 0
  }

  #hold({ step, source, offset }: Failure, attempts: number, untilMs: number): void {
    const id = idOf(source, offset)
    const waiting = this.#waiting.get(id) ?? { attempts: new Map(), untilMs, taken: false }
    waiting.attempts.set(step, attempts)
    waiting.untilMs = untilMs
    this.#waiting.set(id, waiting)
  }

  #holdAll(failure: Failure, attempts: number, untilMs: number): void {
    this.#allUntilMs = untilMs
    this.#sourceless.set(sourceless(failure), attempts)
  }

  /** How long a record is not to be taken yet, ms. */
  heldMs(source: number, offset: number): number {
    const waiting = this.#waiting.get(idOf(source, offset))
    return waiting === undefined ? 0 : Math.max(waiting.untilMs - this.#clock(), 0)
  }

  /** How long nothing at all is to run: what failed was no record of a partition, ms. */
  get allHeldMs(): number {
    return Math.max(this.#allUntilMs - this.#clock(), 0)
  }

  /** The record goes into the epoch that is being made. */
  take(source: number, offset: number): void {
    const waiting = this.#waiting.get(idOf(source, offset))
    if (waiting !== undefined) waiting.taken = true
  }

  /** To be called once the epoch being sealed is committed: what it took is over. */
  seal(): () => void {
    const taken = [...this.#waiting].filter(([, waiting]) => waiting.taken).map(([id]) => id)
    const settled = [...this.#sourceless.keys()]
    return () => {
      for (const id of taken) this.#waiting.delete(id)
      for (const id of settled) this.#sourceless.delete(id)
    }
  }

  /** No epoch is under way any more: what they took is taken again. */
  rewind(): void {
    for (const waiting of this.#waiting.values()) waiting.taken = false
  }
}

function idOf(source: number, offset: number): string {
  return `${source}/${offset}`
}

function sourceless({ step, timeMs, offset, key }: Failure): string {
  const text = (_: string, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value)
  return `${step}@${timeMs}/${offset} ${JSON.stringify(key, text)}`
}

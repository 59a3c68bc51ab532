/**
 * When each record of a replay is due, and at which time its event then happened. All deadlines
 * follow from one anchor: what is late does not move what comes after it.
 *
 * Passes follow each other in event time, too: each begins where the one before it would have gone
 * on. With `rewriteNow` all times are moved by one and the same amount, so that gaps, order and
 * lateness stay, and no record is ahead of the moment at which it is due.
 */
import type { Recording } from './reader.ts'

export type Pace =
  /** As the events followed each other, so many times as fast. */
  | { readonly kind: 'speed'; readonly factor: number }
  /** So many records a second, evenly. */
  | { readonly kind: 'rate'; readonly perSecond: number }
  /** As fast as the target takes them. */
  | { readonly kind: 'max' }

/** What a record's time and identity become. */
export interface Change {
  /** Added to its times, ms. */
  readonly shiftMs: number
  /** From 0. */
  readonly pass: number
}

export interface PlanOptions {
  readonly pace: Pace
  readonly passes: number
  readonly rewriteNow: boolean
  /** Epoch ms: when the replay begins. */
  readonly anchorMs: number
  /** Epoch ms: the first stream time of the recording that is one. */
  readonly startMs: number
}

export class Plan {
  /** Of all passes. */
  readonly records: number
  /** How long it takes when the target keeps up, ms; 0 at `max`. */
  readonly lengthMs: number
  /** Event time of the last record of the last pass, epoch ms. */
  readonly lastEventMs: number
  readonly #options: PlanOptions
  readonly #periodMs: number
  readonly #shiftMs: number

  constructor({ blocks }: Pick<Recording, 'blocks'>, options: PlanOptions) {
    const { pace, passes, rewriteNow, anchorMs, startMs } = options
    const spans = blocks.flatMap(block => block.spans)
    const once = spans.reduce((sum, span) => sum + span.records, 0)
    const endMs = spans.reduce((max, span) => Math.max(max, span.maxTimestamp), startMs)
    const spanMs = endMs - startMs
    this.#options = options
    this.#periodMs = spanMs + Math.max(1, Math.round(spanMs / Math.max(1, once - 1)))
    this.records = once * passes
    const eventMs = spanMs + (passes - 1) * this.#periodMs
    this.lengthMs =
      pace.kind === 'max'
        ? 0
        : pace.kind === 'rate'
          ? (Math.max(0, this.records - 1) / pace.perSecond) * 1000
          : eventMs / pace.factor
    // By the start alone a replay faster than the events would end ahead of the clock. At a rate
    // events may come sooner or later than they followed each other, so all lie before the start.
    const paceMs = pace.kind === 'speed' ? this.lengthMs : 0
    const shift = anchorMs - startMs + Math.min(0, paceMs - eventMs)
    this.#shiftMs = rewriteNow ? Math.floor(shift) : 0
    this.lastEventMs = startMs + eventMs + this.#shiftMs
  }

  /** Records a second; undefined at `max`, and where all are due at once. */
  get askedRate(): number | undefined {
    const { pace } = this.#options
    if (pace.kind === 'rate') return pace.perSecond
    return this.lengthMs > 0 ? (this.records / this.lengthMs) * 1000 : undefined
  }

  /**
   * When the record is due that is the `index`-th of all passes, by the clock of the anchor;
   * -Infinity at `max`.
   */
  dueMs(index: number, pass: number, streamTimeMs: number): number {
    const { pace, anchorMs, startMs } = this.#options
    if (pace.kind === 'max') return Number.NEGATIVE_INFINITY
    if (pace.kind === 'rate') return anchorMs + (index / pace.perSecond) * 1000
    // Before the start are records without a time alone: they go with what comes after them.
    const eventMs = Math.max(0, streamTimeMs - startMs) + pass * this.#periodMs
    return anchorMs + eventMs / pace.factor
  }

  /** What the records of a pass become; undefined where they stay as they are. */
  change(pass: number): Change | undefined {
    const shiftMs = this.#shiftMs + pass * this.#periodMs
    return shiftMs === 0 && pass === 0 ? undefined : { shiftMs, pass }
  }
}

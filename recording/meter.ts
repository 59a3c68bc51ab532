/** What a replay did, measured against its plan. Percentiles are within 1 % (DDSketch). */
import type { MillraceError } from '../log/errors.ts'
import { DDSketch } from '../streams/sketches/ddsketch.ts'
import { type Refusals, SendCutShort } from './port.ts'

export interface Percentiles {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export interface ReplayReport {
  /** Of the plan: all passes. */
  readonly planned: number
  /** Handed over to the target. */
  readonly sent: number
  readonly acknowledged: number
  /** Looked at and refused one by one, by code. */
  readonly refused: Refusals
  /** Handed over, and without an answer when the wait for it was ended. */
  readonly unanswered: number
  /** Due when the replay ended early, and never handed over. */
  readonly overdue: number
  /** Whether it was told to end, and had more to send. */
  readonly interrupted: boolean
  /** The error that ended the replay: how many records it and those after it in flight had. */
  readonly failure: { readonly code: string; readonly message: string; records: number } | null
  /** From the anchor to the last answer, or to the interruption when that came later, ms. */
  readonly elapsedMs: number
  /** Records a second: asked for (null at `max`), and acknowledged. */
  readonly askedRate: number | null
  readonly reachedRate: number
  /** Whether the target took what was asked for, when it was, up to the end; null at `max`. */
  readonly keptUp: boolean | null
  /**
   * Handed over after it was due, ms, of each record; of those that are overdue, how long they were
   * when it ended. Null at `max`.
   */
  readonly latenessMs: Percentiles | null
  /** From handing over to the acknowledgement, ms. */
  readonly ackMs: Percentiles | null
  /** From when it was due to the acknowledgement, ms: both together, of each record. */
  readonly responseMs: Percentiles | null
}

/** Since the progress before it. */
export interface ReplayProgress {
  readonly sent: number
  readonly acknowledged: number
  readonly planned: number
  readonly refused: number
  readonly reachedRate: number
  readonly askedRate: number | undefined
  readonly lateness: Percentiles | null
}

/** How long after the end of the plan the last answer of a target that keeps up may come. */
const KEPT_UP_SHARE = 0.01
const KEPT_UP_MS = 500

/** A distribution of durations, in whole µs. */
class Durations {
  #sketch = new DDSketch()

  add(ms: number, times = 1): void {
    this.#sketch.add(Math.max(0, Math.round(ms * 1000)), times)
  }

  get percentiles(): Percentiles | null {
    const sketch = this.#sketch
    if (sketch.count === 0) return null
    const at = (share: number) => Math.round(sketch.quantile(share)!) / 1000
    return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sketch.max / 1000 }
  }
}

export interface Sending {
  readonly count: number
  /** When each record was due; undefined at `max`. */
  readonly dues: readonly number[] | undefined
  readonly sentMs: number
}

export interface MeterOptions {
  readonly anchorMs: number
  readonly planned: number
  readonly lengthMs: number
  readonly askedRate: number | undefined
}

export class Meter {
  readonly #options: MeterOptions
  readonly #lateness = new Durations()
  readonly #ack = new Durations()
  readonly #response = new Durations()
  readonly #refused: Record<string, number> = {}
  #sent = 0
  #unanswered = 0
  #overdue = 0
  #overdueMs = 0
  #acknowledged = 0
  #failure: ReplayReport['failure'] = null
  #lastMs: number
  #recent = new Durations()
  #recentAcknowledged = 0
  #recentMs: number

  constructor(options: MeterOptions) {
    this.#options = options
    this.#lastMs = options.anchorMs
    this.#recentMs = options.anchorMs
  }

  sent({ count, dues, sentMs }: Sending): void {
    this.#sent += count
    this.#unanswered += count
    for (const due of dues ?? []) {
      this.#lateness.add(sentMs - due)
      this.#recent.add(sentMs - due)
    }
  }

  answered({ count, dues, sentMs }: Sending, refusals: Refusals, nowMs: number): void {
    this.#unanswered -= count
    let refused = 0
    for (const [code, records] of Object.entries(refusals)) {
      this.#refused[code] = (this.#refused[code] ?? 0) + records
      refused += records
    }
    this.#acknowledged += count - refused
    this.#recentAcknowledged += count - refused
    this.#ack.add(nowMs - sentMs, count)
    for (const due of dues ?? []) this.#response.add(nowMs - due)
    this.#lastMs = nowMs
  }

  failed({ count, dues, sentMs }: Sending, error: unknown, nowMs: number): void {
    const isCut = error instanceof SendCutShort
    const { code = 'ERROR', message } = (isCut ? error.cause : error) as Partial<MillraceError>
    const answered = isCut ? error.answered : 0
    if (isCut && answered > 0) {
      const part = { count: answered, dues: dues?.slice(0, answered), sentMs }
      this.answered(part, error.refusals, nowMs)
    }
    this.#unanswered -= count - answered
    this.#failure ??= { code, message: String(message), records: 0 }
    this.#failure.records += count - answered
    this.#lastMs = nowMs
  }

  /** Was due, and is not handed over any more. */
  passedOver(dueMs: number, nowMs: number): void {
    this.#overdue++
    this.#overdueMs = Math.max(this.#overdueMs, nowMs - dueMs)
    this.#lateness.add(nowMs - dueMs)
  }

  get hasFailed(): boolean {
    return this.#failure !== null
  }

  /** What happened since the last call. */
  progress(nowMs: number): ReplayProgress {
    const seconds = Math.max(1, nowMs - this.#recentMs) / 1000
    const progress = {
      sent: this.#sent,
      acknowledged: this.#acknowledged,
      planned: this.#options.planned,
      refused: Object.values(this.#refused).reduce((sum, records) => sum + records, 0),
      reachedRate: this.#recentAcknowledged / seconds,
      askedRate: this.#options.askedRate,
      lateness: this.#recent.percentiles,
    }
    this.#recent = new Durations()
    this.#recentAcknowledged = 0
    this.#recentMs = nowMs
    return progress
  }

  /** `endMs`: when the last record was handed over, or the replay was ended. */
  report({ endMs, isCalledOff }: { endMs: number; isCalledOff: boolean }): ReplayReport {
    const { planned, askedRate } = this.#options
    const interrupted = isCalledOff && (this.#sent < planned || this.#unanswered > 0)
    const lastMs = interrupted ? Math.max(this.#lastMs, endMs) : this.#lastMs
    const elapsedMs = lastMs - this.#options.anchorMs
    const latenessMs = this.#lateness.percentiles
    return {
      planned,
      sent: this.#sent,
      acknowledged: this.#acknowledged,
      refused: { ...this.#refused },
      unanswered: this.#unanswered,
      overdue: this.#overdue,
      interrupted,
      failure: this.#failure && { ...this.#failure },
      elapsedMs,
      askedRate: askedRate ?? null,
      reachedRate: elapsedMs > 0 ? (this.#acknowledged / elapsedMs) * 1000 : 0,
      keptUp: latenessMs === null ? null : this.#keptUp(interrupted ? endMs : undefined),
      latenessMs,
      ackMs: this.#ack.percentiles,
      responseMs: this.#response.percentiles,
    }
  }

  #keptUp(interruptedMs: number | undefined): boolean {
    const { anchorMs, planned, lengthMs } = this.#options
    if (this.#failure !== null || this.#unanswered > 0) return false
    if (this.#sent < planned && interruptedMs === undefined) return false
    const endMs = Math.min(anchorMs + lengthMs, interruptedMs ?? Number.POSITIVE_INFINITY)
    const allowedMs = Math.max(KEPT_UP_MS, (endMs - anchorMs) * KEPT_UP_SHARE)
    // By the answers: what is handed over in time may still wait at the target.
    return this.#lastMs - endMs <= allowedMs && this.#overdueMs <= allowedMs
  }
}

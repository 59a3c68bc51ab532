/**
 * Sends a recording to a target, paced by a plan. A record is sent when it is due or, where the
 * target is busy, as soon after that as may be; it is never sent early, and what is late makes
 * nothing else late. Lateness is measured against the plan, so that a slow target shows.
 *
 * The first send that fails ends the replay, as what comes after it would have a gap before it.
 */
import { MillraceError } from '../log/errors.ts'
import { BlockFeeder, type Feeder, PacedFeeder, type Parcel } from './feeders.ts'
import { Meter, type ReplayProgress, type ReplayReport } from './meter.ts'
import type { ChangeRecord } from './outgoing.ts'
import { type Pace, Plan } from './plan.ts'
import type { ReplayEnvironment, ReplayTarget } from './port.ts'
import type { Recording } from './reader.ts'
import { type Chunk, timeline } from './timeline.ts'

export interface ReplayOptions {
  readonly recording: Recording
  readonly target: ReplayTarget
  readonly environment: ReplayEnvironment
  readonly pace: Pace
  /** How often the recording is sent; default 1. */
  readonly passes?: number
  /** Moves event times to now; default false. */
  readonly rewriteNow?: boolean
  /** Gives records of later passes, or of another time, their content; default: as they are. */
  readonly changeRecord?: ChangeRecord
  /** Ends it; what is under way is waited for. */
  readonly signal?: AbortSignal
  /** Ends that wait, too: what has no answer by then is reported as unanswered. */
  readonly giveUp?: AbortSignal
  readonly onStart?: (plan: Plan) => void
  /** Called every second. */
  readonly onProgress?: (progress: ReplayProgress) => void
}

const PROGRESS_MS = 1000
/** At `max`: enough to have the next parcel there when one is acknowledged. */
const SENDS_AT_MAX = 4

/** Rejects with what the target's `prepare` rejects with, or RECORDING_DAMAGED at the beginning. */
export async function replay(options: ReplayOptions): Promise<ReplayReport> {
  const { recording, target, environment, pace, passes = 1, rewriteNow = false } = options
  await target.prepare(recording.header.topics)
  const isPlain = pace.kind === 'max' && passes === 1 && !rewriteNow
  const chunks = timeline(recording)
  // As they are and as fast as can be, blocks are sent without a look at their times.
  const first = isPlain ? undefined : await chunks.next()
  const startMs = first?.done === false ? await startOf(recording, first.value) : 0
  const anchorMs = environment.clock()
  const plan = new Plan(recording, { pace, passes, rewriteNow, anchorMs, startMs })
  options.onStart?.(plan)
  const { records: planned, lengthMs, askedRate } = plan
  const meter = new Meter({ anchorMs, planned, lengthMs, askedRate })
  const changeRecord = options.changeRecord ?? (() => undefined)
  const batchBytesMax = (topic: string) => target.batchBytesMax?.(topic)
  const feed = { recording, plan, passes, changeRecord, batchBytesMax }
  const isPaced = first !== undefined && pace.kind !== 'max'
  const feeder = isPaced ? new PacedFeeder(feed, { chunks, first }) : new BlockFeeder(feed)
  const sendsMax = Math.min(isPaced ? target.sendsMax : SENDS_AT_MAX, target.sendsMax)
  const run = new ReplayRun(options, feeder, { meter, sendsMax })
  const endMs = await run.run()
  return meter.report({ endMs, isCalledOff: options.signal?.aborted === true })
}

/** Stream time of the first record that has a time: without one it is below 0. */
async function startOf(recording: Recording, first: Chunk): Promise<number> {
  const found = firstTime(first)
  if (found !== undefined) return found
  for await (const chunk of timeline(recording)) {
    const later = firstTime(chunk)
    if (later !== undefined) return later
  }
  return 0
}

function firstTime(chunk: Chunk): number | undefined {
  for (const { streamTimes, start, end } of chunk) {
    const time = streamTimes.subarray(start, end).find(ms => ms >= 0)
    if (time !== undefined) return time
  }
  return undefined
}

/** Never resolves without a signal. */
function aborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise(resolve => {
    if (signal?.aborted === true) resolve()
    signal?.addEventListener('abort', () => resolve(), { once: true })
  })
}

class ReplayRun {
  readonly #options: ReplayOptions
  readonly #feeder: Feeder
  readonly #meter: Meter
  readonly #sendsMax: number
  readonly #sends = new Set<Promise<void>>()
  #bytes = 0
  #wake: () => void = () => {}

  constructor(
    options: ReplayOptions,
    feeder: Feeder,
    { meter, sendsMax }: { readonly meter: Meter; readonly sendsMax: number },
  ) {
    this.#options = options
    this.#feeder = feeder
    this.#meter = meter
    this.#sendsMax = sendsMax
  }

  /** Resolves with when it sent its last, or was ended. */
  async run(): Promise<number> {
    const { signal, environment } = this.#options
    const wake = () => this.#wake()
    signal?.addEventListener('abort', wake)
    const stopProgress = this.#progress()
    try {
      await this.#feed()
      const endMs = environment.clock()
      if (this.#isEnded) await this.#passOver(endMs)
      return endMs
    } finally {
      await Promise.race([Promise.all(this.#sends), aborted(this.#options.giveUp)])
      stopProgress()
      signal?.removeEventListener('abort', wake)
    }
  }

  async #passOver(endMs: number): Promise<void> {
    try {
      for await (const dues of this.#feeder.overdue(endMs)) {
        for (const dueMs of dues) this.#meter.passedOver(dueMs, endMs)
      }
    } catch (error) {
      // Damage: nobody knows what was due behind it.
      if (!(error instanceof MillraceError)) throw error
    }
  }

  get #isEnded(): boolean {
    return this.#meter.hasFailed || this.#options.signal?.aborted === true
  }

  async #feed(): Promise<void> {
    const { clock } = this.#options.environment
    while (!this.#isEnded) {
      const hasMore = await this.#collect()
      if (this.#feeder.sizeBytes > 0) {
        if (this.#hasRoom) this.#send(this.#feeder.take())
        else await this.#pause(undefined)
      } else if (hasMore) await this.#pause(this.#feeder.nextDueMs - clock())
      else return
    }
  }

  /**
   * What is due; false at the end. A recording that is damaged further on, or has a record that
   * cannot be changed, is replayed up to there.
   */
  async #collect(): Promise<boolean> {
    try {
      const hasMore = await this.#feeder.prepare()
      if (hasMore) this.#feeder.collect(this.#options.environment.clock())
      return hasMore
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      const { clock } = this.#options.environment
      this.#meter.failed({ count: 0, dues: undefined, sentMs: clock() }, error, clock())
      return false
    }
  }

  get #hasRoom(): boolean {
    if (this.#sends.size === 0) return true
    const { bytesMax } = this.#options.target
    const bytes = this.#bytes + this.#feeder.sizeBytes
    return this.#sends.size < this.#sendsMax && bytes <= bytesMax
  }

  #send(parcel: Parcel): void {
    const { target, environment } = this.#options
    const sending = { ...parcel, sentMs: environment.clock() }
    this.#meter.sent(sending)
    this.#bytes += parcel.bytes
    const done = target.send(parcel.records).then(
      refusals => this.#meter.answered(sending, refusals, environment.clock()),
      error => this.#meter.failed(sending, error, environment.clock()),
    )
    const ended = done.finally(() => {
      this.#sends.delete(ended)
      this.#bytes -= parcel.bytes
      this.#wake()
    })
    this.#sends.add(ended)
  }

  /** Until a send or the replay ends, or so many ms have passed. */
  #pause(ms: number | undefined): Promise<void> {
    return new Promise(resolve => {
      let cancel = () => {}
      this.#wake = () => {
        this.#wake = () => {}
        cancel()
        resolve()
      }
      if (ms !== undefined) cancel = this.#options.environment.schedule(this.#wake, Math.max(0, ms))
      if (this.#isEnded) this.#wake()
    })
  }

  #progress(): () => void {
    const { environment, onProgress } = this.#options
    if (onProgress === undefined) return () => {}
    let cancel = () => {}
    const again = () => {
      cancel = environment.schedule(() => {
        onProgress(this.#meter.progress(environment.clock()))
        again()
      }, PROGRESS_MS)
    }
    again()
    return () => cancel()
  }
}

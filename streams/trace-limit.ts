/**
 * How many spans are made at most, whatever is sampled elsewhere. Once there are so many in a
 * second, no further record is followed in it, and from then on only a share of the traces: so many
 * as fit. It is doubled again while there is room. Which traces are left out is a matter of their
 * ids, so that instances that are equally loaded leave out the same ones; one that is left out is
 * passed on as it came.
 */
export interface TraceLimitOptions {
  readonly spansPerSecondMax: number
  /** Epoch ms. */
  readonly clock: () => number
}

const SECOND_MS = 1000
const SHARE_MIN = 2 ** -20
/** A second that begins with a great many says little of the next ones. */
const PART_MIN = 1 / 16
/** Of the trace id, hex digits that no sampler decides by: those look at the 56 bits' first. */
const DIGITS = 6

export class TraceLimit {
  readonly #options: TraceLimitOptions
  #share = 1
  #spans = 0
  #sinceMs = Number.NEGATIVE_INFINITY

  constructor(options: TraceLimitOptions) {
    this.#options = options
  }

  /** Part of the traces that are recorded. */
  get share(): number {
    return this.#share
  }

  /** Whether spans are to be made of a trace. */
  admits(traceId: string): boolean {
    return this.#admits(Number.parseInt(traceId.slice(-DIGITS), 16))
  }

  /** The same of a trace id that ends there, of which nothing is made. */
  admitsAt(bytes: Buffer, idEnd: number): boolean {
    let number = 0
    for (let p = idEnd - DIGITS; p < idEnd; p++) {
      const digit = bytes[p]!
      number = number * 16 + (digit >= 0x61 ? digit - 0x57 : digit - 0x30)
    }
    return this.#admits(number)
  }

  #admits(number: number): boolean {
    const { clock, spansPerSecondMax } = this.#options
    const nowMs = clock()
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      if (this.#spans < spansPerSecondMax / 4) this.#share = Math.min(this.#share * 2, 1)
      this.#spans = 0
      this.#sinceMs = nowMs
    }
    if (this.#spans >= spansPerSecondMax) return false
    if (this.#share === 1) return true
    return number < this.#share * 16 ** DIGITS
  }

  /** One was made. */
  count(): void {
    const { clock, spansPerSecondMax } = this.#options
    if (++this.#spans !== spansPerSecondMax) return
    const part = (clock() - this.#sinceMs) / SECOND_MS
    this.#share = Math.max(this.#share * Math.min(Math.max(part, PART_MIN), 1), SHARE_MIN)
  }
}

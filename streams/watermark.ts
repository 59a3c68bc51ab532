/**
 * An operator's watermark: the minimum over its inputs, each an edge from one upstream task or
 * one source partition. An input not yet heard is −∞ and holds everything (law 6); an idle one
 * leaves the minimum (law 7). With all inputs idle the watermark is the largest of their times,
 * so that quiet input does not hold windows open for ever. It never goes back.
 */
export class Watermark {
  readonly #times: Float64Array
  readonly #idle: Uint8Array
  readonly #positions: (Positions | undefined)[] = []
  #timeMs = Number.NEGATIVE_INFINITY
  #allIdle = false

  constructor(inputs: number) {
    this.#times = new Float64Array(inputs).fill(Number.NEGATIVE_INFINITY)
    this.#idle = new Uint8Array(inputs)
  }

  get timeMs(): number {
    return this.#timeMs
  }

  /** True when every input is idle. */
  get idle(): boolean {
    return this.#allIdle
  }

  get inputs(): number {
    return this.#times.length
  }

  input(index: number): InputProgress {
    const positions = this.#positions[index]
    const progress = { timeMs: this.#times[index]!, idle: this.#idle[index] === 1 }
    return positions === undefined ? progress : { ...progress, positions }
  }

  /** What an input says of itself; a time behind what it said before is ignored. */
  set(index: number, progress: InputProgress): void {
    if (progress.timeMs > this.#times[index]!) this.#times[index] = progress.timeMs
    this.#idle[index] = progress.idle ? 1 : 0
    this.#positions[index] = progress.positions
  }

  /** Takes the minimum again. True when it moved forward. */
  advance(): boolean {
    let active = Number.POSITIVE_INFINITY
    let latest = Number.NEGATIVE_INFINITY
    for (let i = 0; i < this.#times.length; i++) {
      const time = this.#times[i]!
      if (time > latest) latest = time
      if (this.#idle[i] === 0 && time < active) active = time
    }
    this.#allIdle = active === Number.POSITIVE_INFINITY
    const next = this.#allIdle ? latest : active
    if (next <= this.#timeMs) return false
    this.#timeMs = next
    return true
  }

  /** Starts from a committed watermark. */
  resume(timeMs: number): void {
    this.#timeMs = Math.max(this.#timeMs, timeMs)
  }
}

/** Source partitions by their place in the plan's origins -> next offset to process. */
export type Positions = ReadonlyMap<number, number>

export interface InputProgress {
  readonly timeMs: number
  readonly idle: boolean
  /** How far the input's sources are processed; only along edges that lead to other instances. */
  readonly positions?: Positions
}

export function sameProgress(a: InputProgress, b: InputProgress): boolean {
  if (a.timeMs !== b.timeMs || a.idle !== b.idle) return false
  if (a.positions === b.positions) return true
  if (a.positions?.size !== b.positions?.size) return false
  for (const [source, offset] of a.positions ?? []) {
    if (b.positions!.get(source) !== offset) return false
  }
  return true
}

/**
 * Random numbers of one place in the demo world: the same coordinates give the same numbers, so
 * any part of the world can be made again without what came before it.
 */

function mixed(hash: number, word: number): number {
  let h = Math.imul(hash ^ word, 0x9e3779b1)
  h = Math.imul(h ^ (h >>> 15), 0x85ebca77)
  return h ^ (h >>> 13)
}

/** A 32-bit hash of coordinates: integers within ±2^53. */
export function hashOf(...coordinates: readonly number[]): number {
  let hash = 0x2545f491
  for (const value of coordinates) {
    hash = mixed(hash, value | 0)
    hash = mixed(hash, Math.floor(value / 2 ** 32))
  }
  return hash >>> 0
}

export class SeededStream {
  private state: number

  constructor(...coordinates: readonly number[]) {
    this.state = hashOf(...coordinates)
  }

  /** Uniform in [0, 1): mulberry32. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** An integer in [0, count). */
  below(count: number): number {
    return Math.floor(this.next() * count)
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from)
  }

  /** Exponentially distributed around `mean`, cut off at `max`. */
  exponential(mean: number, max: number): number {
    return Math.min(max, -Math.log(1 - this.next()) * mean)
  }

  /** Of mean 0 and deviation 1. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next())
  }

  /** How many of something happen when `mean` do on average. */
  poisson(mean: number): number {
    if (mean > 50) return Math.max(0, Math.round(mean + Math.sqrt(mean) * this.normal()))
    const limit = Math.exp(-mean)
    let count = 0
    for (let product = this.next(); product > limit; product *= this.next()) count += 1
    return count
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]
  }

  /** An index, by the running sums of the weights. */
  pickWeighted(sums: readonly number[]): number {
    const target = this.next() * sums[sums.length - 1]
    let from = 0
    let to = sums.length - 1
    while (from < to) {
      const middle = (from + to) >>> 1
      if (sums[middle] > target) to = middle
      else from = middle + 1
    }
    return from
  }

  /**
   * A rank in [0, count) whose frequency falls as 1 / (rank + head)^0.8: low ranks are common,
   * and the first `head` of them about equally so.
   */
  zipf(count: number, head = 1): number {
    const exponent = 0.2
    const from = head ** exponent
    const to = (count + head) ** exponent
    const x = (from + this.next() * (to - from)) ** (1 / exponent) - head
    return Math.min(count - 1, Math.floor(x))
  }
}

/** Running sums, for `pickWeighted`. */
export function runningSums(weights: readonly number[]): number[] {
  let sum = 0
  return weights.map(weight => {
    sum += weight
    return sum
  })
}

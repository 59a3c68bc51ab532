/** Simulated time: a clock and timers that run as fast as they can, in an order set by a seed. */
import type { LogEnvironment } from '../../../log/port.ts'

interface Timer {
  readonly atMs: number
  readonly order: number
  readonly task: () => void
}

/** Small, fast and good enough for choices of a test (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export class SimulatedTime {
  nowMs = 1_000_000
  readonly random: () => number
  #timers: Timer[] = []
  #order = 0

  constructor(seed: number) {
    this.random = randomOf(seed)
  }

  between(lowMs: number, highMs: number): number {
    return lowMs + this.random() * (highMs - lowMs)
  }

  chance(share: number): boolean {
    return this.random() < share
  }

  schedule(task: () => void, delayMs: number): () => void {
    const timer = { atMs: this.nowMs + Math.max(delayMs, 0), order: this.#order++, task }
    this.#timers.push(timer)
    return () => {
      const index = this.#timers.indexOf(timer)
      if (index >= 0) this.#timers.splice(index, 1)
    }
  }

  after<T>(delayMs: number, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.schedule(() => {
        try {
          resolve(work())
        } catch (error) {
          reject(error)
        }
      }, delayMs)
    })
  }

  /** Runs what is due, and what follows from it, until `forMs` have passed. */
  async run(forMs: number): Promise<void> {
    const untilMs = this.nowMs + forMs
    for (;;) {
      // Promises of the last timer settle before the next one is chosen.
      await new Promise<void>(resolve => setImmediate(resolve))
      let next: Timer | undefined
      for (const timer of this.#timers) {
        const sooner = next === undefined || timer.atMs - next.atMs || timer.order - next.order
        if (sooner === true || sooner < 0) next = timer
      }
      if (next === undefined || next.atMs > untilMs) break
      this.#timers.splice(this.#timers.indexOf(next), 1)
      this.nowMs = Math.max(this.nowMs, next.atMs)
      next.task()
    }
    this.nowMs = untilMs
  }
}

/** One process: it can be stopped (SIGSTOP), which delays its timers, or die. */
export class SimulatedProcess {
  readonly time: SimulatedTime
  readonly environment: LogEnvironment
  #stoppedUntilMs = 0
  #dead = false

  constructor(time: SimulatedTime) {
    this.time = time
    this.environment = {
      clock: () => time.nowMs,
      schedule: (task, delayMs) => this.#schedule(task, delayMs),
      randomBytes: size => Buffer.from(Array.from({ length: size }, () => time.random() * 256)),
    }
  }

  get dead(): boolean {
    return this.#dead
  }

  #schedule(task: () => void, delayMs: number): () => void {
    let cancelled = false
    let cancel = this.time.schedule(() => this.#fire(run), delayMs)
    const run = () => {
      if (!cancelled) task()
    }
    return () => {
      cancelled = true
      cancel()
      cancel = () => {}
    }
  }

  #fire(task: () => void): void {
    if (this.#dead) return
    const leftMs = this.#stoppedUntilMs - this.time.nowMs
    if (leftMs > 0) this.time.schedule(() => this.#fire(task), leftMs)
    else task()
  }

  stop(forMs: number): void {
    this.#stoppedUntilMs = this.time.nowMs + forMs
  }

  kill(): void {
    this.#dead = true
  }

  /** Work of this process after a delay: never when it has died. */
  after<T>(delayMs: number, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.environment.schedule(() => {
        try {
          resolve(work())
        } catch (error) {
          reject(error)
        }
      }, delayMs)
    })
  }
}

/** A clock and timers that move only when nothing else can happen. */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { ReplayEnvironment } from '../../recording/port.ts'

interface Timer {
  readonly atMs: number
  readonly task: () => void
}

/** Turns of the event loop in which work that waits for no timer gets done. */
const TURNS = 5

export class SimulatedTime implements ReplayEnvironment {
  nowMs: number
  #timers: Timer[] = []

  constructor(startMs = 1_000_000) {
    this.nowMs = startMs
  }

  readonly clock = (): number => this.nowMs

  readonly schedule = (task: () => void, delayMs: number): (() => void) => {
    const timer = { atMs: this.nowMs + delayMs, task }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(one => one !== timer)
    }
  }

  /** Resolves so much later. */
  after(delayMs: number): Promise<void> {
    return new Promise(resolve => void this.schedule(resolve, delayMs))
  }

  /** Lets time pass until the work is done. */
  async run<T>(work: Promise<T>): Promise<T> {
    let isDone = false
    const done = work.finally(() => {
      isDone = true
    })
    done.catch(() => {})
    while (!isDone) {
      for (let i = 0; i < TURNS; i++) await turn()
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0]
      if (isDone) break
      // Without a timer it waits for a file or for a thread, which take real time.
      if (next === undefined) await sleep(1)
      else this.#fire(next)
    }
    return done
  }

  #fire(timer: Timer): void {
    this.#timers = this.#timers.filter(one => one !== timer)
    this.nowMs = Math.max(this.nowMs, timer.atMs)
    timer.task()
  }
}

/** The clock, timers and randomness that everything below is given. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { EngineEnvironment } from '../streams/environment.ts'
import { followingClock } from './following-clock.ts'

/** Those who gave way, first come, first served. */
const waiting: (() => void)[] = []

/** One goes on each time that the event loop has looked at sockets and timers. */
function next(): void {
  waiting.shift()!()
  if (waiting.length > 0) setImmediate(next)
}

/** About 25 days: a timer of more goes off at once. */
const TIMER_MS_MAX = 2 ** 31 - 1

export const effects: EngineEnvironment = {
  clock: followingClock(Date.now, () => performance.now()),
  schedule(task, delayMs) {
    let timer: NodeJS.Timeout
    const wait = (leftMs: number) => {
      const ms = Math.min(leftMs, TIMER_MS_MAX)
      timer = setTimeout(() => (leftMs > ms ? wait(leftMs - ms) : task()), ms)
    }
    wait(delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () =>
    new Promise(resolve => {
      if (waiting.push(resolve) === 1) setImmediate(next)
    }),
}

/** Epoch ms with fractions; goes on evenly where the system's clock is set anew. */
export function steadyClock(): number {
  return performance.timeOrigin + performance.now()
}

/** Changes when the machine starts anew; empty where the system does not tell. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return ''
  }
}

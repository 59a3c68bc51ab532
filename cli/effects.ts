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

export const effects: EngineEnvironment = {
  clock: followingClock(Date.now, () => performance.now()),
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs)
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

/** The clock, timers and randomness that everything below is given. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { EngineEnvironment } from '../streams/environment.ts'

export const effects: EngineEnvironment = {
  clock: Date.now,
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise(resolve => setImmediate(resolve)),
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

/**
 * The clock of the process. It serves deadlines and times of day alike, so it must do what a
 * system's clock need not: never go back, and go on.
 *
 * A system's clock that is set forward, or that has gone on while the machine slept, is followed at
 * once: so much time counts as passed. One that is set back is met slowly: as long as this clock is
 * ahead of it, it tells seven eighths of the time that passes, and waits take an eighth longer.
 */

/** What is left out of the time that passes, at most, while this clock is ahead. */
const HELD_BACK = 1 / 8

/** Whole epoch ms, of a clock that may be set (epoch ms) and one that cannot (ms of its own). */
export function followingClock(settable: () => number, steady: () => number): () => number {
  let toldMs = settable()
  let atMs = steady()
  return () => {
    const nowMs = steady()
    const passedMs = nowMs - atMs
    atMs = nowMs
    const aheadMs = toldMs + passedMs - settable()
    toldMs += passedMs - Math.min(aheadMs, passedMs * HELD_BACK)
    return Math.floor(toldMs)
  }
}

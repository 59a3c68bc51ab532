import { expect, test } from 'vitest'
import { followingClock } from '../../cli/following-clock.ts'

const hourMs = 3_600_000

/** A clock over two that the test sets. */
function clocks() {
  const time = { wallMs: 1_000_000_000, steadyMs: 5000 }
  const clock = followingClock(
    () => time.wallMs,
    () => time.steadyMs,
  )
  const pass = (ms: number) => {
    time.wallMs += ms
    time.steadyMs += ms
    return clock()
  }
  return { time, clock, pass }
}

test('tells what the system tells as long as nobody sets it', () => {
  const { time, pass } = clocks()
  for (const ms of [0, 1, 250, 60_000]) expect(pass(ms)).toBe(time.wallMs)
})

test('follows at once a clock that is set forward, as after the sleep of a machine', () => {
  const { time, clock } = clocks()
  time.wallMs += hourMs
  expect(clock()).toBe(time.wallMs)
})

test('never goes back, and goes on, when the clock is set back by an hour', () => {
  const { time, clock, pass } = clocks()
  const before = clock()
  time.wallMs -= hourMs
  expect(clock()).toBe(before)
  expect(pass(8000)).toBe(before + 7000)
  // Nine hours later it has been met.
  for (let step = 0; step < 9 * 60; step++) pass(60_000)
  expect(clock()).toBe(time.wallMs)
})

test('two steps of an hour, there and back, leave nothing', () => {
  const { time, clock, pass } = clocks()
  time.wallMs += hourMs
  clock()
  time.wallMs -= hourMs
  for (let step = 0; step < 9 * 60; step++) pass(60_000)
  expect(clock()).toBe(time.wallMs)
})

test('whole milliseconds, of clocks with fractions', () => {
  let steadyMs = 0.4
  const clock = followingClock(
    () => 1_000_000_000 + Math.floor(steadyMs),
    () => steadyMs,
  )
  let last = 0
  for (let i = 0; i < 10_000; i++) {
    steadyMs += 0.37
    const told = clock()
    expect(Number.isInteger(told)).toBe(true)
    expect(told).toBeGreaterThanOrEqual(last)
    last = told
  }
  expect(Math.abs(last - (1_000_000_000 + steadyMs))).toBeLessThan(2)
})

import { expect, it } from 'vitest'
import { TraceLimit } from '../../streams/trace-limit.ts'
import { Random } from '../support/random.ts'

const random = new Random(7)
const traces = Array.from({ length: 10_000 }, () => {
  const digits = () =>
    random
      .below(2 ** 24)
      .toString(16)
      .padStart(6, '0')
  return `1234${digits()}${digits()}aaaa${digits()}${digits()}`
})

/** So many traces in a second, one span each; gives those that were admitted. */
function second(limit: TraceLimit, now: { ms: number }, count: number): Set<string> {
  const admitted = traces.slice(0, count).filter((trace, i) => {
    now.ms = Math.floor(now.ms / 1000) * 1000 + (i / count) * 1000
    if (!limit.admits(trace)) return false
    limit.count()
    return true
  })
  now.ms = Math.floor(now.ms / 1000) * 1000 + 1000
  return new Set(admitted)
}

it('while there are few, all traces are recorded', () => {
  const now = { ms: 1e12 }
  const limit = new TraceLimit({ spansPerSecondMax: 1000, clock: () => now.ms })
  for (let i = 0; i < 5; i++) expect(second(limit, now, 900).size).toBe(900)
  expect(limit.share).toBe(1)
})

it('of many a share is, the same ones everywhere, and all again when they are few', () => {
  const now = { ms: 1e12 }
  const limits = [0, 1].map(() => new TraceLimit({ spansPerSecondMax: 1000, clock: () => now.ms }))
  const both = (count: number) => {
    const { ms } = now
    return limits.map(limit => {
      now.ms = ms
      return second(limit, now, count)
    })
  }
  let kept: Set<string>[] = []
  for (let i = 0; i < 8; i++) kept = both(10_000)
  expect(kept[0]!.size).toBeGreaterThan(250)
  expect(kept[0]!.size).toBeLessThanOrEqual(1000)
  expect(kept[1]).toEqual(kept[0])
  // Spread over the second: it is the share that leaves traces out, and not the end of the second.
  const places = [...kept[0]!].map(trace => traces.indexOf(trace))
  expect(Math.max(...places)).toBeGreaterThan(9000)
  for (let i = 0; i < 8; i++) kept = both(10)
  expect(limits.map(({ share }) => share)).toEqual([1, 1])
  expect(kept[0]!.size).toBe(10)
})

it('no second has more, nor the first one', () => {
  const now = { ms: 1e12 }
  const limit = new TraceLimit({ spansPerSecondMax: 100, clock: () => now.ms })
  for (let i = 0; i < 20; i++) expect(second(limit, now, 10_000).size).toBeLessThanOrEqual(100)
})

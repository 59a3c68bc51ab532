import { expect, test } from 'vitest'
import { latestStart, seriesOf, stacked, stateOf, sumsBy } from '../../dashboards/series.ts'

const minute = 60_000
const range = { from: 10 * minute, to: 15 * minute, stepMs: minute }

function row(key: string, at: number, value: number, final = false) {
  return { key, value, windowStart: at * minute, windowEnd: (at + 1) * minute, final }
}

const keyOf = (one: { key: string }) => one.key
const amountOf = (one: { value: number }) => one.value

test('a minute without a row is 0 after the first row of any key, unknown before', () => {
  const rows = [row('a', 11, 5), row('b', 13, 1), row('a', 14, 2)]
  const { times, lines } = seriesOf(rows, range, keyOf, amountOf)
  expect(times.map(at => at / minute)).toEqual([10, 11, 12, 13, 14])
  expect([...lines]).toEqual([
    ['a', [null, 5, 0, 0, 2]],
    ['b', [null, 0, 0, 1, 0]],
  ])
})

test('rows of one key and minute add up; rows outside the range do not count', () => {
  const rows = [row('a', 9, 100), row('a', 12, 1), row('a', 12, 2), row('a', 15, 100)]
  expect([...seriesOf(rows, range, keyOf, amountOf).lines]).toEqual([['a', [null, null, 3, 0, 0]]])
})

test('lines come by their sums, largest first, then by name', () => {
  const rows = [row('small', 11, 1), row('c', 11, 4), row('large', 12, 9), row('b', 12, 4)]
  const { lines } = seriesOf(rows, range, keyOf, amountOf)
  expect([...lines.keys()]).toEqual(['large', 'b', 'c', 'small'])
})

test('what follows the last final window is provisional', () => {
  const rows = [row('a', 10, 1, true), row('a', 11, 1, true), row('a', 12, 1), row('a', 13, 1)]
  const series = seriesOf(rows, range, keyOf, amountOf)
  expect(series.times.map(at => stateOf(series, at))).toEqual([
    'final',
    'final',
    'provisional',
    'provisional',
    'provisional',
  ])
})

test('sums take windows that start in [from, to)', () => {
  const rows = [row('a', 10, 1), row('b', 14, 5), row('a', 15, 100), row('a', 12, 1)]
  expect(sumsBy(rows, range, keyOf, amountOf)).toEqual([
    { key: 'b', sum: 5 },
    { key: 'a', sum: 2 },
  ])
})

test('stacked lines hold all below them; unknown stays unknown', () => {
  expect(
    stacked([
      [null, 1, 2],
      [null, 3, 4],
    ]),
  ).toEqual([
    [null, 1, 2],
    [null, 4, 6],
  ])
})

test('the latest start of no rows is none', () => {
  expect(latestStart([])).toBeUndefined()
  expect(latestStart([row('a', 3, 0), row('a', 7, 0), row('a', 5, 0)])).toBe(7 * minute)
})

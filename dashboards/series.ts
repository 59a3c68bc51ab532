/** Rows of windows → columns for charts and sums for figures. No clock, no state. */
import type { Windowed } from './rows.ts'

export interface Range {
  /** Epoch ms, inclusive. */
  readonly from: number
  /** Epoch ms, exclusive. */
  readonly to: number
  readonly stepMs: number
}

export interface Series {
  /** Window starts, epoch ms. */
  readonly times: readonly number[]
  /** By key, in the order of the largest sums; null where nothing is known yet. */
  readonly lines: ReadonlyMap<string, readonly (number | null)[]>
  /** Windows that start at or after this may still change. */
  readonly provisionalFrom: number
}

/**
 * One line a key. A window without a row counts as 0 once there was any row before it: nothing
 * happened in it. Before the first row nothing is known.
 */
export function seriesOf<Row extends Windowed>(
  rows: Iterable<Row>,
  range: Range,
  keyOf: (row: Row) => string,
  amountOf: (row: Row) => number,
): Series {
  const times: number[] = []
  for (let at = range.from; at < range.to; at += range.stepMs) times.push(at)
  const sums = new Map<string, number>()
  const columns = new Map<string, (number | null)[]>()
  let first = Number.POSITIVE_INFINITY
  let provisionalFrom = range.from
  for (const row of rows) {
    if (row.final) provisionalFrom = Math.max(provisionalFrom, row.windowEnd)
    const index = (row.windowStart - range.from) / range.stepMs
    if (!Number.isInteger(index) || index < 0 || index >= times.length) continue
    first = Math.min(first, index)
    const key = keyOf(row)
    const column = columns.get(key) ?? new Array<number | null>(times.length).fill(null)
    columns.set(key, column)
    column[index] = (column[index] ?? 0) + amountOf(row)
    sums.set(key, (sums.get(key) ?? 0) + amountOf(row))
  }
  for (const column of columns.values()) {
    for (let index = first; index < column.length; index++) column[index] ??= 0
  }
  const bySum = [...columns].sort(([a], [b]) => sums.get(b)! - sums.get(a)! || (a < b ? -1 : 1))
  return { times, lines: new Map(bySum), provisionalFrom }
}

/** Whether the window that starts then may still change, as a word. */
export function stateOf(series: Series, at: number): string {
  return at < series.provisionalFrom ? 'final' : 'provisional'
}

export interface SumLine {
  readonly key: string
  readonly sum: number
}

/** Sums by key of the rows whose window starts in [from, to), largest first. */
export function sumsBy<Row extends Windowed>(
  rows: Iterable<Row>,
  range: Pick<Range, 'from' | 'to'>,
  keyOf: (row: Row) => string,
  amountOf: (row: Row) => number,
): SumLine[] {
  const sums = new Map<string, number>()
  for (const row of rows) {
    if (row.windowStart < range.from || row.windowStart >= range.to) continue
    sums.set(keyOf(row), (sums.get(keyOf(row)) ?? 0) + amountOf(row))
  }
  return [...sums]
    .map(([key, sum]) => ({ key, sum }))
    .sort((a, b) => b.sum - a.sum || (a.key < b.key ? -1 : 1))
}

/** Lines on top of each other: each holds the sum of itself and all before it. */
export function stacked(lines: readonly (readonly (number | null)[])[]): (number | null)[][] {
  const stack: (number | null)[][] = []
  for (const line of lines) {
    const below = stack.at(-1)
    stack.push(line.map((value, index) => (value === null ? null : value + (below?.[index] ?? 0))))
  }
  return stack
}

/** The largest windowStart. */
export function latestStart(rows: Iterable<Windowed>): number | undefined {
  let latest: number | undefined
  for (const { windowStart } of rows) {
    if (latest === undefined || windowStart > latest) latest = windowStart
  }
  return latest
}

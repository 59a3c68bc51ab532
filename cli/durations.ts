/** Durations as people write them. */

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** `30d`, `12h`, `90m`, `30s`, `500ms` or a number of ms, in ms; `endless`, if any, is Infinity. */
export function durationMs(text: string, endless?: string): number {
  if (text === endless) return Number.POSITIVE_INFINITY
  const match = /^(\d{1,15})(ms|s|m|h|d)?$/.exec(text)
  const value = match === null ? Number.NaN : Number(match[1]) * unitMs[match[2] ?? 'ms']
  if (Number.isSafeInteger(value) && value > 0) return value
  const orEndless = endless === undefined ? '' : `, or ${endless}`
  throw new Error(`a time above 0 such as 30d, 12h, 90m, 30s or 500ms${orEndless}`)
}

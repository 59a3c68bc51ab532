/** Figures of a campaign in a line: how many, the middle, the 99th in a hundred, the highest. */
export function percentiles(values: readonly number[]): string {
  if (values.length === 0) return 'none'
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  return `${sorted.length}: p50 ${at(0.5)}, p99 ${at(0.99)}, max ${sorted.at(-1)}`
}

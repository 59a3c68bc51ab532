/** Figures of `/metrics`, read from its text. */

export interface MetricLine {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export function metricLines(text: string): MetricLine[] {
  const lines: MetricLine[] = []
  for (const line of text.split('\n')) {
    const parts = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (parts === null) continue
    const labels = [...(parts[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)]
    lines.push({
      name: parts[1]!,
      labels: Object.fromEntries(labels.map(label => [label[1]!, label[2]!])),
      value: Number(parts[3]),
    })
  }
  return lines
}

/** Sum over all lines of that name whose labels hold these. */
export function metricSum(
  lines: readonly MetricLine[],
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  const wanted = Object.entries(labels)
  return lines
    .filter(line => line.name === name && wanted.every(([l, v]) => line.labels[l] === v))
    .reduce((total, { value }) => total + value, 0)
}

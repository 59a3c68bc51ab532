/** Quantities as people read them. */

const counts = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })

export function countText(count: number): string {
  return counts.format(count)
}

export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10))
  const value = bytes / 1024 ** power
  return `${power === 0 ? value : value.toPrecision(3)} ${units[power]}`
}

/** ms as the unit that suits it. */
export function msText(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`
  if (ms < 10_000) return `${Number(ms.toPrecision(3))} ms`
  return `${Number((ms / 1000).toPrecision(3))} s`
}

/** Epoch ms as ISO 8601; the number where it is no time, as foreign records may have any. */
export function timeText(ms: number): string {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString()
}

/** Numbers, money, times and ages as people read them. */

const plain = new Intl.NumberFormat(undefined)
const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 })
const percent = new Intl.NumberFormat(undefined, {
  style: 'percent',
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
})

export function count(value: number): string {
  return plain.format(value)
}

export function shortCount(value: number): string {
  return Math.abs(value) < 10_000 ? plain.format(value) : compact.format(value)
}

/** 0.8125 → 81.3 %. */
export function rate(value: number): string {
  return percent.format(value)
}

interface MoneyFormats {
  readonly exact: Intl.NumberFormat
  readonly short: Intl.NumberFormat
  /** Minor units of one major unit. */
  readonly factor: number
}

const moneyFormats = new Map<string, MoneyFormats>()

function formatsOf(currency: string): MoneyFormats {
  const known = moneyFormats.get(currency)
  if (known !== undefined) return known
  const made = makeFormats(currency)
  moneyFormats.set(currency, made)
  return made
}

function makeFormats(currency: string): MoneyFormats {
  try {
    const exact = new Intl.NumberFormat(undefined, { style: 'currency', currency })
    const short = new Intl.NumberFormat(undefined, {
      style: 'currency',
      currency,
      notation: 'compact',
      minimumFractionDigits: 0,
      maximumFractionDigits: 1,
    })
    return { exact, short, factor: 10 ** (exact.resolvedOptions().maximumFractionDigits ?? 2) }
  } catch {
    // A currency is a free text; one that is no code still has an amount.
    return { exact: plain, short: compact, factor: 100 }
  }
}

/** Minor units in full: 123456 EUR → €1,234.56. */
export function money(minor: number, currency: string): string {
  const { exact, factor } = formatsOf(currency)
  return exact.format(minor / factor)
}

/** Minor units, rounded: 123456 EUR → €1.2K. */
export function shortMoney(minor: number, currency: string): string {
  const { short, factor } = formatsOf(currency)
  return short.format(minor / factor)
}

// 24 hours everywhere: shorter, and nobody on call confuses 5 and 17.
const hourCycle = 'h23'
const clockTime = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit',
  minute: '2-digit',
  hourCycle,
})
const clockSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle })
const weekdayTime = new Intl.DateTimeFormat(undefined, {
  weekday: 'short',
  hour: '2-digit',
  minute: '2-digit',
  hourCycle,
})
const dayTime = new Intl.DateTimeFormat(undefined, {
  dateStyle: 'medium',
  timeStyle: 'short',
  hourCycle,
})

/** Hours and minutes of an epoch ms, in the reader's zone. */
export function time(ms: number): string {
  return clockTime.format(ms)
}

/** The hour of a day of this week: Mon 14:00. */
export function hourOfDay(ms: number): string {
  return weekdayTime.format(ms)
}

export function timeOfDay(ms: number): string {
  return clockSeconds.format(ms)
}

export function dateTime(ms: number): string {
  return dayTime.format(ms)
}

/** A span of ms as one unit: 0.4 s, 12 s, 3 min, 5 h, 2 d. */
export function age(ms: number): string {
  if (ms < 0) return '0.0 s'
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`
  return `${Math.round(ms / 86_400_000)} d`
}

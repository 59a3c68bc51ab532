/** Where the demo world's customers live, and when they shop. */

export interface Region {
  readonly name: string
  readonly currency: string
  /** Share of all customers. */
  readonly share: number
  readonly utcOffsetHours: number
  /** Local hours at which most orders come, and how wide the peak is. */
  readonly peaks: readonly {
    readonly hour: number
    readonly width: number
    readonly size: number
  }[]
  /** Minor units of the currency for one euro cent. */
  readonly minorPerEuroCent: number
  /** Prices are a multiple of this, less one unit where it is over 10: 19.99. */
  readonly priceStep: number
}

const evening = { hour: 20.5, width: 2.5, size: 2.4 }
const lunch = { hour: 12.5, width: 1.5, size: 1.3 }
const morning = { hour: 9, width: 2, size: 0.8 }

export const regions: readonly Region[] = [
  {
    name: 'us-east',
    currency: 'USD',
    share: 0.28,
    utcOffsetHours: -5,
    peaks: [lunch, evening],
    minorPerEuroCent: 1.1,
    priceStep: 100,
  },
  {
    name: 'eu-west',
    currency: 'EUR',
    share: 0.26,
    utcOffsetHours: 1,
    peaks: [lunch, { ...evening, hour: 20 }],
    minorPerEuroCent: 1,
    priceStep: 100,
  },
  {
    name: 'uk',
    currency: 'GBP',
    share: 0.13,
    utcOffsetHours: 0,
    peaks: [morning, evening],
    minorPerEuroCent: 0.85,
    priceStep: 100,
  },
  {
    name: 'japan',
    currency: 'JPY',
    share: 0.13,
    utcOffsetHours: 9,
    peaks: [lunch, { ...evening, hour: 22 }],
    minorPerEuroCent: 1.6,
    priceStep: 10,
  },
  {
    name: 'brazil',
    currency: 'BRL',
    share: 0.09,
    utcOffsetHours: -3,
    peaks: [
      { ...lunch, hour: 14 },
      { ...evening, hour: 21.5 },
    ],
    minorPerEuroCent: 6,
    priceStep: 100,
  },
  {
    name: 'india',
    currency: 'INR',
    share: 0.11,
    utcOffsetHours: 5.5,
    peaks: [morning, { ...evening, hour: 21 }],
    minorPerEuroCent: 90,
    priceStep: 1000,
  },
]

const hourMs = 3_600_000
const nightLevel = 0.25
/** Sunday first. Their mean is 1. */
const weekdayLevels = [1.18, 0.94, 0.92, 0.93, 0.96, 1.02, 1.05]

function dayLevel(region: Region, localHour: number): number {
  let level = nightLevel
  for (const { hour, width, size } of region.peaks) {
    const distance = Math.abs(localHour - hour)
    const around = Math.min(distance, 24 - distance) / width
    level += size * Math.exp(-0.5 * around * around)
  }
  return level
}

const dayMeans = regions.map(region => {
  let sum = 0
  for (let quarter = 0; quarter < 96; quarter += 1) sum += dayLevel(region, quarter / 4)
  return sum / 96
})

/** How busy a region is at this time; its mean over a week is 1. */
export function busyness(regionIndex: number, timeMs: number): number {
  const region = regions[regionIndex]
  const localMs = timeMs + region.utcOffsetHours * hourMs
  const localDay = Math.floor(localMs / (24 * hourMs))
  const localHour = localMs / hourMs - localDay * 24
  // 1 January 1970 was a Thursday.
  const weekday = (localDay + 4) % 7
  return (dayLevel(region, localHour) / dayMeans[regionIndex]) * weekdayLevels[weekday]
}

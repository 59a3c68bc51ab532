/** What goes wrong, or unusually well, now and then: so that alerts have something to say. */
import { methods } from './customers.ts'
import { hashOf, SeededStream } from './seeded-stream.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const halfHourMs = 30 * minuteMs
/** One region-hour in 40 has a flash sale. */
const saleShare = 1 / 40
/** One method's half hour in 80: with five methods, three a day. */
const outageShare = 1 / 80

/** Factor on a region's orders: 1, or 5 to 8 during the four minutes of a flash sale. */
export function saleFactor(seed: number, regionIndex: number, timeMs: number): number {
  const hour = Math.floor(timeMs / hourMs)
  const stream = new SeededStream(seed, regionIndex, hour, 11)
  if (!stream.chance(saleShare)) return 1
  const startMs = hour * hourMs + stream.between(0, 55) * minuteMs
  const sold = stream.between(5, 8)
  return timeMs >= startMs && timeMs < startMs + 4 * minuteMs ? sold : 1
}

/** Whether most payments by this method fail now. */
export function hasOutage(seed: number, method: string, timeMs: number): boolean {
  const index = methods.findIndex(candidate => candidate.name === method)
  const halfHour = Math.floor(timeMs / halfHourMs)
  return hashOf(seed, index, halfHour, 12) / 2 ** 32 < outageShare
}

/** The category on offer in a region for six hours: it sells more than usual. */
export function promotedCategory(
  seed: number,
  regionIndex: number,
  timeMs: number,
  categories: number,
): number {
  return hashOf(seed, regionIndex, Math.floor(timeMs / (6 * hourMs)), 13) % categories
}

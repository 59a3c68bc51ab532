/**
 * Minutes with unusual revenue: the rule `revenue-deviation` of the view `alerts`.
 *
 * in     paid orders by region and currency
 * time   the payment's; tumbling 1 min, grace 10 min, judged when closed
 * state  one row a window until it closes; one row a region and currency with its last 60 minutes
 * out    one alert for each closed minute whose revenue is more than 3 σ from the 60 before it,
 *        empty ones counting 0; a region's first 60 minutes only teach
 * late   payments after end + grace go to the dead letters, counted
 */
import {
  fieldsKey,
  type ProcessorContext,
  type Stream,
  tumbling,
  type Windowed,
} from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import type { Alert, AlertKey } from './alerts.ts'
import type { PaidByRegion, RegionKey } from './revenue.ts'
import { graceMs, minuteMs } from './view-times.ts'

const minutesBefore = 60
const deviations = 3
const rule = 'revenue-deviation'

interface History {
  /** Start of the region's first minute with revenue. */
  readonly firstStart: number
  /** Minutes with revenue, ascending: of the hour before the next. */
  readonly minutes: readonly (readonly [start: number, revenueMinor: number])[]
}

const regionKey = fieldsKey('region', 'currency')
const stores = { history: { key: regionKey } } as const
type Context = ProcessorContext<RegionKey, typeof stores, AlertKey, Alert>

interface Minute {
  readonly windowStart: number
  readonly revenueMinor: number
}

export function revenueAlertsTopology(paid: PaidByRegion): Stream<AlertKey, Alert> {
  return paid
    .windowedBy(tumbling(minuteMs, { graceMs }))
    .aggregate({
      name: 'revenue-minutes',
      initial: () => 0,
      add: (sum, { amountMinor }) => addSafe(sum, amountMinor),
      emit: 'close',
    })
    .toStream()
    .map((revenueMinor, { key, windowStart }: Windowed<RegionKey>) => {
      const minute: Minute = { windowStart, revenueMinor }
      return [key, minute] as const
    })
    .process<typeof stores, AlertKey, Alert>({
      name: 'revenue-alerts',
      key: regionKey,
      stores,
      create: context => ({ process: ({ key, value }) => judge(context, key, value) }),
    })
}

/** Minutes of a region come in their order: windows close so. */
function judge(context: Context, key: RegionKey, { windowStart, revenueMinor }: Minute): void {
  const rows = context.store('history')
  const row = rows.get(key) as History | undefined
  const sinceMs = windowStart - minutesBefore * minuteMs
  const minutes = (row?.minutes ?? []).filter(([start]) => start >= sinceMs)
  const firstStart = row?.firstStart ?? windowStart
  if (firstStart <= sinceMs) {
    const { mean, sigma } = spread(minutes.map(([, revenue]) => revenue))
    if (Math.abs(revenueMinor - mean) > deviations * sigma) {
      const name = `${key.region}/${key.currency}`
      const side = revenueMinor > mean ? 'above' : 'below'
      const alert: Alert = {
        windowStart,
        windowEnd: windowStart + minuteMs,
        severity: Math.abs(revenueMinor - mean) > 2 * deviations * sigma ? 'critical' : 'warning',
        observed: revenueMinor,
        expected: Math.round(mean),
        message: `Revenue of ${name} is more than ${deviations} σ ${side} the hour before`,
      }
      context.forward({ rule, key: name }, alert)
    }
  }
  rows.put(key, { firstStart, minutes: [...minutes, [windowStart, revenueMinor]] })
}

/** Mean and standard deviation of 60 minutes, of which those not given are 0. */
function spread(revenues: readonly number[]): { mean: number; sigma: number } {
  const mean = revenues.reduce((sum, revenue) => sum + revenue, 0) / minutesBefore
  const empty = minutesBefore - revenues.length
  const squares = revenues.reduce((sum, revenue) => sum + (revenue - mean) ** 2, empty * mean ** 2)
  return { mean, sigma: Math.sqrt(squares / minutesBefore) }
}

/** The feeds of the first page and what several panels derive from them. */
import { computed } from '@preact/signals'
import type {
  AlertRow,
  CustomersRow,
  FunnelRow,
  LatencyRow,
  OutcomeRow,
  ProductRow,
  RevenueRow,
  UnpaidRow,
  VolumeRow,
} from './rows.ts'
import { latestStart, type Range, sumsBy } from './series.ts'
import { dataNow, Feed } from './state.ts'

export const minuteMs = 60_000
export const hourMs = 60 * minuteMs
const margin = 15 * minuteMs

export const revenue = new Feed<RevenueRow>('revenue', hourMs + margin)
export const volume = new Feed<VolumeRow>('order-volume', hourMs + margin)
export const outcomes = new Feed<OutcomeRow>('payment-outcomes', hourMs + margin)
export const products = new Feed<ProductRow>('top-products', 2 * hourMs)
export const customers = new Feed<CustomersRow>('active-customers', 13 * hourMs)
export const funnel = new Feed<FunnelRow>('order-funnel', 25 * hourMs)
export const latency = new Feed<LatencyRow>('stage-latency', 25 * hourMs)
export const unpaid = new Feed<UnpaidRow>('unpaid-orders')
export const alerts = new Feed<AlertRow>('alerts', 24 * hourMs)

/** The last 60 whole minutes; the minute under way is told apart. */
export const lastHour = computed<Range>(() => {
  const to = Math.floor(dataNow.value / minuteMs) * minuteMs
  return { from: to - hourMs, to, stepMs: minuteMs }
})

/** The last 24 hours, with the one under way. */
export const dayHours = computed<Range>(() => {
  const to = Math.floor(dataNow.value / hourMs) * hourMs + hourMs
  return { from: to - 24 * hourMs, to, stepMs: hourMs }
})

/** Currencies by paid orders of the last hour: the first one is the page's main one. */
export const currencies = computed(() => {
  const range = lastHour.value
  const byOrders = sumsBy(
    volume.rows.value,
    range,
    row => row.currency,
    row => row.orders,
  )
  return byOrders.map(({ key }) => key)
})

/** The products of the newest hour in which any was sold. */
export const currentProducts = computed(() => {
  const start = latestStart(products.rows.value)
  return products.rows.value.filter(row => row.windowStart === start)
})

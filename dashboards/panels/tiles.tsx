/** The figures at the top: one number each, its trend, and whether it may still change. */
import type { ComponentChildren } from 'preact'
import {
  alerts,
  currencies,
  customers,
  hourMs,
  lastHour,
  outcomes,
  revenue,
  unpaid,
  volume,
} from '../feeds.ts'
import { count, money, rate, shortCount, shortMoney } from '../format.ts'
import { SparkBars, SparkLine } from '../parts/spark.tsx'
import { latestStart, seriesOf, sumsBy } from '../series.ts'
import type { Feed } from '../state.ts'
import { dataNow } from '../state.ts'
import { rateFloor, rateSeries } from './payments.tsx'

interface TileProps {
  readonly label: string
  readonly feed: Feed<never> | Feed<unknown>
  readonly value: string
  readonly title?: string
  readonly about: ComponentChildren
  readonly provisional?: boolean
  readonly tone?: 'good' | 'bad' | undefined
  readonly children?: ComponentChildren
}

function Tile({ label, feed, value, about, provisional, tone, title, children }: TileProps) {
  const status = feed.status.value
  const known = status === 'live'
  return (
    <section class={`tile ${tone ?? ''} ${known ? '' : 'unknown'}`} aria-label={label}>
      <h2>{label}</h2>
      <p class="figure" title={title}>
        {known ? value : status === 'absent' ? 'not running' : '–'}
        {known && provisional && (
          <span class="so-far" title="Windows of the last minutes may still change">
            so far
          </span>
        )}
      </p>
      <p class="about">{known ? about : ' '}</p>
      {known && children}
    </section>
  )
}

export function Tiles() {
  return (
    <div class="tiles">
      <RevenueTile />
      <OrdersTile />
      <RateTile />
      <CustomersTile />
      <UnpaidTile />
      <AlertsTile />
    </div>
  )
}

function RevenueTile() {
  const range = lastHour.value
  const byCurrency = sumsBy(
    revenue.rows.value,
    range,
    row => row.currency,
    row => row.revenueMinor,
  )
  const sumOf = new Map(byCurrency.map(({ key, sum }) => [key, sum]))
  const order = currencies.value.filter(currency => sumOf.has(currency))
  const [main = byCurrency[0]?.key ?? 'EUR', ...others] = order
  const mine = revenue.rows.value.filter(row => row.currency === main)
  const series = seriesOf(
    mine,
    range,
    () => main,
    row => row.revenueMinor,
  )
  const rest = others.map(currency => shortMoney(sumOf.get(currency)!, currency))
  return (
    <Tile
      label="Revenue, last hour"
      feed={revenue}
      value={byCurrency.length === 0 ? '–' : shortMoney(sumOf.get(main) ?? 0, main)}
      title={money(sumOf.get(main) ?? 0, main)}
      about={aboutRevenue(byCurrency.length, rest)}
      provisional={byCurrency.length > 0}
    >
      <SparkLine
        values={series.lines.get(main) ?? []}
        provisionalFrom={series.times.findIndex(at => at >= series.provisionalFrom)}
      />
    </Tile>
  )
}

function aboutRevenue(currencyCount: number, rest: readonly string[]): string {
  if (currencyCount === 0) return 'no paid order yet'
  return rest.length === 0 ? 'in one currency' : `and ${rest.join(' · ')}`
}

function OrdersTile() {
  const range = lastHour.value
  const series = seriesOf(
    volume.rows.value,
    range,
    () => 'all',
    row => row.orders,
  )
  const line = series.lines.get('all') ?? []
  const known = line.filter(value => value !== null)
  const latest = known.at(-1) ?? 0
  const mean = known.length === 0 ? 0 : known.reduce((sum, value) => sum + value, 0) / known.length
  const current = sumsBy(
    volume.rows.value,
    { from: range.to, to: range.to + 60_000 },
    () => 'all',
    row => row.orders,
  )
  return (
    <Tile
      label="Orders a minute"
      feed={volume}
      value={shortCount(latest)}
      about={`mean ${shortCount(Math.round(mean))} · this minute ${shortCount(current[0]?.sum ?? 0)}`}
      provisional={known.length > 0}
    >
      <SparkLine
        values={line}
        provisionalFrom={series.times.findIndex(at => at >= series.provisionalFrom)}
      />
    </Tile>
  )
}

function RateTile() {
  const { authorized, declined, rates } = rateSeries(outcomes.rows.value, lastHour.value)
  const attempts = authorized + declined
  const share = attempts === 0 ? 0 : authorized / attempts
  return (
    <Tile
      label="Authorization rate, last hour"
      feed={outcomes}
      value={attempts === 0 ? '–' : rate(share)}
      about={
        attempts === 0 ? 'no attempt yet' : `${count(declined)} of ${count(attempts)} declined`
      }
      tone={attempts >= 20 && share < rateFloor ? 'bad' : undefined}
    >
      <SparkLine values={rates} min={0.5} max={1} />
    </Tile>
  )
}

function CustomersTile() {
  const rows = customers.rows.value
  const to = Math.floor(dataNow.value / hourMs) * hourMs + hourMs
  const range = { from: to - 12 * hourMs, to, stepMs: hourMs }
  const series = seriesOf(
    rows,
    range,
    () => 'all',
    row => row.customers,
  )
  const line = series.lines.get('all') ?? []
  return (
    <Tile
      label="Active customers, this hour"
      feed={customers}
      value={shortCount(line.at(-1) ?? 0)}
      about={`${shortCount(line.at(-2) ?? 0)} the hour before`}
      provisional={rows.length > 0}
    >
      <SparkBars values={line} provisionalFrom={line.length - 1} />
    </Tile>
  )
}

function UnpaidTile() {
  const rows = unpaid.rows.value
  const owed = new Map<string, number>()
  for (const { currency, totalMinor } of rows) {
    owed.set(currency, (owed.get(currency) ?? 0) + totalMinor)
  }
  const sums = [...owed].sort(([a], [b]) => (a < b ? -1 : 1))
  const texts = sums.map(([currency, minor]) => shortMoney(minor, currency))
  return (
    <Tile
      label="Unpaid after 24 h"
      feed={unpaid}
      value={shortCount(rows.length)}
      title={`${count(rows.length)} orders`}
      about={texts.length === 0 ? 'every order was paid in time' : `worth ${texts.join(' · ')}`}
    />
  )
}

function AlertsTile() {
  const rows = alerts.rows.value
  const since = dataNow.value - hourMs
  const recent = rows.filter(row => row.windowEnd >= since)
  const latest = latestStart(rows)
  const perHour = latest === undefined ? [] : hourly(rows.map(row => row.windowEnd))
  return (
    <Tile
      label="Alerts, last hour"
      feed={alerts}
      value={count(recent.length)}
      about={`${count(rows.length)} in 24 h`}
      tone={recent.length > 0 ? 'bad' : 'good'}
    >
      <SparkBars values={perHour} />
    </Tile>
  )
}

/** How many of the times fall in each of the last 12 hours. */
function hourly(times: readonly number[]): number[] {
  const counts = new Array<number>(12).fill(0)
  for (const at of times) {
    const hoursAgo = Math.floor((dataNow.value - at) / hourMs)
    if (hoursAgo >= 0 && hoursAgo < 12) counts[11 - hoursAgo]!++
  }
  return counts
}

/** Revenue a minute: a small chart for each region and currency, as currencies do not add up. */
import { signal } from '@preact/signals'
import { lastHour, revenue } from '../feeds.ts'
import { money, shortMoney, time } from '../format.ts'
import { Chart } from '../parts/chart.tsx'
import { Panel, type TableData } from '../parts/panel.tsx'
import type { RevenueRow } from '../rows.ts'
import { type Series, seriesOf, stateOf } from '../series.ts'

/** Charts shown; the smaller regions are in the table. */
const chartsMax = 9
const cursor = signal<number | undefined>(undefined)

function onCursor(index: number | undefined): void {
  cursor.value = index
}

const separator = '\u0000'
const keyOf = (row: RevenueRow) => `${row.region}${separator}${row.currency}`

export function RevenuePanel() {
  const series = seriesOf(revenue.rows.value, lastHour.value, keyOf, row => row.revenueMinor)
  const regions = [...series.lines.keys()].sort()
  return (
    <Panel
      title="Revenue"
      about="authorized payments of orders, a minute, last hour"
      feed={revenue}
      area="revenue"
      empty={regions.length === 0}
      emptyText="No order was paid in the last hour."
      table={() => tableOf(series, regions)}
      aside={<Legend />}
    >
      <div class="multiples">
        {regions.slice(0, chartsMax).map(key => (
          <Multiple key={key} name={key} series={series} />
        ))}
      </div>
    </Panel>
  )
}

export function Legend() {
  return (
    <span class="legend">
      <span class="key final" aria-hidden="true" /> final
      <span class="key provisional" aria-hidden="true" /> provisional
    </span>
  )
}

function Multiple({ name, series }: { name: string; series: Series }) {
  const [region = '', currency = ''] = name.split(separator)
  const values = series.lines.get(name)!
  const sum = values.reduce<number>((total, value) => total + (value ?? 0), 0)
  const index = cursor.value
  const at = index === undefined ? values.length - 1 : index
  const value = values[at]
  return (
    <div class="multiple">
      <div class="multiple-head">
        <h3>{region}</h3>
        <span class="sum" title={money(sum, currency)}>
          {shortMoney(sum, currency)}
        </span>
      </div>
      <Chart
        name={`Revenue of ${region} in ${currency}`}
        times={series.times}
        lines={[{ label: region, colour: 'accent', values }]}
        provisionalFrom={series.provisionalFrom}
        height={64}
        format={minor => shortMoney(minor, currency)}
        group="revenue"
        onCursor={onCursor}
      />
      <p class="readout">
        {time(series.times[at] ?? 0)}
        <b class="multiple-value">{value == null ? '–' : shortMoney(value, currency)}</b>
      </p>
    </div>
  )
}

function tableOf(series: Series, keys: readonly string[]): TableData {
  const names = keys.map(key => key.split(separator))
  const head = ['Minute', 'State', ...names.map(([region, currency]) => `${region} ${currency}`)]
  const rows = series.times.map((at, index) => [
    time(at),
    stateOf(series, at),
    ...keys.map((key, column) => {
      const value = series.lines.get(key)![index]
      return value == null ? '–' : money(value, names[column]![1] ?? '')
    }),
  ])
  return { words: 2, head, rows: rows.reverse() }
}

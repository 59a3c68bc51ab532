/** Orders a minute by region, on top of each other. */
import { signal } from '@preact/signals'
import { lastHour, volume } from '../feeds.ts'
import { count, shortCount, time } from '../format.ts'
import { Chart } from '../parts/chart.tsx'
import { Panel, type TableData } from '../parts/panel.tsx'
import { type Series, seriesOf, stacked, stateOf } from '../series.ts'

/** Regions with a colour of their own; the rest is one layer. */
const layersMax = 7
const rest = 'others'
const cursor = signal<number | undefined>(undefined)

function onCursor(index: number | undefined): void {
  cursor.value = index
}

export function VolumePanel() {
  const all = seriesOf(
    volume.rows.value,
    lastHour.value,
    row => row.region,
    row => row.orders,
  )
  const series = gathered(all)
  const names = [...series.lines.keys()]
  const stack = stacked([...series.lines.values()])
  const index = cursor.value ?? series.times.length - 1
  return (
    <Panel
      title="Orders"
      about="created a minute by region, last hour"
      feed={volume}
      area="volume"
      empty={names.length === 0}
      emptyText="No order was created in the last hour."
      table={() => tableOf(series)}
      aside={<span class="readout">{time(series.times[index] ?? 0)}</span>}
    >
      <div class="volume">
        <Chart
          name="Orders a minute by region"
          times={series.times}
          lines={names.map((label, layer) => ({
            label,
            colour: `series-${layer + 1}`,
            values: stack[layer]!,
          }))}
          provisionalFrom={series.provisionalFrom}
          height={262}
          format={shortCount}
          area
          axes
          onCursor={onCursor}
        />
        <ol class="layers">
          {names.map((name, layer) => (
            <li key={name}>
              <span class={`swatch series-${layer + 1}`} aria-hidden="true" />
              {name}
              <b>{shortCount(series.lines.get(name)![index] ?? 0)}</b>
            </li>
          ))}
        </ol>
      </div>
    </Panel>
  )
}

/** The largest lines, in alphabetical order so that layers keep their place, and the rest. */
function gathered(series: Series): Series {
  const entries = [...series.lines]
  const kept = entries.slice(0, layersMax).sort(([a], [b]) => (a < b ? -1 : 1))
  const small = entries.slice(layersMax)
  if (small.length === 0) return { ...series, lines: new Map(kept) }
  const sums = series.times.map((_, index) =>
    small.reduce<number | null>((sum, [, line]) => {
      const value = line[index]
      return value == null ? sum : (sum ?? 0) + value
    }, null),
  )
  return { ...series, lines: new Map([...kept, [rest, sums]]) }
}

function tableOf(series: Series): TableData {
  const names = [...series.lines.keys()]
  const rows = series.times.map((at, index) => [
    time(at),
    stateOf(series, at),
    ...names.map(name => {
      const value = series.lines.get(name)![index]
      return value == null ? '–' : count(value)
    }),
  ])
  return { words: 2, head: ['Minute', 'State', ...names], rows: rows.reverse() }
}

/** How far orders come: how many reached each step within a day. */
import { dayHours, funnel } from '../feeds.ts'
import { count, hourOfDay, rate, shortCount } from '../format.ts'
import { Panel, type TableData } from '../parts/panel.tsx'
import { SparkBars } from '../parts/spark.tsx'
import type { FunnelRow } from '../rows.ts'
import { type Range, type Series, seriesOf, stateOf } from '../series.ts'

const steps = ['created', 'paid', 'reserved', 'fulfilled', 'cancelled'] as const

interface Step {
  readonly name: (typeof steps)[number]
  readonly sum: number
  readonly series: Series
  readonly hours: readonly (number | null)[]
}

function stepsOf(rows: readonly FunnelRow[], range: Range): Step[] {
  return steps.map(name => {
    const series = seriesOf(
      rows,
      range,
      () => name,
      row => row[name],
    )
    const hours = series.lines.get(name) ?? []
    return { name, sum: hours.reduce<number>((sum, one) => sum + (one ?? 0), 0), series, hours }
  })
}

export function FunnelPanel() {
  const list = stepsOf(funnel.rows.value, dayHours.value)
  const [created] = list
  const most = Math.max(1, ...list.map(({ sum }) => sum))
  return (
    <Panel
      title="Order funnel"
      about="steps reached, last 24 hours"
      feed={funnel}
      area="funnel"
      empty={list.every(({ sum }) => sum === 0)}
      emptyText="No order took a step in the last 24 hours."
      table={() => tableOf(list)}
    >
      <ul class="steps">
        {list.map(step => (
          <StepLine key={step.name} step={step} most={most} created={created!.sum} />
        ))}
      </ul>
    </Panel>
  )
}

interface StepProps {
  readonly step: Step
  readonly most: number
  readonly created: number
}

function StepLine({ step, most, created }: StepProps) {
  const { name, sum, series, hours } = step
  const since = series.times.findIndex(at => at >= series.provisionalFrom)
  return (
    <li>
      <span class="step">{name}</span>
      <span class="reach" aria-hidden="true">
        <span
          class={name === 'cancelled' ? 'lost' : ''}
          style={{ width: `${(sum / most) * 100}%` }}
        />
      </span>
      <span class="trend">
        <SparkBars values={hours} provisionalFrom={since < 0 ? hours.length : since} />
      </span>
      <b class="amount" title={`${count(sum)} ${name}`}>
        {shortCount(sum)}
      </b>
      <span class="share">
        {created === 0 ? '–' : rate(sum / created)} <span class="unseen">of those created</span>
      </span>
    </li>
  )
}

/** An hour a line, the newest first. */
function tableOf(list: readonly Step[]): TableData {
  const { series } = list[0]!
  const rows = series.times.map((at, i) => [
    hourOfDay(at),
    stateOf(series, at),
    ...list.map(({ hours }) => (hours[i] === null ? '–' : count(hours[i] ?? 0))),
  ])
  const head = steps.map(name => name[0]!.toUpperCase() + name.slice(1))
  return { words: 2, head: ['Hour', 'State', ...head], rows: rows.reverse() }
}

/** How long orders take from stage to stage. */
import { dayHours, hourMs, latency } from '../feeds.ts'
import { age, count, hourOfDay } from '../format.ts'
import { Panel, type TableData } from '../parts/panel.tsx'
import { SparkLine } from '../parts/spark.tsx'
import type { LatencyRow } from '../rows.ts'
import type { Range } from '../series.ts'

interface Stage {
  readonly name: string
  /** Of the newest hour in which an order passed it. */
  readonly newest: LatencyRow
  /** p95 by hour; null where no order passed. */
  readonly p95: readonly (number | null)[]
}

function stagesOf(rows: readonly LatencyRow[], range: Range): Stage[] {
  const within = rows.filter(row => row.windowStart >= range.from && row.windowStart < range.to)
  const stages = Map.groupBy(within, row => row.stage)
  return [...stages]
    .map(([name, mine]) => {
      const p95 = new Array<number | null>((range.to - range.from) / hourMs).fill(null)
      for (const row of mine) p95[(row.windowStart - range.from) / hourMs] = row.p95
      const newest = mine.reduce((a, b) => (b.windowStart > a.windowStart ? b : a))
      return { name, newest, p95 }
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

export function LatencyPanel() {
  const range = dayHours.value
  const list = stagesOf(latency.rows.value, range)
  return (
    <Panel
      title="Stage latency"
      about="by the hour in which the next stage was reached"
      feed={latency}
      area="latency"
      empty={list.length === 0}
      emptyText="No order passed a stage in the last 24 hours."
      table={() => tableOf(latency.rows.value, range)}
    >
      <ul class="stages">
        <li class="stages-head" aria-hidden="true">
          <span>stage</span>
          <span>p50</span>
          <span>p95</span>
          <span>p99</span>
          <span class="trend">p95, 24 hours</span>
        </li>
        {list.map(stage => (
          <StageLine key={stage.name} stage={stage} />
        ))}
      </ul>
    </Panel>
  )
}

function StageLine({ stage }: { stage: Stage }) {
  const { name, newest, p95 } = stage
  return (
    <li>
      <span class="stage">
        {stageName(name)}
        <span class="count">
          {count(newest.count)} since {hourOfDay(newest.windowStart)}
        </span>
      </span>
      {(['p50', 'p95', 'p99'] as const).map(field => (
        <b key={field} class={newest.final ? 'amount' : 'amount provisional'}>
          <span class="unseen">{field} </span>
          {age(newest[field])}
        </b>
      ))}
      <span class="trend">
        <SparkLine values={p95} min={0} height={24} />
      </span>
    </li>
  )
}

/** `created→paid`, with air. */
function stageName(stage: string): string {
  return stage.replace('→', ' → ')
}

function tableOf(rows: readonly LatencyRow[], { from, to }: Range): TableData {
  const within = rows.filter(row => row.windowStart >= from && row.windowStart < to)
  within.sort((a, b) => b.windowStart - a.windowStart || (a.stage < b.stage ? -1 : 1))
  return {
    words: 3,
    head: ['Hour', 'Stage', 'State', 'Orders', 'p50', 'p95', 'p99'],
    rows: within.map(row => [
      hourOfDay(row.windowStart),
      stageName(row.stage),
      row.final ? 'final' : 'provisional',
      count(row.count),
      age(row.p50),
      age(row.p95),
      age(row.p99),
    ]),
  }
}

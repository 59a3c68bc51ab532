/** What became of payments, by method. */
import { hourMs, lastHour, outcomes } from '../feeds.ts'
import { count, rate, shortCount } from '../format.ts'
import { Panel, type TableData } from '../parts/panel.tsx'
import { SparkLine } from '../parts/spark.tsx'
import type { OutcomeRow } from '../rows.ts'
import type { Range } from '../series.ts'

/** Below this a method alerts. */
export const rateFloor = 0.8
const windowMs = 300_000

interface Outcome {
  readonly method: string
  readonly authorized: number
  readonly declined: number
  readonly refunded: number
  /** Of authorized and declined; undefined without either. */
  readonly rate: number | undefined
  readonly rates: readonly (number | null)[]
}

/** Sums of the last hour and the rate of each 5 minutes. */
export function rateSeries(rows: readonly OutcomeRow[], { to }: Pick<Range, 'to'>) {
  const from = Math.ceil(to / windowMs) * windowMs - hourMs
  const buckets = Array.from({ length: hourMs / windowMs }, () => ({ authorized: 0, declined: 0 }))
  const sums = { authorized: 0, declined: 0, refunded: 0 }
  for (const row of rows) {
    const bucket = buckets[(row.windowStart - from) / windowMs]
    if (bucket === undefined) continue
    bucket.authorized += row.authorized
    bucket.declined += row.declined
    sums.authorized += row.authorized
    sums.declined += row.declined
    sums.refunded += row.refunded
  }
  const rates = buckets.map(({ authorized, declined }) =>
    authorized + declined === 0 ? null : authorized / (authorized + declined),
  )
  return { ...sums, rates }
}

function outcomesOf(rows: readonly OutcomeRow[], range: Range): Outcome[] {
  const methods = new Map<string, OutcomeRow[]>()
  for (const row of rows) {
    const mine = methods.get(row.method)
    if (mine === undefined) methods.set(row.method, [row])
    else mine.push(row)
  }
  return [...methods]
    .map(([method, mine]) => {
      const sums = rateSeries(mine, range)
      const attempts = sums.authorized + sums.declined
      return { method, ...sums, rate: attempts === 0 ? undefined : sums.authorized / attempts }
    })
    .sort((a, b) => b.authorized + b.declined - a.authorized - a.declined)
}

export function PaymentsPanel() {
  const list = outcomesOf(outcomes.rows.value, lastHour.value)
  const most = Math.max(1, ...list.map(one => one.authorized + one.declined + one.refunded))
  return (
    <Panel
      title="Payments"
      about="by method, last hour"
      feed={outcomes}
      area="payments"
      empty={list.length === 0}
      emptyText="No payment came in the last hour."
      table={() => tableOf(list)}
    >
      <ul class="methods">
        <li class="methods-head" aria-hidden="true">
          <span class="legend">
            <span class="key authorized" /> authorized
            <span class="key declined" /> declined
            <span class="key refunded" /> refunded
          </span>
          <span class="trend">rate, 5 min</span>
          <span class="now">last hour</span>
        </li>
        {list.map(one => (
          <Method key={one.method} outcome={one} most={most} />
        ))}
      </ul>
    </Panel>
  )
}

function Method({ outcome, most }: { outcome: Outcome; most: number }) {
  const { method, authorized, declined, refunded } = outcome
  const low = outcome.rate !== undefined && outcome.rate < rateFloor && authorized + declined >= 20
  const part = (value: number) => ({ width: `${(value / most) * 100}%` })
  return (
    <li class={low ? 'low' : ''}>
      <span class="method">{method}</span>
      <span class="stack" aria-hidden="true">
        <span class="authorized" style={part(authorized)} />
        <span class="declined" style={part(declined)} />
        <span class="refunded" style={part(refunded)} />
      </span>
      <span class="counts">
        {shortCount(authorized)} <span class="unseen">authorized,</span>
        <span class="minor">
          {shortCount(declined)} <span class="unseen">declined,</span> · {shortCount(refunded)}{' '}
          <span class="unseen">refunded</span>
        </span>
      </span>
      <SparkLine values={outcome.rates} min={0.5} max={1} width={60} height={20} />
      <b title={low ? `Below ${rate(rateFloor)}` : 'Authorized of all attempts'}>
        {low && <span aria-hidden="true">▼ </span>}
        {outcome.rate === undefined ? '–' : rate(outcome.rate)}
      </b>
    </li>
  )
}

function tableOf(list: readonly Outcome[]): TableData {
  return {
    words: 1,
    head: ['Method', 'Authorized', 'Declined', 'Refunded', 'Rate'],
    rows: list.map(one => [
      one.method,
      count(one.authorized),
      count(one.declined),
      count(one.refunded),
      one.rate === undefined ? '–' : rate(one.rate),
    ]),
  }
}

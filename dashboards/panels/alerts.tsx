/** What the rules have found, newest first. */
import { alerts } from '../feeds.ts'
import { age, count, dateTime, time } from '../format.ts'
import { Panel, type TableData } from '../parts/panel.tsx'
import type { AlertRow } from '../rows.ts'
import { dataNow } from '../state.ts'

const shownMax = 50

/** Severities have a shape as well as a colour. */
const looks: Readonly<Record<string, string>> = {
  critical: 'critical',
  high: 'critical',
  error: 'critical',
  warning: 'warning',
  medium: 'warning',
}

export function AlertsPanel() {
  const rows = [...alerts.rows.value].sort((a, b) => b.windowEnd - a.windowEnd)
  const list = rows.slice(0, shownMax)
  return (
    <Panel
      title="Alerts"
      about={rows.length > shownMax ? `newest ${shownMax} of ${count(rows.length)}` : 'last 24 h'}
      feed={alerts}
      area="alerts"
      empty={list.length === 0}
      emptyText="Nothing unusual in the last 24 hours."
      table={() => tableOf(list)}
    >
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable */}
      <ol class="alerts" tabIndex={0} aria-label="Alerts, newest first">
        {list.map(row => (
          <Alert key={`${row.rule} ${row.key} ${row.windowStart}`} row={row} />
        ))}
      </ol>
    </Panel>
  )
}

function Alert({ row }: { row: AlertRow }) {
  const look = looks[row.severity] ?? 'info'
  return (
    <li class={look}>
      <span class="mark" role="img" aria-label={row.severity} />
      <div>
        <p class="alert-head">
          <b>{row.key}</b>
          <time dateTime={new Date(row.windowEnd).toISOString()} title={dateTime(row.windowEnd)}>
            {age(dataNow.value - row.windowEnd)} ago
          </time>
        </p>
        <p>{row.message}</p>
        <p class="minor">{row.rule}</p>
      </div>
    </li>
  )
}

function tableOf(list: readonly AlertRow[]): TableData {
  return {
    words: 5,
    head: ['Time', 'Severity', 'Rule', 'Key', 'Message'],
    rows: list.map(row => [time(row.windowEnd), row.severity, row.rule, row.key, row.message]),
  }
}

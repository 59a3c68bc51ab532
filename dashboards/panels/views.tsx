/** Any view as a table: each that is declared can be looked at, without a panel made for it. */
import { type AnyRow, choose, chosen, isPart, rows, status } from '../any-view.ts'
import { count, dateTime } from '../format.ts'
import { DataTable, Panel, type TableData } from '../parts/panel.tsx'
import { type DeclaredView, declared, hasPanels } from '../state.ts'

/** Larger numbers with the unit ms are times, smaller ones durations. */
const timesFromMs = 100_000_000_000

export function ViewsPanel() {
  const view = chosen.value
  if (view === undefined) return <Closed />
  const about = isPart.value
    ? `${view.description}; ${rows.value.length} of its rows`
    : view.description
  return (
    <Panel
      title={view.name}
      about={about}
      feed={{ view: view.name, status }}
      area="views"
      empty={rows.value.length === 0}
      emptyText={
        view.kind === 'table' ? 'It has no rows.' : 'It has no rows of the last five weeks.'
      }
      aside={<Choice current={view.name} />}
    >
      <DataTable title={view.name} data={tableOf(view, rows.value)} />
    </Panel>
  )
}

function Closed() {
  return (
    <figure class="panel area-views" aria-label="Views">
      <figcaption class="panel-head">
        <div class="panel-name">
          <h2>All views</h2>
          <span class="about">look at the rows of any</span>
        </div>
        <div class="panel-aside">
          <Choice current="" />
        </div>
      </figcaption>
    </figure>
  )
}

function Choice({ current }: { current: string }) {
  const names = [...(declared.value ?? new Map<string, DeclaredView>()).keys()].sort()
  return (
    <select
      aria-label="View whose rows are shown"
      value={current}
      onChange={event => choose(event.currentTarget.value)}
    >
      {hasPanels.value && <option value="">–</option>}
      {names.map(name => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  )
}

const windowFields = ['windowStart', 'windowEnd']

function tableOf(view: DeclaredView, list: readonly AnyRow[]): TableData {
  const [first = {}] = list
  const isNumber = (name: string) => typeof first[name] === 'number' && !windowFields.includes(name)
  const names = Object.keys(first).sort((a, b) => Number(isNumber(a)) - Number(isNumber(b)))
  return {
    words: names.filter(name => !isNumber(name)).length,
    head: names,
    rows: list.map(row => names.map(name => textOf(row[name], isTime(view, name, row[name])))),
  }
}

function isTime({ units }: DeclaredView, name: string, value: unknown): boolean {
  if (windowFields.includes(name)) return true
  return units[name] === 'ms' && typeof value === 'number' && value >= timesFromMs
}

function textOf(value: unknown, asTime: boolean): string {
  if (value === null || value === undefined) return '–'
  if (typeof value === 'number') return asTime ? dateTime(value) : count(value)
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

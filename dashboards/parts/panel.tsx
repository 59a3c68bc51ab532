/** A named figure with its state, and its data as a table for whoever prefers that. */
import { type Signal, signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useId, useMemo } from 'preact/hooks'
import { count } from '../format.ts'
import { connection, type FeedStatus, figures } from '../state.ts'

export interface TableData {
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
  /** How many of the first columns are words; the others are numbers. */
  readonly words: number
}

export interface PanelProps {
  readonly title: string
  /** What is shown, over which time. */
  readonly about: string
  /** Of which view, and whether its rows are there. */
  readonly feed: { readonly view: string; readonly status: Signal<FeedStatus> }
  readonly area: string
  readonly empty: boolean
  readonly emptyText: string
  /** The same data as text; computed only while it is shown. */
  readonly table?: () => TableData
  readonly aside?: ComponentChildren
  readonly children: ComponentChildren
}

export function Panel(props: PanelProps) {
  const { title, about, area, feed, table } = props
  const id = useId()
  const asTable = useMemo(() => signal(false), [])
  const status = feed.status.value
  const late = figures.value?.lateByStep.get(feed.view) ?? 0
  return (
    <figure class={`panel area-${area}`} aria-labelledby={id}>
      <figcaption class="panel-head">
        <div class="panel-name">
          <h2 id={id}>{title}</h2>
          <span class="about">{about}</span>
        </div>
        <div class="panel-aside">
          {late > 0 && (
            <span class="late" title="Records that came after their window had closed">
              {count(late)} late
            </span>
          )}
          {props.aside}
          {table !== undefined && status === 'live' && !props.empty && (
            <button
              type="button"
              class="quiet"
              aria-pressed={asTable.value}
              aria-label={`${title} as a table`}
              onClick={() => {
                asTable.value = !asTable.value
              }}
            >
              Table
            </button>
          )}
        </div>
      </figcaption>
      <div class="panel-body">
        {status === 'live' && !props.empty ? (
          asTable.value && table !== undefined ? (
            <DataTable title={title} data={table()} />
          ) : (
            props.children
          )
        ) : (
          <Placeholder status={status} emptyText={props.emptyText} />
        )}
      </div>
    </figure>
  )
}

function Placeholder({ status, emptyText }: { status: FeedStatus; emptyText: string }) {
  if (status === 'absent') return <p class="placeholder">This instance does not run this view.</p>
  if (status === 'live') return <p class="placeholder">{emptyText}</p>
  const waiting = connection.value === 'open' ? 'Reading the view…' : 'Waiting for the server…'
  return (
    <div class="placeholder loading">
      <span class="skeleton" />
      <span class="skeleton" />
      <span class="skeleton" />
      <p>{waiting}</p>
    </div>
  )
}

export function DataTable({ title, data }: { title: string; data: TableData }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class="table-scroll" tabIndex={0} aria-label={`${title}, data`}>
      <table>
        <thead>
          <tr>
            {data.head.map((name, column) => (
              <th scope="col" key={name} class={column < data.words ? 'word' : ''}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {data.rows.map(([first, ...rest]) => (
            <tr key={`${first} ${rest.slice(0, Math.max(1, data.words - 1)).join(' ')}`}>
              <th scope="row">{first}</th>
              {rest.map((text, index) => (
                <td key={data.head[index + 1]} class={index + 1 < data.words ? 'word' : ''}>
                  {text}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  )
}

/** One view of the instance, whichever is chosen: some of its rows, read anew with each poll. */
import { computed, signal } from '@preact/signals'
import {
  ask,
  type DeclaredView,
  dataNow,
  declared,
  type FeedStatus,
  hasPanels,
  onPoll,
} from './state.ts'

export type AnyRow = Readonly<Record<string, unknown>>

const limit = 100
const hourMs = 3_600_000
const minuteMs = 60_000

/** What the reader has chosen; where nothing else is on the page, the first view is. */
const wanted = signal<string | undefined>(undefined)
export const chosen = computed<DeclaredView | undefined>(() => {
  const views = declared.value ?? new Map<string, DeclaredView>()
  const [first] = views.values()
  return views.get(wanted.value ?? '') ?? (hasPanels.value ? undefined : first)
})
export const rows = signal<readonly AnyRow[]>([])
export const status = signal<FeedStatus>('loading')
/** There are more rows than shown. */
export const isPart = signal(false)

/** Windows that begin within it are asked for; it shrinks until they fit on a page. */
let spanMs = hourMs
let turn = 0

export function choose(name: string): void {
  wanted.value = name === '' ? undefined : name
  status.value = 'loading'
  rows.value = []
  isPart.value = false
  spanMs = hourMs
  void refresh()
}

async function refresh(): Promise<void> {
  const view = chosen.value
  const own = ++turn
  if (view === undefined) return
  const from = view.kind === 'table' ? '' : `&from=${Math.floor(dataNow.value - spanMs)}`
  const path = `/v1/views/${encodeURIComponent(view.name)}/rows?limit=${limit}${from}`
  const answer = await ask(path)
  if (answer === undefined || own !== turn) return
  const page = (await answer.json()) as { rows: readonly AnyRow[]; next: string | null }
  if (own !== turn) return
  const isMore = page.next !== null
  // The oldest windows come first: of many the newest are wanted.
  if (isMore && view.kind !== 'table' && spanMs > minuteMs) {
    spanMs = Math.max(minuteMs, spanMs / 4)
    return refresh()
  }
  rows.value = view.kind === 'table' ? page.rows : [...page.rows].reverse()
  isPart.value = isMore
  status.value = 'live'
}

onPoll(() => void refresh())

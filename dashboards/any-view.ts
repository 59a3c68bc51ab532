/** One view of the instance, whichever is chosen: some of its rows, read anew with each poll. */
import { batch, computed, signal } from '@preact/signals'
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

const shownMax = 100
/** As many as the server gives at once. */
const pageRows = 1000
const pagesMax = 3
const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs

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

/**
 * Windows that begin within so much are asked for: the shortest in which there are enough. They
 * come oldest first, and nobody says how long they are.
 */
const spans = [
  minuteMs,
  5 * minuteMs,
  15 * minuteMs,
  hourMs,
  dayMs / 4,
  dayMs,
  7 * dayMs,
  35 * dayMs,
]
let spanAt = 0
let turn = 0
/** The turn that is under way. */
let reading: number | undefined

export function choose(name: string): void {
  wanted.value = name === '' ? undefined : name
  status.value = 'loading'
  rows.value = []
  isPart.value = false
  spanAt = 0
  void refresh()
}

interface Found {
  readonly rows: readonly AnyRow[]
  readonly isPart: boolean
}

async function refresh(): Promise<void> {
  const view = chosen.value
  const own = ++turn
  if (view === undefined) return
  reading = own
  const found = await (view.kind === 'table' ? read(view) : newestWindows(view, own))
  if (reading === own) reading = undefined
  if (found === undefined || own !== turn) return
  batch(() => {
    rows.value = found.rows
    isPart.value = found.isPart
    status.value = 'live'
  })
}

async function newestWindows(view: DeclaredView, own: number): Promise<Found | undefined> {
  for (let at = Math.max(0, spanAt - 1); own === turn; at++) {
    const spanMs = spans[at]!
    const found = await read(view, Math.floor(dataNow.value - spanMs))
    if (found === undefined || own !== turn) return undefined
    spanAt = at
    const count = found.rows.length
    const isEnough = count >= shownMax || (count > 0 && spanMs >= hourMs)
    if (isEnough || at === spans.length - 1) return { ...found, rows: found.rows.toReversed() }
  }
  return undefined
}

/** The first rows of a view, or the last of the windows that begin at `from` or later. */
async function read({ name, kind }: DeclaredView, from?: number): Promise<Found | undefined> {
  const isTable = kind === 'table'
  const parameters = new URLSearchParams({ limit: String(isTable ? shownMax : pageRows) })
  if (from !== undefined) parameters.set('from', String(from))
  const all: AnyRow[] = []
  let next: string | null = null
  for (let page = 0; page < pagesMax; page++) {
    if (next !== null) parameters.set('cursor', next)
    const answer = await ask(`/v1/views/${encodeURIComponent(name)}/rows?${parameters}`)
    if (answer === undefined) return undefined
    const found = (await answer.json()) as { rows: readonly AnyRow[]; next: string | null }
    all.push(...found.rows)
    next = found.next
    // A page may be short although there is more: the server had no more time for it.
    if (next === null || (isTable && all.length >= shownMax)) break
  }
  const isPart = next !== null || all.length > shownMax
  return { rows: isTable ? all.slice(0, shownMax) : all.slice(-shownMax), isPart }
}

// An answer that takes longer than a poll is waited for: else none would ever be shown.
onPoll(() => {
  if (reading === undefined) void refresh()
})

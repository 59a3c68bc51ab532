/** What the page knows: connection, clock, figures, and the rows of its views, as signals. */
import { batch, computed, signal } from '@preact/signals'
import { type ConnectionState, connectLive, type LiveSubscription } from '../client/index.ts'
import { figuresOf, type ServiceFigures } from './metrics-text.ts'

const minuteMs = 60_000
/** How often subscriptions begin anew, so that rows which have left the page are let go. */
const renewMs = 20 * minuteMs

export const connection = signal<ConnectionState>('connecting')
/** Wall time of the last message from the server; 0 before the first. */
export const lastMessageAt = signal(0)
/** Wall time, once a second; it stands still while the page is paused. */
export const now = signal(Date.now())
/** Wall time at which the page was paused. */
export const pausedAt = signal<number | undefined>(undefined)
export const figures = signal<ServiceFigures | undefined>(undefined)

/** A view as the server describes it. */
export interface DeclaredView {
  readonly name: string
  readonly kind: 'table' | 'window' | 'session'
  readonly units: Readonly<Record<string, string>>
  readonly description: string
}

/** The views that the server has, by name; undefined before it has said. */
export const declared = signal<ReadonlyMap<string, DeclaredView> | undefined>(undefined)

/** Time of the newest event that the server has seen. */
export const newestEvent = computed(() => figures.value?.newestEventMs)

/**
 * Up to when the page shows data: now, or the newest event when that is long ago (an import of
 * old data, a demo that stands still).
 */
export const dataNow = computed(() => {
  const newest = newestEvent.value
  const wall = Math.floor(now.value / 1000) * 1000
  return newest !== undefined && wall - newest > 30 * minuteMs ? newest : wall
})

export type FeedStatus = 'loading' | 'live' | 'absent'

/** The rows of one view within the last `spanMs`; all of them without a span. */
export class Feed<Row> {
  readonly view: string
  readonly rows = signal<readonly Row[]>([])
  readonly status = signal<FeedStatus>('loading')
  private readonly spanMs: number | undefined
  private subscription: LiveSubscription<Row> | undefined
  private from = 0
  private openedAt = 0
  private dirty = false

  constructor(view: string, spanMs?: number) {
    this.view = view
    this.spanMs = spanMs
    feeds.push(this as unknown as Feed<unknown>)
  }

  /** Subscribes, or begins anew when the span has moved on. */
  open(dataNowMs: number): void {
    // Whole five minutes, so that all pages ask for the same and share what is encoded.
    const from = Math.max(0, Math.floor((dataNowMs - (this.spanMs ?? 0)) / 300_000) * 300_000)
    const moved = this.spanMs !== undefined && Math.abs(from - this.from) > renewMs
    if (this.subscription !== undefined && !moved) return
    const before = this.subscription
    this.from = from
    this.openedAt++
    const turn = this.openedAt
    const filter: Record<string, number> = this.spanMs === undefined ? {} : { from }
    const next = live.subscribe<Row>(
      { view: this.view, filter },
      {
        onRows: () => {
          if (turn !== this.openedAt) return
          // The old rows stand until the new ones are there.
          before?.close()
          this.subscription = next
          this.dirty = true
          scheduleFrame()
        },
        onError: () => {
          this.status.value = 'absent'
        },
      },
    )
    this.subscription ??= next
  }

  markAbsent(): void {
    this.status.value = 'absent'
  }

  /** Shows what has come since the last frame. */
  show(): void {
    if (!this.dirty || this.subscription === undefined) return
    this.dirty = false
    this.rows.value = [...this.subscription.rows.values()]
    this.status.value = 'live'
  }
}

const feeds: Feed<unknown>[] = []

/** Whether the server has a view that the page has a panel for. */
export const hasPanels = computed(
  () => declared.value === undefined || feeds.some(({ view }) => declared.value!.has(view)),
)

const keyName = 'millrace.key'

function storedKey(): string | undefined {
  return sessionStorage.getItem(keyName) ?? undefined
}

/** Keeps the key for this tab and connects with it. */
export function keepKey(key: string): void {
  sessionStorage.setItem(keyName, key)
  live.reconnect()
  void poll()
}

const live = connectLive(new URL('/v1/live', location.href).href, {
  WebSocket,
  schedule: (run, delayMs) => {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
  random: Math.random,
  apiKey: storedKey,
  backoffMs: [250, 5_000],
  onState: state => {
    connection.value = state
    if (state === 'open') void poll()
  },
  onMessage: () => {
    lastMessageSeen = Date.now()
  },
})

let lastMessageSeen = 0
let frameRequested = false

/** All messages between two frames are shown at once. */
function scheduleFrame(): void {
  if (frameRequested || pausedAt.value !== undefined) return
  frameRequested = true
  requestAnimationFrame(() => {
    frameRequested = false
    if (pausedAt.value === undefined) showAll()
  })
}

function showAll(): void {
  batch(() => {
    lastMessageAt.value = lastMessageSeen
    for (const feed of feeds) feed.show()
  })
}

export function pause(): void {
  pausedAt.value = Date.now()
}

/** Goes on at the present: what came meanwhile is shown at once. */
export function resume(): void {
  batch(() => {
    pausedAt.value = undefined
    now.value = Date.now()
  })
  showAll()
}

export async function ask(path: string): Promise<Response | undefined> {
  const key = storedKey()
  const headers = new Headers(key === undefined ? {} : { authorization: `Bearer ${key}` })
  try {
    const response = await fetch(path, { headers })
    return response.ok ? response : undefined
  } catch {
    return undefined
  }
}

async function poll(): Promise<void> {
  if (declared.value === undefined) {
    const answer = await ask('/v1/views')
    if (answer !== undefined) {
      const { views } = (await answer.json()) as { views: readonly DeclaredView[] }
      declared.value = new Map(views.map(view => [view.name, view]))
    }
  }
  const answer = await ask('/metrics')
  if (answer !== undefined && pausedAt.value === undefined) {
    figures.value = figuresOf(await answer.text())
  }
  if (declared.value === undefined) return
  openFeeds(declared.value)
  if (pausedAt.value === undefined) for (const poller of pollers) poller()
}

const pollers: (() => void)[] = []

/** Does so with every poll, but while the page is paused. */
export function onPoll(poller: () => void): void {
  pollers.push(poller)
}

function openFeeds(views: ReadonlyMap<string, unknown>): void {
  for (const feed of feeds) {
    if (views.has(feed.view)) feed.open(dataNow.value)
    else feed.markAbsent()
  }
}

/** Starts the page's clock and its polls. */
export function start(): void {
  void poll()
  setInterval(() => {
    if (pausedAt.value !== undefined) return
    batch(() => {
      now.value = Date.now()
      lastMessageAt.value = lastMessageSeen
    })
  }, 1000)
  setInterval(() => {
    if (!document.hidden) void poll()
  }, 3000)
  addEventListener('online', () => live.reconnect())
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) live.reconnect()
  })
}

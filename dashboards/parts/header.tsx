/** The page's head: is it connected, how fresh is it, and the controls of the whole page. */
import { age, count, dateTime, timeOfDay } from '../format.ts'
import {
  connection,
  dataNow,
  figures,
  lastMessageAt,
  newestEvent,
  now,
  pause,
  pausedAt,
  resume,
} from '../state.ts'
import { choice, nextTheme } from '../theme.ts'

const words = {
  connecting: 'Connecting',
  open: 'Live',
  waiting: 'Reconnecting',
  refused: 'Key needed',
  closed: 'Closed',
} as const

/** No message for this long is worth a warning: positions come every second. */
const quietMs = 15_000

export function connectionLook(): { readonly look: string; readonly word: string } {
  if (pausedAt.value !== undefined) return { look: 'paused', word: 'Paused' }
  const state = connection.value
  if (state === 'connecting' && lastMessageAt.value > 0) {
    return { look: 'down', word: words.waiting }
  }
  const quiet = state === 'open' && now.value - lastMessageAt.value > quietMs
  if (quiet && lastMessageAt.value > 0) return { look: 'stale', word: 'Quiet' }
  return { look: state === 'open' ? 'live' : 'down', word: words[state] }
}

export function Header() {
  const { look, word } = connectionLook()
  return (
    <header class="head">
      <div class="brand">
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <path d="M3 11c4.5 0 4.5 5 9 5s4.5-5 9-5 4 3 8 4" />
          <path class="second" d="M3 20c4.5 0 4.5 5 9 5s4.5-5 9-5 4 3 8 4" />
        </svg>
        <h1>Millrace</h1>
        <span class="page-name">Orders &amp; payments</span>
      </div>
      <dl class="vitals">
        <div class={`state ${look}`}>
          <dt>Feed</dt>
          <dd>
            <span class="dot" aria-hidden="true" />
            {word}
          </dd>
        </div>
        <Freshness />
        <Counters />
      </dl>
      <div class="controls">
        <PauseButton />
        <button type="button" onClick={nextTheme} aria-label={`Theme: ${choice.value}. Change`}>
          <ThemeIcon /> {choice.value}
        </button>
      </div>
    </header>
  )
}

function Freshness() {
  const newest = newestEvent.value
  const message = lastMessageAt.value
  const at = pausedAt.value ?? now.value
  return (
    <>
      <div title={newest === undefined ? '' : dateTime(newest)}>
        <dt>Newest event</dt>
        <dd>{newest === undefined ? '–' : `${age(at - newest)} ago`}</dd>
      </div>
      <div>
        <dt>Last message</dt>
        <dd>{message === 0 ? '–' : `${age(at - message)} ago`}</dd>
      </div>
    </>
  )
}

function Counters() {
  const known = figures.value
  const numbers = [
    ['Backlog', known?.backlog, 'Records read but not processed yet'],
    ['Late', known?.late, 'Records that came after their window had closed'],
    [
      'Dropped',
      known?.dropped,
      'All records taken out of the flow, with their reasons in /metrics',
    ],
  ] as const
  return (
    <>
      {numbers.map(([name, value, title]) => (
        <div key={name} title={title} class={name === 'Dropped' && value ? 'warn' : ''}>
          <dt>{name}</dt>
          <dd>{value === undefined ? '–' : count(value)}</dd>
        </div>
      ))}
      <DeadLetters open={known?.openLetters} />
    </>
  )
}

/** Who may read them gets the list; it needs the role admin. */
function DeadLetters({ open }: { open: number | undefined }) {
  return (
    <div
      title="Records put aside that are neither replayed nor discarded"
      class={open ? 'warn' : ''}
    >
      <dt>Dead letters</dt>
      <dd>{open === undefined ? '–' : <a href="/v1/dead-letters">{count(open)}</a>}</dd>
    </div>
  )
}

function PauseButton() {
  const paused = pausedAt.value !== undefined
  return (
    <button type="button" class="primary" aria-pressed={paused} onClick={paused ? resume : pause}>
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        {paused ? <path d="M4 2.5v11l9-5.5z" /> : <path d="M4 3h3v10H4zM9 3h3v10H9z" />}
      </svg>
      {paused ? 'Resume' : 'Pause'}
    </button>
  )
}

function ThemeIcon() {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" stroke-width="1.5" />
      <path d="M8 2.5a5.5 5.5 0 0 1 0 11z" />
    </svg>
  )
}

/** One line across the page when what it shows is not the present. */
export function Notice() {
  const notice = noticeNow()
  return notice && <aside aria-label="What is shown">{notice}</aside>
}

function noticeNow() {
  if (pausedAt.value !== undefined) {
    return <p class="notice paused">Paused at {timeOfDay(pausedAt.value)}. Data keeps coming in.</p>
  }
  const { look, word } = connectionLook()
  if (look === 'down' && lastMessageAt.value > 0) {
    return (
      <p class="notice down">
        {word}: the numbers below are those of {timeOfDay(lastMessageAt.value)}.
      </p>
    )
  }
  if (now.value - dataNow.value > 60_000) {
    return (
      <p class="notice">The newest event is old: showing data up to {dateTime(dataNow.value)}.</p>
    )
  }
  if (figures.value !== undefined && newestEvent.value === undefined) {
    return (
      <p class="notice">
        No event has come in yet. Send some as NDJSON to <code>POST /v1/events</code>, or start
        without <code>--no-demo</code>.
      </p>
    )
  }
  return null
}

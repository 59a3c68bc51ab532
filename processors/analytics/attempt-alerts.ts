/**
 * Customers who try to pay again and again: the rule `payment-attempts` of the view `alerts`.
 *
 * in     payment attempts, re-keyed by customer
 * time   the payment's; sliding 10 min, both ends included; grace 10 min
 * state  one row a customer with the times of the last 10 min + grace, changelogged
 * out    one alert when more than 3 attempts lie within 10 min, and again only after there were
 *        3 or fewer; judged in event time once the grace has passed
 * late   attempts whose time + grace is at or before their stream time, counted
 */
import { type ProcessorContext, type Stream, textKey } from '../../streams/index.ts'
import type { Alert, AlertKey } from './alerts.ts'
import type { PaymentAttempt } from './payment-attempts.ts'
import { graceMs, minuteMs } from './view-times.ts'

const reachMs = 10 * minuteMs
const attemptsMax = 3
const rule = 'payment-attempts'

interface Attempts {
  /** Times of attempts, ascending: those that a window to come may hold. */
  readonly times: readonly number[]
  /** The last window judged: its end, and the attempts in it. */
  readonly judgedMs: number
  readonly judgedCount: number
}

const nothingJudged: Attempts = {
  times: [],
  judgedMs: Number.MIN_SAFE_INTEGER,
  judgedCount: 0,
}

const customerKey = textKey('customerId')
const stores = { attempts: { key: customerKey } } as const
type Context = ProcessorContext<string, typeof stores, AlertKey, Alert>

export function attemptAlertsTopology(
  attempts: Stream<string, PaymentAttempt>,
): Stream<AlertKey, Alert> {
  return attempts
    .selectKey(({ customerId }) => customerId)
    .repartition({ name: 'attempts-by-customer', key: customerKey })
    .process<typeof stores, AlertKey, Alert>({
      name: 'attempt-alerts',
      key: customerKey,
      stores,
      holdsMs: graceMs,
      create: context => ({
        process: ({ key, timeMs, streamTimeMs }) => {
          if (timeMs + graceMs <= Math.max(streamTimeMs, context.watermarkMs)) {
            context.drop('late', `attempts of ${timeMs} have been judged`)
            return
          }
          note(context, key, timeMs)
        },
        onTimer: ({ key, atMs, name }) => {
          if (name === 'judge') judge(context, key, atMs - graceMs)
          else forget(context, key, atMs - graceMs)
        },
      }),
    })
}

/**
 * Most customers never make so many attempts that there is something to judge: then their row
 * costs one timer. Once it holds too many, all its times are judged that have not been, in their
 * order: those that came before there were too many turn out to be none.
 */
function note(context: Context, key: string, timeMs: number): void {
  const rows = context.store('attempts')
  const row = rows.get(key) as Attempts | undefined
  const { times: before, judgedMs, judgedCount } = row ?? nothingJudged
  const times = withTime(before, timeMs)
  rows.put(key, { times, judgedMs, judgedCount })
  if (row === undefined) scheduleForget(context, key, timeMs)
  if (times.length <= attemptsMax) return
  for (const time of times) {
    const timer = { clock: 'event', atMs: time + graceMs, key, name: 'judge' } as const
    if (time > judgedMs) context.schedule(timer)
  }
}

function withTime(times: readonly number[], timeMs: number): number[] {
  let at = times.length
  while (at > 0 && times[at - 1]! > timeMs) at--
  return times.toSpliced(at, 0, timeMs)
}

/** All attempts up to `timeMs` are known, and there is one at `timeMs`. */
function judge(context: Context, key: string, timeMs: number): void {
  const rows = context.store('attempts')
  const row = rows.get(key) as Attempts
  const times = row.times.filter(time => time >= timeMs - reachMs)
  const observed = times.filter(time => time <= timeMs).length
  const wasOver = row.judgedMs >= timeMs - reachMs && row.judgedCount > attemptsMax
  if (observed > attemptsMax && !wasOver) {
    const alert: Alert = {
      windowStart: timeMs - reachMs,
      windowEnd: timeMs,
      severity: 'warning',
      observed,
      expected: attemptsMax,
      message: `${observed} payment attempts within 10 minutes, at most ${attemptsMax} expected`,
    }
    context.forward({ rule, key }, alert, timeMs)
  }
  rows.put(key, { times, judgedMs: timeMs, judgedCount: observed })
}

/** When an attempt lies in no window to come. */
function scheduleForget(context: Context, key: string, timeMs: number): void {
  const atMs = timeMs + graceMs + reachMs + 1
  context.schedule({ clock: 'event', atMs, key, name: 'forget' })
}

/** What was judged by then is in no window with what comes. */
function forget(context: Context, key: string, timeMs: number): void {
  const rows = context.store('attempts')
  const row = rows.get(key) as Attempts | undefined
  if (row === undefined) return
  const times = row.times.filter(time => time >= timeMs - reachMs)
  const last = times.at(-1)
  if (last === undefined) {
    rows.delete(key)
    return
  }
  if (times.length < row.times.length) rows.put(key, { ...row, times })
  scheduleForget(context, key, last)
}

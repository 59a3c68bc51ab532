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

function note(context: Context, key: string, timeMs: number): void {
  const rows = context.store('attempts')
  const row = (rows.get(key) as Attempts | undefined) ?? {
    times: [],
    judgedMs: Number.MIN_SAFE_INTEGER,
    judgedCount: 0,
  }
  const times = [...row.times, timeMs].sort((a, b) => a - b)
  rows.put(key, { ...row, times })
  context.schedule({ clock: 'event', atMs: timeMs + graceMs, key, name: 'judge' })
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
  const atMs = timeMs + graceMs + reachMs + 1
  context.schedule({ clock: 'event', atMs, key, name: 'forget' })
}

/** Nothing that was judged by then can lie in a window with what comes. */
function forget(context: Context, key: string, timeMs: number): void {
  const rows = context.store('attempts')
  const row = rows.get(key) as Attempts | undefined
  if (row?.times.every(time => time < timeMs - reachMs)) rows.delete(key)
}

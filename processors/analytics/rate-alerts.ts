/**
 * Payment methods that fail: the rule `authorization-rate` of the view `alerts`.
 *
 * in     payments by method
 * time   authorizedAt, declinedAt; the trailing hour, every 5 min; grace 10 min
 * state  one row a window and method until it closes, changelogged
 * out    one alert for each window that closed with a rate below 0.80 over 20 attempts or more
 * late   payments after end + grace go to the dead letters, counted
 */
import { hopping, type Stream } from '../../streams/index.ts'
import type { Alert, AlertKey } from './alerts.ts'
import { authorizationRate, type PaymentsByMethod, withOutcome } from './payment-outcomes.ts'
import { graceMs, hourMs, minuteMs } from './view-times.ts'

const rateMin = 0.8
const attemptsMin = 20
const rule = 'authorization-rate'

export function rateAlertsTopology(payments: PaymentsByMethod): Stream<AlertKey, Alert> {
  return payments
    .windowedBy(hopping(hourMs, { advanceMs: 5 * minuteMs, graceMs }))
    .aggregate({
      name: 'rate-alerts',
      initial: () => ({ authorized: 0, declined: 0, refunded: 0 }),
      add: withOutcome,
      emit: 'close',
    })
    .toStream()
    .filter(outcomes => {
      const attempts = outcomes.authorized + outcomes.declined
      return attempts >= attemptsMin && authorizationRate(outcomes) < rateMin
    })
    .map<AlertKey, Alert>((outcomes, { key: method, windowStart, windowEnd }) => {
      const observed = authorizationRate(outcomes)
      const share = `${(observed * 100).toFixed(1)} % of ${outcomes.authorized + outcomes.declined}`
      const alert: Alert = {
        windowStart,
        windowEnd,
        severity: observed < rateMin / 2 ? 'critical' : 'warning',
        observed,
        expected: rateMin,
        message: `${share} payments by ${method} authorized in an hour, at least 80 % expected`,
      }
      return [{ rule, key: method }, alert]
    })
}

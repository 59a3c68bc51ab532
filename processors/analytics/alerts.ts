/**
 * What somebody should look at: the view `alerts`.
 *
 * in     the alerts of the three rules, by rule and key, all to one partition
 * time   each alert has the window that it is about
 * state  one row an alert, kept for the view's retention after its window's start, changelogged
 * out    each alert once, final
 * late   nothing is late here; the rules say what is late for them
 */
import { Type } from 'typebox'
import { fieldsKey, type Stream } from '../../streams/index.ts'
import type { ViewSettings } from './view-times.ts'

export interface AlertKey {
  readonly rule: string
  /** What the rule watches: a customer, a method, `region/currency`. */
  readonly key: string
}

export interface Alert {
  readonly windowStart: number
  readonly windowEnd: number
  readonly severity: 'warning' | 'critical'
  readonly observed: number
  readonly expected: number
  readonly message: string
}

const alertKey = fieldsKey('rule', 'key')

export function alertsTopology(
  rules: Readonly<Record<string, Stream<AlertKey, Alert>>>,
  { retentionMs }: ViewSettings,
): void {
  const [first, ...others] = Object.entries(rules).map(([rule, alerts]) =>
    alerts.repartition({ name: `alerts-of-${rule}`, key: alertKey, partitions: 1 }),
  )
  first!
    .merge(...others)
    .toWindows({
      name: 'alerts',
      key: alertKey,
      window: ({ windowStart, windowEnd }) => ({ windowStart, windowEnd }),
      retentionMs,
    })
    .view({
      name: 'alerts',
      description: 'Repeated payment attempts, failing payment methods and unusual revenue',
      value: {
        severity: Type.Union([Type.Literal('warning'), Type.Literal('critical')]),
        observed: Type.Number({ description: 'What was measured' }),
        expected: Type.Number({ description: 'The bound, or the usual value' }),
        message: Type.String({ description: 'A sentence for people' }),
      },
      row: ({ severity, observed, expected, message }) => ({
        severity,
        observed,
        expected,
        message,
      }),
    })
}

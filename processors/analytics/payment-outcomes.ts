/**
 * How payments end, by method: the view `payment-outcomes`.
 *
 * in     payments by orderId, re-keyed by method
 * time   authorizedAt, declinedAt, refundedAt; tumbling 5 min, grace 10 min
 * state  one row a window and method, kept for the view's retention, changelogged
 * out    counts, and authorizationRate = authorized ÷ (authorized + declined), 0 when none were
 * late   payments after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import type { BusinessEvent } from '../../contracts/events.ts'
import { type GroupedStream, textKey, tumbling } from '../../streams/index.ts'
import type { EventStreams } from './event-streams.ts'
import { graceMs, minuteMs, type ViewSettings } from './view-times.ts'

export interface Outcomes {
  readonly authorized: number
  readonly declined: number
  readonly refunded: number
}

const counted = {
  PaymentAuthorized: 'authorized',
  PaymentDeclined: 'declined',
  PaymentRefunded: 'refunded',
} as const

type Payment = Extract<BusinessEvent, { readonly type: keyof typeof counted }>

export type PaymentsByMethod = GroupedStream<string, Payment>

export function paymentsByMethod({ payments }: EventStreams): PaymentsByMethod {
  return payments
    .only((event): event is Payment => Object.hasOwn(counted, event.type))
    .groupBy(({ method }) => method, { name: 'payments-by-method', key: textKey('method') })
}

export function withOutcome(outcomes: Outcomes, { type }: Payment): Outcomes {
  const outcome = counted[type]
  return { ...outcomes, [outcome]: outcomes[outcome] + 1 }
}

export function paymentOutcomesTopology(payments: PaymentsByMethod, settings: ViewSettings): void {
  payments
    .windowedBy(tumbling(5 * minuteMs, { graceMs }))
    .aggregate<Outcomes>({
      name: 'payment-outcomes',
      initial: () => ({ authorized: 0, declined: 0, refunded: 0 }),
      add: withOutcome,
      retentionMs: settings.retentionMs,
    })
    .view({
      name: 'payment-outcomes',
      description: 'Payments authorized, declined and refunded every 5 minutes, by method',
      value: {
        authorized: Type.Integer({ description: 'Payments authorized' }),
        declined: Type.Integer({ description: 'Payments declined' }),
        refunded: Type.Integer({ description: 'Payments refunded' }),
        authorizationRate: Type.Number({
          description: 'authorized ÷ (authorized + declined); 0 when there were none',
          minimum: 0,
          maximum: 1,
        }),
      },
      units: { authorizationRate: 'ratio' },
      row: outcomes => ({ ...outcomes, authorizationRate: authorizationRate(outcomes) }),
    })
}

export function authorizationRate({ authorized, declined }: Outcomes): number {
  const attempts = authorized + declined
  return attempts === 0 ? 0 : authorized / attempts
}

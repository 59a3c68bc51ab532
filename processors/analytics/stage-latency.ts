/**
 * How long orders take from stage to stage, hour by hour: the view `stage-latency`.
 *
 * in     authorized payments with their orders; payments and fulfilments by orderId, co-partitioned
 * time   of the event that ends the stage; fulfilled within 7 days of the payment; tumbling 1 h,
 *        grace 10 min
 * state  one store a side; one sketch a window and stage, kept for the view's retention
 * out    count and quantiles (DDSketch, relative error 1 %)
 * late   records later than their reach + grace, and ends after the window's end + grace
 */
import { Type } from 'typebox'
import { DDSketch, ddSketchCodec, type Stream, textKey, tumbling } from '../../streams/index.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import type { PaymentAttempt } from './payment-attempts.ts'
import { fulfilmentReachMs, graceMs, hourMs, type ViewSettings } from './view-times.ts'

interface Passed {
  readonly stage: 'created→paid' | 'paid→fulfilled'
  readonly tookMs: number
}

export function stageLatencyTopology(
  events: EventStreams,
  attempts: Stream<string, PaymentAttempt>,
  { retentionMs }: ViewSettings,
): void {
  const paid = attempts
    .filter(({ isAuthorized }) => isAuthorized)
    .mapValues(({ afterMs }): Passed => ({ stage: 'created→paid', tookMs: afterMs }))
  paid
    .merge(fulfilled(events))
    .groupBy(({ stage }) => stage, { name: 'latency-by-stage', key: textKey('stage') })
    .windowedBy(tumbling(hourMs, { graceMs }))
    .aggregate<DDSketch>({
      name: 'stage-latency',
      initial: () => new DDSketch(),
      add: (sketch, { tookMs }) => {
        sketch.add(tookMs)
        return sketch
      },
      codec: ddSketchCodec,
      retentionMs,
    })
    .view({
      name: 'stage-latency',
      description:
        'How long orders took from one stage to the next, by the hour in which they reached it',
      value: {
        count: Type.Integer({ description: 'Orders that reached the next stage' }),
        p50: quantile('Half of them took no longer'),
        p95: quantile('95 of 100 took no longer'),
        p99: quantile('99 of 100 took no longer'),
      },
      units: { p50: 'ms', p95: 'ms', p99: 'ms' },
      row: sketch => ({
        count: sketch.count,
        p50: sketch.quantile(0.5),
        p95: sketch.quantile(0.95),
        p99: sketch.quantile(0.99),
      }),
    })
}

function quantile(words: string) {
  return Type.Number({ description: `${words}: within 1 %, negative where clocks disagree` })
}

function fulfilled({ payments, fulfilment }: EventStreams): Stream<string, Passed> {
  return ofType(payments, 'PaymentAuthorized').join(
    ofType(fulfilment, 'OrderFulfilled'),
    ({ authorizedAt }, { fulfilledAt }): Passed => ({
      stage: 'paid→fulfilled',
      tookMs: fulfilledAt - authorizedAt,
    }),
    {
      name: 'paid-fulfilled',
      // Then what is on time for its window is on time here.
      beforeMs: hourMs,
      afterMs: fulfilmentReachMs,
      graceMs,
      time: 'right',
    },
  )
}

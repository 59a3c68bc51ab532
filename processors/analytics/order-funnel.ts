/**
 * How far orders come, hour by hour: the view `order-funnel`.
 *
 * in     the steps of all orders, all to one partition
 * time   each event's own; tumbling 1 h, grace 10 min
 * state  one row a window, kept for the view's retention, changelogged
 * out    orders created, paid, reserved, fulfilled and cancelled in the hour
 * late   events after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import type { BusinessEvent } from '../../contracts/events.ts'
import { tumbling } from '../../streams/index.ts'
import type { EventStreams } from './event-streams.ts'
import { everything } from './everything-key.ts'
import { graceMs, hourMs, type ViewSettings } from './view-times.ts'

const steps = {
  OrderCreated: 'created',
  PaymentAuthorized: 'paid',
  InventoryReserved: 'reserved',
  OrderFulfilled: 'fulfilled',
  OrderCancelled: 'cancelled',
} as const

type Step = (typeof steps)[keyof typeof steps]
type Reached = Extract<BusinessEvent, { readonly type: keyof typeof steps }>
type Funnel = Readonly<Record<Step, number>>

export function orderFunnelTopology(events: EventStreams, { retentionMs }: ViewSettings): void {
  events.orders
    .merge(events.payments, events.inventory, events.fulfilment)
    .only((event): event is Reached => Object.hasOwn(steps, event.type))
    .mapValues(({ type }): Step => steps[type])
    .groupBy((): '' => '', { name: 'order-steps-together', key: everything, partitions: 1 })
    .windowedBy(tumbling(hourMs, { graceMs }))
    .aggregate<Funnel>({
      name: 'order-funnel',
      initial: () => ({ created: 0, paid: 0, reserved: 0, fulfilled: 0, cancelled: 0 }),
      add: (funnel, step) => ({ ...funnel, [step]: funnel[step] + 1 }),
      retentionMs,
    })
    .view({
      name: 'order-funnel',
      description: 'Steps that orders reached, an hour: each counts when it happened',
      value: {
        created: Type.Integer({ description: 'Orders created' }),
        paid: Type.Integer({ description: 'Payments authorized' }),
        reserved: Type.Integer({ description: 'Orders whose stock was reserved' }),
        fulfilled: Type.Integer({ description: 'Orders fulfilled' }),
        cancelled: Type.Integer({ description: 'Orders cancelled' }),
      },
    })
}

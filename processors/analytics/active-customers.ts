/**
 * How many customers order, hour by hour: the view `active-customers`.
 *
 * in     orders by orderId, all to one partition
 * time   createdAt; tumbling 1 h, grace 10 min
 * state  one sketch a window, kept for the view's retention, changelogged
 * out    distinct customers: exact up to 256, then HyperLogLog, standard error 0.8 %
 * late   orders after end + grace go to the dead letters, counted
 */
import { Type } from 'typebox'
import { HyperLogLog, hyperLogLogCodec, tumbling } from '../../streams/index.ts'
import { type EventStreams, ofType } from './event-streams.ts'
import { everything } from './everything-key.ts'
import { graceMs, hourMs, type ViewSettings } from './view-times.ts'

export function activeCustomersTopology({ orders }: EventStreams, settings: ViewSettings): void {
  ofType(orders, 'OrderCreated')
    .groupBy((): '' => '', { name: 'orders-together', key: everything, partitions: 1 })
    .windowedBy(tumbling(hourMs, { graceMs }))
    .aggregate<HyperLogLog>({
      name: 'active-customers',
      initial: () => new HyperLogLog(),
      add: (sketch, { customerId }) => {
        sketch.addBytes(Buffer.from(customerId))
        return sketch
      },
      codec: hyperLogLogCodec,
      retentionMs: settings.retentionMs,
    })
    .view({
      name: 'active-customers',
      description: 'Distinct customers with an order, an hour',
      value: { customers: Type.Integer({ description: 'Distinct customers' }) },
      row: sketch => ({ customers: sketch.count() }),
    })
}

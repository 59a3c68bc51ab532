/**
 * The analytics topology: all its views over the same two event streams.
 *
 * in     orders and payments by orderId
 * time   each event's own time field
 * state  as the parts say
 * out    the views of the parts; dead letters to `analytics-dead-letters`
 * late   as the parts say; one decision a window and record, by its own source partition
 */
import { Topology } from '../../streams/index.ts'
import { eventStreams } from './event-streams.ts'
import { orderVolumeTopology } from './order-volume.ts'
import { paidOrdersTopology } from './paid-orders.ts'
import { paymentOutcomesTopology } from './payment-outcomes.ts'
import { paidByRegion, revenueTopology } from './revenue.ts'
import { graceMs, type ViewSettings } from './view-times.ts'

export const analyticsApplication = 'analytics'

/** `retentionMs` below the grace is raised to it: windows are kept while they may change. */
export function analyticsTopology(wanted: ViewSettings): Topology {
  const topology = new Topology(analyticsApplication)
  const settings = { retentionMs: Math.max(wanted.retentionMs, graceMs) }
  const events = eventStreams(topology)
  orderVolumeTopology(events, settings)
  paymentOutcomesTopology(events, settings)
  revenueTopology(paidByRegion(paidOrdersTopology(events)), settings)
  return topology
}

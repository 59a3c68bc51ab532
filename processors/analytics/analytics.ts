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
import { activeCustomersTopology } from './active-customers.ts'
import { customerProfileTopology } from './customer-profile.ts'
import { customerSessionsTopology } from './customer-sessions.ts'
import { eventStreams } from './event-streams.ts'
import { orderVolumeTopology } from './order-volume.ts'
import { paidOrdersTopology } from './paid-orders.ts'
import { paymentOutcomesTopology } from './payment-outcomes.ts'
import { paidByRegion, revenueTopology } from './revenue.ts'
import { topProductsTopology } from './top-products.ts'
import { unpaidOrdersTopology } from './unpaid-orders.ts'
import { retentionMsMin, type ViewSettings } from './view-times.ts'

export const analyticsApplication = 'analytics'

/** A retention that is too short is raised: windows are kept while they may change. */
export function analyticsTopology(wanted: ViewSettings): Topology {
  const topology = new Topology(analyticsApplication)
  const settings = { retentionMs: Math.max(wanted.retentionMs, retentionMsMin) }
  const events = eventStreams(topology)
  orderVolumeTopology(events, settings)
  paymentOutcomesTopology(events, settings)
  revenueTopology(paidByRegion(paidOrdersTopology(events)), settings)
  unpaidOrdersTopology(events)
  topProductsTopology(events, settings)
  activeCustomersTopology(events, settings)
  customerSessionsTopology(events, settings)
  customerProfileTopology(events)
  return topology
}

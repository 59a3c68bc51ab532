/**
 * The analytics topology: all its views over the same event streams.
 *
 * in     orders, payments, inventory and fulfilment by orderId; stock by sku
 * time   each event's own time field
 * state  as the parts say
 * out    the views of the parts; dead letters to `analytics-dead-letters`
 * late   as the parts say; one decision a window and record, by its own source partition
 */
import { Topology } from '../../streams/index.ts'
import { activeCustomersTopology } from './active-customers.ts'
import { alertsTopology } from './alerts.ts'
import { attemptAlertsTopology } from './attempt-alerts.ts'
import { customerProfileTopology } from './customer-profile.ts'
import { customerSessionsTopology } from './customer-sessions.ts'
import { eventStreams } from './event-streams.ts'
import { inventoryLevelsTopology } from './inventory-levels.ts'
import { orderFunnelTopology } from './order-funnel.ts'
import { orderStatusTopology } from './order-status.ts'
import { orderVolumeTopology } from './order-volume.ts'
import { paymentAttemptsTopology } from './payment-attempts.ts'
import { paymentOutcomesTopology, paymentsByMethod } from './payment-outcomes.ts'
import { rateAlertsTopology } from './rate-alerts.ts'
import { paidByRegion, revenueTopology } from './revenue.ts'
import { revenueAlertsTopology } from './revenue-alerts.ts'
import { stageLatencyTopology } from './stage-latency.ts'
import { topProductsTopology } from './top-products.ts'
import { unpaidOrdersTopology } from './unpaid-orders.ts'
import { retentionMsMin, type ViewSettings } from './view-times.ts'

export const analyticsApplication = 'analytics'

/** A retention that is too short is raised: windows are kept while they may change. */
export function analyticsTopology(wanted: ViewSettings): Topology {
  const topology = new Topology(analyticsApplication)
  const settings = { retentionMs: Math.max(wanted.retentionMs, retentionMsMin) }
  const events = eventStreams(topology)
  const payments = paymentsByMethod(events)
  const attempts = paymentAttemptsTopology(events)
  const paid = paidByRegion(attempts)
  orderVolumeTopology(events, settings)
  paymentOutcomesTopology(payments, settings)
  revenueTopology(paid, settings)
  unpaidOrdersTopology(events)
  topProductsTopology(events, settings)
  activeCustomersTopology(events, settings)
  customerSessionsTopology(events, settings)
  customerProfileTopology(events)
  alertsTopology(
    {
      attempts: attemptAlertsTopology(attempts),
      rate: rateAlertsTopology(payments),
      revenue: revenueAlertsTopology(paid),
    },
    settings,
  )
  orderStatusTopology(events)
  orderFunnelTopology(events, settings)
  stageLatencyTopology(events, attempts, settings)
  inventoryLevelsTopology(events)
  return topology
}

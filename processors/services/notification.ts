/**
 * The notification service: says what a customer should hear of an order.
 *
 * in     orders, payments, fulfilment by orderId
 * time   that of the event it follows from
 * state  one row an order, kept for `keepMs`, changelogged
 * out    NotificationRequested, once for each text and order; who sends it reads that topic
 * late   nothing is late
 */
import type { BusinessEvent } from '../../contracts/events.ts'
import { type ProcessorRecord, Topology } from '../../streams/index.ts'
import { follow, isFrom, publish } from './messages.ts'
import { channelOf } from './outcomes.ts'
import { remarks } from './remarks.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'notification'

export function notificationTopology({ seed, keepMs }: ServiceSettings): Topology {
  const topology = new Topology(service)
  const out = remarks(topology, {
    name: 'told',
    types: [
      'OrderCreated',
      'OrderCancelled',
      'PaymentAuthorized',
      'PaymentRefunded',
      'OrderShipped',
    ],
    keepMs,
    remarkOf: record => {
      const about = templateOf(record)
      return about === undefined ? undefined : { about }
    },
    messageOf: ({ about: template, orderId, customerId, cause, atMs: requestedAt }) => {
      const channel = channelOf(seed, customerId)
      const notificationId = `${orderId}.${template}`
      const notification = { notificationId, orderId, customerId, channel, template, requestedAt }
      const event = { type: 'NotificationRequested', ...notification } as const
      return follow(service, cause, event, `.${template}`)
    },
  })
  publish(out, 'NotificationRequested')
  return topology
}

/** What a customer did need not be told, but for the order itself. */
function templateOf(record: ProcessorRecord<string, BusinessEvent>): string | undefined {
  switch (record.value.type) {
    case 'OrderCreated':
      return 'order-received'
    case 'PaymentAuthorized':
      return 'payment-received'
    case 'PaymentRefunded':
      return 'payment-refunded'
    case 'OrderShipped':
      return 'order-shipped'
    case 'OrderCancelled':
      return isFrom(record, 'order') ? 'order-cancelled' : undefined
    default:
      return undefined
  }
}

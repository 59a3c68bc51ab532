/** Random stories of orders: every kind of event, also in orders that no service would make. */
import type { OrderEvent } from '../../processors/orders/order-state.ts'
import type { Random } from './random.ts'

const item = (random: Random) => ({
  sku: `sku-${random.below(5)}`,
  category: 'home',
  quantity: 1 + random.below(3),
  unitPriceMinor: 100 * (1 + random.below(9)),
})

const payment = (orderId: string, random: Random) => ({
  paymentId: `pay-${orderId}`,
  orderId,
  amountMinor: 100 * (1 + random.below(50)),
  currency: 'EUR',
  method: 'card',
})

/** An event at a time; `at` is small, so that several have the same time. */
export function orderEvent(random: Random, orderId: string, at: number): OrderEvent {
  const items = [{ sku: `sku-${random.below(5)}`, quantity: 1 }]
  const kinds: (() => OrderEvent)[] = [
    () => ({
      type: 'OrderCreated',
      orderId,
      customerId: `customer-${random.below(9)}`,
      region: random.pick(['eu', 'us']),
      currency: 'EUR',
      items: [item(random)],
      totalMinor: 100 * random.below(90),
      createdAt: at,
      channel: null,
    }),
    () => ({
      type: 'OrderItemsAdded',
      orderId,
      items: [item(random)],
      totalMinor: 100 * random.below(90),
      addedAt: at,
    }),
    () => ({ type: 'OrderCancelled', orderId, reason: 'changed-mind', cancelledAt: at }),
    () => ({ type: 'PaymentAuthorized', ...payment(orderId, random), authorizedAt: at }),
    () => ({ type: 'PaymentDeclined', ...payment(orderId, random), reason: 'no', declinedAt: at }),
    () => ({ type: 'PaymentRefunded', ...payment(orderId, random), reason: 'no', refundedAt: at }),
    () => ({ type: 'InventoryReserved', orderId, items, reservedAt: at }),
    () => ({ type: 'InventoryRejected', orderId, sku: 'sku-1', reason: 'none', rejectedAt: at }),
    () => ({ type: 'InventoryReleased', orderId, items, releasedAt: at }),
    () => ({ type: 'OrderShipped', orderId, tracking: `T${at}`, shippedAt: at }),
    () => ({ type: 'OrderFulfilled', orderId, carrier: 'post', fulfilledAt: at }),
    () => ({ type: 'FulfilmentFailed', orderId, reason: 'lost', failedAt: at }),
  ]
  return random.pick(kinds)()
}

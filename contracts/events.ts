/**
 * The business events, as the processors and services see them. `schemas/` is the same in
 * Avro. Times are epoch milliseconds; amounts are integers in minor units of `currency`.
 */

export interface OrderItem {
  readonly sku: string
  readonly category: string
  /** At least 1. */
  readonly quantity: number
  readonly unitPriceMinor: number
}

export interface StockItem {
  readonly sku: string
  readonly quantity: number
}

export interface OrderCreated {
  readonly type: 'OrderCreated'
  readonly orderId: string
  readonly customerId: string
  readonly region: string
  readonly currency: string
  readonly items: readonly OrderItem[]
  /** What the customer owes: not always the sum of the items (shipping, discounts). */
  readonly totalMinor: number
  readonly createdAt: number
  /** Where the customer ordered: web, app, store, … Decoded events have it, null when unknown. */
  readonly channel?: string | null
}

export interface OrderItemsAdded {
  readonly type: 'OrderItemsAdded'
  readonly orderId: string
  /** The items added, not all of the order's. */
  readonly items: readonly OrderItem[]
  /** What the customer owes from now on, for the whole order. */
  readonly totalMinor: number
  readonly addedAt: number
}

export interface OrderCancelled {
  readonly type: 'OrderCancelled'
  readonly orderId: string
  readonly reason: string
  readonly cancelledAt: number
  /** `customer`, or the service that gave up. Decoded events have it, null when unknown. */
  readonly cancelledBy?: string | null
}

interface Payment {
  readonly paymentId: string
  readonly orderId: string
  readonly amountMinor: number
  readonly currency: string
  readonly method: string
}

export interface PaymentAuthorized extends Payment {
  readonly type: 'PaymentAuthorized'
  readonly authorizedAt: number
}

export interface PaymentDeclined extends Payment {
  readonly type: 'PaymentDeclined'
  readonly reason: string
  readonly declinedAt: number
}

export interface PaymentRefunded extends Payment {
  readonly type: 'PaymentRefunded'
  readonly reason: string
  readonly refundedAt: number
}

export interface InventoryReserved {
  readonly type: 'InventoryReserved'
  readonly orderId: string
  readonly items: readonly StockItem[]
  readonly reservedAt: number
}

export interface InventoryRejected {
  readonly type: 'InventoryRejected'
  readonly orderId: string
  readonly sku: string
  readonly reason: string
  readonly rejectedAt: number
}

export interface InventoryReleased {
  readonly type: 'InventoryReleased'
  readonly orderId: string
  readonly items: readonly StockItem[]
  readonly releasedAt: number
}

export interface OrderFulfilled {
  readonly type: 'OrderFulfilled'
  readonly orderId: string
  readonly carrier: string
  readonly fulfilledAt: number
}

/** Says that a parcel is on its way, and no more: who needs the order asks for it. */
export interface OrderShipped {
  readonly type: 'OrderShipped'
  readonly orderId: string
  /** The carrier's tracking number. */
  readonly tracking: string
  readonly shippedAt: number
}

export interface FulfilmentFailed {
  readonly type: 'FulfilmentFailed'
  readonly orderId: string
  readonly reason: string
  readonly failedAt: number
}

export interface StockReceived {
  readonly type: 'StockReceived'
  readonly sku: string
  /** Pieces that came in: at least 1. */
  readonly quantity: number
  readonly receivedAt: number
}

export interface FraudSuspected {
  readonly type: 'FraudSuspected'
  readonly orderId: string
  readonly customerId: string
  /** Name of the rule that was broken. */
  readonly rule: string
  /** How far beyond the rule: the higher, the more suspect. */
  readonly score: number
  readonly suspectedAt: number
}

export interface NotificationRequested {
  readonly type: 'NotificationRequested'
  readonly notificationId: string
  readonly orderId: string
  readonly customerId: string
  /** How it is sent: email, sms, push, … */
  readonly channel: string
  /** Name of the text to send. */
  readonly template: string
  readonly requestedAt: number
}

/** All of what is known of a customer from now on: reference data. */
export interface CustomerUpdated {
  readonly type: 'CustomerUpdated'
  readonly customerId: string
  readonly name: string
  readonly email: string
  readonly segment: string
  readonly region: string
  readonly updatedAt: number
}

/** All of what is known of a product from now on: reference data. */
export interface ProductUpdated {
  readonly type: 'ProductUpdated'
  readonly sku: string
  readonly name: string
  readonly category: string
  readonly unitPriceMinor: number
  readonly currency: string
  readonly updatedAt: number
}

export type BusinessEvent =
  | OrderCreated
  | OrderItemsAdded
  | OrderCancelled
  | PaymentAuthorized
  | PaymentDeclined
  | PaymentRefunded
  | InventoryReserved
  | InventoryRejected
  | InventoryReleased
  | OrderShipped
  | OrderFulfilled
  | FulfilmentFailed
  | StockReceived
  | FraudSuspected
  | NotificationRequested
  | CustomerUpdated
  | ProductUpdated

export type EventType = BusinessEvent['type']

/** The event of a type: `EventOf<'OrderCreated'>`. */
export type EventOf<T extends EventType> = Extract<BusinessEvent, { readonly type: T }>

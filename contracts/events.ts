/**
 * The business events, as the processors and services see them. `schemas.ts` is the same in
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
}

export interface OrderCancelled {
  readonly type: 'OrderCancelled'
  readonly orderId: string
  readonly reason: string
  readonly cancelledAt: number
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

export interface FulfilmentFailed {
  readonly type: 'FulfilmentFailed'
  readonly orderId: string
  readonly reason: string
  readonly failedAt: number
}

export type BusinessEvent =
  | OrderCreated
  | OrderCancelled
  | PaymentAuthorized
  | PaymentDeclined
  | PaymentRefunded
  | InventoryReserved
  | InventoryRejected
  | InventoryReleased
  | OrderFulfilled
  | FulfilmentFailed

export type EventType = BusinessEvent['type']

/** The event of a type: `EventOf<'OrderCreated'>`. */
export type EventOf<T extends EventType> = Extract<BusinessEvent, { readonly type: T }>

/** The input topics, which events they carry, and which field of an event is its time. */
import type { BusinessEvent, EventType } from './events.ts'

export const inputTopics = ['orders', 'payments', 'inventory', 'fulfilment'] as const
export type InputTopic = (typeof inputTopics)[number]

/** Partitions of each input topic, when this service creates it. */
export const inputPartitions = 4

export const timeFields = {
  OrderCreated: 'createdAt',
  OrderCancelled: 'cancelledAt',
  PaymentAuthorized: 'authorizedAt',
  PaymentDeclined: 'declinedAt',
  PaymentRefunded: 'refundedAt',
  InventoryReserved: 'reservedAt',
  InventoryRejected: 'rejectedAt',
  InventoryReleased: 'releasedAt',
  OrderFulfilled: 'fulfilledAt',
  FulfilmentFailed: 'failedAt',
} as const satisfies Record<EventType, string>

export const eventTopics: Readonly<Record<EventType, InputTopic>> = {
  OrderCreated: 'orders',
  OrderCancelled: 'orders',
  PaymentAuthorized: 'payments',
  PaymentDeclined: 'payments',
  PaymentRefunded: 'payments',
  InventoryReserved: 'inventory',
  InventoryRejected: 'inventory',
  InventoryReleased: 'inventory',
  OrderFulfilled: 'fulfilment',
  FulfilmentFailed: 'fulfilment',
}

export function isInputTopic(name: string): name is InputTopic {
  return (inputTopics as readonly string[]).includes(name)
}

export function isEventType(name: string): name is EventType {
  return Object.hasOwn(timeFields, name)
}

/** Event time, epoch ms: the event's own time field. */
export function eventTimeOf(event: BusinessEvent): number {
  return (event as unknown as Readonly<Record<string, number>>)[timeFields[event.type]]
}

/** The record key of every event: its order. */
export function eventKeyOf(event: BusinessEvent): string {
  return event.orderId
}

/** The input topics, which events they carry, and which fields of an event are its key and time. */
import type { BusinessEvent, EventType } from './events.ts'

export const inputTopics = [
  'orders',
  'payments',
  'inventory',
  'fulfilment',
  'stock',
  'risk',
  'notifications',
  'customers',
  'products',
] as const
export type InputTopic = (typeof inputTopics)[number]

/** Partitions of each input topic, when this service creates it. */
export const inputPartitions = 4

export const timeFields = {
  OrderCreated: 'createdAt',
  OrderItemsAdded: 'addedAt',
  OrderCancelled: 'cancelledAt',
  PaymentAuthorized: 'authorizedAt',
  PaymentDeclined: 'declinedAt',
  PaymentRefunded: 'refundedAt',
  InventoryReserved: 'reservedAt',
  InventoryRejected: 'rejectedAt',
  InventoryReleased: 'releasedAt',
  OrderShipped: 'shippedAt',
  OrderFulfilled: 'fulfilledAt',
  FulfilmentFailed: 'failedAt',
  StockReceived: 'receivedAt',
  FraudSuspected: 'suspectedAt',
  NotificationRequested: 'requestedAt',
  CustomerUpdated: 'updatedAt',
  ProductUpdated: 'updatedAt',
} as const satisfies Record<EventType, string>

export const eventTopics: Readonly<Record<EventType, InputTopic>> = {
  OrderCreated: 'orders',
  OrderItemsAdded: 'orders',
  OrderCancelled: 'orders',
  PaymentAuthorized: 'payments',
  PaymentDeclined: 'payments',
  PaymentRefunded: 'payments',
  InventoryReserved: 'inventory',
  InventoryRejected: 'inventory',
  InventoryReleased: 'inventory',
  OrderShipped: 'fulfilment',
  OrderFulfilled: 'fulfilment',
  FulfilmentFailed: 'fulfilment',
  StockReceived: 'stock',
  FraudSuspected: 'risk',
  NotificationRequested: 'notifications',
  CustomerUpdated: 'customers',
  ProductUpdated: 'products',
}

/** Key fields of the topics that are not keyed by order. */
const keyFields: Readonly<Partial<Record<InputTopic, string>>> = {
  stock: 'sku',
  customers: 'customerId',
  products: 'sku',
}

/** The field that every event of the topic is keyed by. */
export function keyFieldOf(topic: InputTopic): string {
  return keyFields[topic] ?? 'orderId'
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

const keyFieldsByType = Object.fromEntries(
  Object.entries(eventTopics).map(([type, topic]) => [type, keyFieldOf(topic)]),
) as Readonly<Record<EventType, string>>

/** The record key of an event: its order, unless its topic has another key. */
export function eventKeyOf(event: BusinessEvent): string {
  return (event as unknown as Readonly<Record<string, string>>)[keyFieldsByType[event.type]]
}

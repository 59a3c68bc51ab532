/**
 * Avro schemas of the events, and how a schema id is looked up.
 *
 * Ids are fixed here until a registry assigns them: a registry client is another
 * `SchemaDirectory`. Subjects evolve BACKWARD: a new field has a default, a removed one is
 * skipped by newer readers, nothing is renamed.
 */
import type { EventType } from './events.ts'

export type AvroPrimitive = 'null' | 'boolean' | 'int' | 'long' | 'float' | 'double' | 'string'

export interface AvroField {
  readonly name: string
  readonly type: AvroType
  /** Value for readers of data written before the field existed. */
  readonly default?: unknown
  readonly doc?: string
}

export interface AvroRecord {
  readonly type: 'record'
  readonly name: string
  readonly namespace?: string
  readonly fields: readonly AvroField[]
}

/** The subset of Avro that events may use; anything else is SCHEMA_UNSUPPORTED. */
export type AvroType =
  | AvroPrimitive
  | { readonly type: AvroPrimitive; readonly logicalType?: string }
  | { readonly type: 'array'; readonly items: AvroType }
  | { readonly type: 'enum'; readonly name: string; readonly symbols: readonly string[] }
  | AvroRecord
  | readonly AvroType[]

export interface EventSchema {
  readonly id: number
  readonly type: EventType
  readonly schema: AvroRecord
}

export interface SchemaDirectory {
  /** The writer's schema; undefined for an id that is not an event's. */
  byId(id: number): EventSchema | undefined
  /** The schema that new events of the type are written with. */
  current(type: EventType): EventSchema
}

const time = { type: 'long', logicalType: 'timestamp-millis' } as const

function fieldsOf(shape: Readonly<Record<string, AvroType>>): AvroField[] {
  return Object.entries(shape).map(([name, type]) => ({ name, type }))
}

function record(
  namespace: string,
  name: string,
  shape: Readonly<Record<string, AvroType>>,
): AvroRecord {
  return { type: 'record', name, namespace: `millrace.${namespace}`, fields: fieldsOf(shape) }
}

const orderItems: AvroType = {
  type: 'array',
  items: record('orders', 'OrderItem', {
    sku: 'string',
    category: 'string',
    quantity: 'int',
    unitPriceMinor: 'long',
  }),
}

const stockItems: AvroType = {
  type: 'array',
  items: record('inventory', 'StockItem', { sku: 'string', quantity: 'int' }),
}

const payment = {
  paymentId: 'string',
  orderId: 'string',
  amountMinor: 'long',
  currency: 'string',
  method: 'string',
} as const

/** What readers of today expect, by event type. */
export const eventSchemas: Readonly<Record<EventType, AvroRecord>> = {
  OrderCreated: record('orders', 'OrderCreated', {
    orderId: 'string',
    customerId: 'string',
    region: 'string',
    currency: 'string',
    items: orderItems,
    totalMinor: 'long',
    createdAt: time,
  }),
  OrderCancelled: record('orders', 'OrderCancelled', {
    orderId: 'string',
    reason: 'string',
    cancelledAt: time,
  }),
  PaymentAuthorized: record('payments', 'PaymentAuthorized', { ...payment, authorizedAt: time }),
  PaymentDeclined: record('payments', 'PaymentDeclined', {
    ...payment,
    reason: 'string',
    declinedAt: time,
  }),
  PaymentRefunded: record('payments', 'PaymentRefunded', {
    ...payment,
    reason: 'string',
    refundedAt: time,
  }),
  InventoryReserved: record('inventory', 'InventoryReserved', {
    orderId: 'string',
    items: stockItems,
    reservedAt: time,
  }),
  InventoryRejected: record('inventory', 'InventoryRejected', {
    orderId: 'string',
    sku: 'string',
    reason: 'string',
    rejectedAt: time,
  }),
  InventoryReleased: record('inventory', 'InventoryReleased', {
    orderId: 'string',
    items: stockItems,
    releasedAt: time,
  }),
  OrderFulfilled: record('fulfilment', 'OrderFulfilled', {
    orderId: 'string',
    carrier: 'string',
    fulfilledAt: time,
  }),
  FulfilmentFailed: record('fulfilment', 'FulfilmentFailed', {
    orderId: 'string',
    reason: 'string',
    failedAt: time,
  }),
}

/** Never reused, never reordered: they are in every stored record. */
const fixedIds: Readonly<Record<EventType, number>> = {
  OrderCreated: 1,
  OrderCancelled: 2,
  PaymentAuthorized: 3,
  PaymentDeclined: 4,
  PaymentRefunded: 5,
  InventoryReserved: 6,
  InventoryRejected: 7,
  InventoryReleased: 8,
  OrderFulfilled: 9,
  FulfilmentFailed: 10,
}

const fixed = Object.entries(eventSchemas).map(([name, schema]) => {
  const type = name as EventType
  return { id: fixedIds[type], type, schema }
})
const fixedById = new Map(fixed.map(entry => [entry.id, entry]))
const fixedByType = new Map(fixed.map(entry => [entry.type, entry]))

/** The directory without a registry. */
export const fixedSchemas: SchemaDirectory = {
  byId: id => fixedById.get(id),
  current: type => fixedByType.get(type)!,
}

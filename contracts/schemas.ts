/**
 * The schemas of the events, every version that was ever written, and how a schema id is looked
 * up. `schemas/TYPE.vN.json` is the Avro document of a version; the last one is what new events
 * are written with and what readers expect.
 */
import { type AvroRecord, parseAvro } from './avro-schema.ts'
import type { EventType } from './events.ts'
import customerUpdated1 from './schemas/CustomerUpdated.v1.json' with { type: 'json' }
import fraudSuspected1 from './schemas/FraudSuspected.v1.json' with { type: 'json' }
import fulfilmentFailed1 from './schemas/FulfilmentFailed.v1.json' with { type: 'json' }
import inventoryRejected1 from './schemas/InventoryRejected.v1.json' with { type: 'json' }
import inventoryReleased1 from './schemas/InventoryReleased.v1.json' with { type: 'json' }
import inventoryReserved1 from './schemas/InventoryReserved.v1.json' with { type: 'json' }
import notificationRequested1 from './schemas/NotificationRequested.v1.json' with { type: 'json' }
import orderCancelled1 from './schemas/OrderCancelled.v1.json' with { type: 'json' }
import orderCancelled2 from './schemas/OrderCancelled.v2.json' with { type: 'json' }
import orderCreated1 from './schemas/OrderCreated.v1.json' with { type: 'json' }
import orderCreated2 from './schemas/OrderCreated.v2.json' with { type: 'json' }
import orderFulfilled1 from './schemas/OrderFulfilled.v1.json' with { type: 'json' }
import orderItemsAdded1 from './schemas/OrderItemsAdded.v1.json' with { type: 'json' }
import orderShipped1 from './schemas/OrderShipped.v1.json' with { type: 'json' }
import paymentAuthorized1 from './schemas/PaymentAuthorized.v1.json' with { type: 'json' }
import paymentDeclined1 from './schemas/PaymentDeclined.v1.json' with { type: 'json' }
import paymentRefunded1 from './schemas/PaymentRefunded.v1.json' with { type: 'json' }
import productUpdated1 from './schemas/ProductUpdated.v1.json' with { type: 'json' }
import stockReceived1 from './schemas/StockReceived.v1.json' with { type: 'json' }

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
  /** The versions of the type that this code knows, the oldest first. */
  versions(type: EventType): readonly EventSchema[]
  /**
   * Of an id that `byId` does not know: why it is no event's; undefined while it is looked up,
   * which the call begins. Without it the directory knows all that there is.
   */
  missing?(id: number): string | undefined
}

/**
 * In the order of their ids, from 1. They are in every stored record: a row is never changed,
 * moved or removed, and the document of a row neither.
 */
const documents: readonly (readonly [EventType, unknown])[] = [
  ['OrderCreated', orderCreated1],
  ['OrderCancelled', orderCancelled1],
  ['PaymentAuthorized', paymentAuthorized1],
  ['PaymentDeclined', paymentDeclined1],
  ['PaymentRefunded', paymentRefunded1],
  ['InventoryReserved', inventoryReserved1],
  ['InventoryRejected', inventoryRejected1],
  ['InventoryReleased', inventoryReleased1],
  ['OrderFulfilled', orderFulfilled1],
  ['FulfilmentFailed', fulfilmentFailed1],
  ['OrderCreated', orderCreated2],
  ['OrderItemsAdded', orderItemsAdded1],
  ['OrderShipped', orderShipped1],
  ['StockReceived', stockReceived1],
  ['FraudSuspected', fraudSuspected1],
  ['NotificationRequested', notificationRequested1],
  ['CustomerUpdated', customerUpdated1],
  ['ProductUpdated', productUpdated1],
  ['OrderCancelled', orderCancelled2],
]

/** A schema of the history: the `version`th of its event type, from 1. */
export interface SchemaVersion extends EventSchema {
  readonly version: number
}

/** Every version of every event, in the order of their ids. */
export const schemaHistory: readonly SchemaVersion[] = documents.map(([type, document], at) => ({
  id: at + 1,
  type,
  version: documents.slice(0, at + 1).filter(([other]) => other === type).length,
  schema: parseAvro(document),
}))

const byId = new Map(schemaHistory.map(row => [row.id, row]))
const currentByType = new Map(schemaHistory.map(row => [row.type, row]))

/** What readers of today expect, by event type. */
export const eventSchemas = Object.fromEntries(
  Array.from(currentByType.values(), ({ type, schema }) => [type, schema]),
) as Readonly<Record<EventType, AvroRecord>>

/** The directory without a registry. */
export const fixedSchemas: SchemaDirectory = {
  byId: id => byId.get(id),
  current: type => currentByType.get(type)!,
  versions: type => schemaHistory.filter(row => row.type === type),
}

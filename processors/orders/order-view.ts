/** How an order is stored and shown: the rows of `order-status`. */
import { Type } from 'typebox'
import { eventTimeOf } from '../../contracts/topics.ts'
import { json } from '../../streams/index.ts'
import type { OrderFact, OrderState } from './order-state.ts'

export const orderFactSerde = json<OrderFact>()

const text = (description: string) => Type.Union([Type.String(), Type.Null()], { description })
const integer = (description: string) => Type.Union([Type.Integer(), Type.Null()], { description })

export const orderRowSchema = {
  status: Type.String({
    description:
      'unknown (nothing tells of its creation yet), pending, declined, paid, reserved, rejected, ' +
      'failed, fulfilled or cancelled',
  }),
  version: Type.Integer({ description: 'Events that led here: what If-Match names' }),
  customerId: text('Who ordered; null while nothing tells'),
  region: text('Where it goes'),
  currency: text('Currency of all amounts'),
  totalMinor: integer('What the customer owes'),
  authorizedMinor: Type.Integer({ description: 'What was authorized' }),
  refundedMinor: Type.Integer({ description: 'What was given back' }),
  items: Type.Array(
    Type.Object({
      sku: Type.String(),
      category: Type.String(),
      quantity: Type.Integer(),
      unitPriceMinor: Type.Integer(),
    }),
    { description: 'What was ordered, with what was added' },
  ),
  carrier: text('Who brought it'),
  tracking: text('Number of the parcel'),
  reason: text('Why it was cancelled'),
  createdAt: integer('When it was ordered, epoch ms'),
  updatedAt: Type.Integer({ description: 'Time of the last event, epoch ms' }),
  events: Type.Array(
    Type.Object({
      id: Type.String({ description: 'ce_id' }),
      type: Type.String(),
      time: Type.Integer({ description: 'Epoch ms' }),
      actor: text('Who did it'),
      correlationId: text('The same in all that followed from one request'),
      causationId: text('The event or command that it follows from'),
      topic: Type.String(),
      partition: Type.Integer(),
      offset: Type.Integer(),
      value: Type.Record(Type.String(), Type.Unknown(), { description: 'The event itself' }),
    }),
    { description: 'What led here, in order' },
  ),
}

const minor = 'minor currency units'
export const orderRowUnits = {
  totalMinor: minor,
  authorizedMinor: minor,
  refundedMinor: minor,
  createdAt: 'ms',
  updatedAt: 'ms',
}

export function orderRow({ orderId: _, chars: __, events, ...order }: OrderState) {
  return { ...order, events: events.map(eventRow) }
}

function eventRow({ event, ...fact }: OrderFact) {
  const { id, topic, partition, offset, ...told } = fact
  const { type, ...value } = event
  return { id, type, time: eventTimeOf(event), ...told, topic, partition, offset, value }
}

/**
 * The order aggregate: decides commands on orders as their events have made them.
 *
 * in     commands by orderId, each once by its id; orders, payments, inventory and fulfilment
 * time   a command's event has the time of the command, or of the order's last event where later
 * state  one row an order: its events and what they come to, a snapshot at each; changelogged
 * out    the events decided, to `orders`; what became of each command, a week: `order-commands`
 * late   nothing is late
 *
 * Events are the truth: the row can be made again from them, and events of others change it where
 * they belong by their order keys. What was decided counts at once, before it comes back by the
 * log, so that two commands that follow each other closely see each other.
 */
import { Type } from 'typebox'
import { eventHeaders } from '../../contracts/event-record.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import {
  checkCommandRecord,
  type OrderCommandRecord,
  type OrderOutcome,
  orderCommandTopic,
  orderCommandView,
  type Refusal,
} from '../../contracts/order-commands.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import {
  json,
  type ProcessorContext,
  type ProcessorRecord,
  type Stream,
  Topology,
  textKey,
} from '../../streams/index.ts'
import {
  type EventStream,
  eventSerde,
  type OrderStreams,
  orderKey,
  orderStreams,
} from '../analytics/event-streams.ts'
import { decide } from './order-decision.ts'
import { orderFact } from './order-fact.ts'
import {
  NO_PLACE,
  noOrder,
  type OrderEvent,
  type OrderFact,
  type OrderState,
  withFactInOrder,
} from './order-state.ts'

export const orderingApplication = 'ordering'
const dayMs = 86_400_000
/** So long a command's answer is given again, and its id not used for another. */
const keptMs = 7 * dayMs

/** A fact that is heard, or a command. */
type Heard = { readonly fact: OrderFact } | { readonly asked: OrderCommandRecord }

interface Decided {
  readonly event: BusinessEvent
  readonly headers: Readonly<Record<string, string>>
}

type Said = { readonly decided: Decided } | { readonly id: string; readonly outcome: OrderOutcome }

const stores = { orders: { key: orderKey, codec: json<OrderState>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Said>

export function orderingTopology(): Topology {
  const topology = new Topology(orderingApplication)
  orderCommands(topology, orderStreams(topology))
  return topology
}

/** Adds the steps of the commands to an application that reads the events of orders. */
export function orderCommands(topology: Topology, events: OrderStreams): void {
  const { orders, payments, inventory, fulfilment } = events
  const asked = topology
    .stream(orderCommandTopic, { key: orderKey, value: json<OrderCommandRecord>() })
    .filter(checkCommandRecord, { name: 'commands-checked' })
    .deduplicate({ name: 'commands-once', id: ({ id }) => id, ttlMs: keptMs })
    .mapValues((record): Heard => ({ asked: record }))
  const said = asked
    .merge(heard(orders), heard(payments), heard(inventory), heard(fulfilment))
    .process<typeof stores, string, Said>({
      name: 'order-aggregate',
      key: orderKey,
      stores,
      keepsKeys: true,
      create: context => ({ process: record => hear(context, record) }),
    })
  publish(said)
  show(said)
}

function heard(events: EventStream): Stream<string, Heard> {
  return events.mapValues((event, _key, record): Heard => ({ fact: orderFact(event, record) }))
}

function hear(context: Context, record: ProcessorRecord<string, Heard>): void {
  const { key: orderId, value } = record
  const orders = context.store('orders')
  const before = orders.get(orderId) ?? noOrder(orderId)
  if ('asked' in value) {
    answer(context, record, value.asked)
    return
  }
  const after = withFactInOrder(before, value.fact)
  if (after !== before) orders.put(orderId, after)
}

function answer(
  context: Context,
  record: ProcessorRecord<string, Heard>,
  { id, fingerprint, command }: OrderCommandRecord,
): void {
  const { key: orderId, timeMs: decidedAt } = record
  const orders = context.store('orders')
  const before = orders.get(orderId) ?? noOrder(orderId)
  const tell = (
    order: OrderState,
    told: Pick<OrderOutcome, 'refusal' | 'eventId' | 'eventType'>,
  ) => {
    const { version, status } = order
    const asked = { orderId, type: command.type, fingerprint, decidedAt }
    context.forward(orderId, { id, outcome: { ...asked, version, status, ...told } })
  }
  const refuse = (refusal: Refusal) => tell(before, { refusal, eventId: null, eventType: null })
  const decision = decide(before, command, decidedAt)
  if ('refusal' in decision) {
    refuse(decision.refusal)
    return
  }
  const { event } = decision
  const after = room(before, factOf(id, event, record))
  if (after === undefined) {
    refuse('ORDER_FULL')
    return
  }
  orders.put(orderId, after)
  tell(after, { refusal: null, eventId: eventIdOf(id), eventType: event.type })
  const origin = { id: eventIdOf(id), source: 'millrace/ordering', headers: { causationid: id } }
  const headers = eventHeaders(event, origin)
  context.forward(orderId, { decided: { event, headers } }, eventTimeOf(event))
}

/** The order with one more event; undefined where it would have too many. */
function room(order: OrderState, fact: OrderFact): OrderState | undefined {
  try {
    return withFactInOrder(order, fact)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** A command leads to one event: tried again, to the same. */
const eventIdOf = (commandId: string) => `${commandId}.1`

function factOf(
  commandId: string,
  event: OrderEvent,
  record: ProcessorRecord<string, Heard>,
): OrderFact {
  return {
    id: eventIdOf(commandId),
    event,
    actor: record.header('actor')?.toString() || null,
    correlationId: record.header('correlationid')?.toString() || null,
    causationId: commandId,
    topic: 'orders',
    partition: NO_PLACE,
    offset: NO_PLACE,
  }
}

function publish(said: Stream<string, Said>): void {
  said
    .filter(result => 'decided' in result)
    .mapValues(result => (result as { decided: Decided }).decided)
    .to('orders', {
      key: orderKey,
      value: {
        encode: ({ event }) => eventSerde.encode(event),
        decode: (bytes, start, end) => ({
          event: eventSerde.decode(bytes, start, end),
          headers: {},
        }),
      },
      headers: ({ headers }) => headers,
    })
}

const text = (description: string) => Type.String({ description })
const orNull = (description: string) => Type.Union([Type.String(), Type.Null()], { description })

function show(said: Stream<string, Said>): void {
  said
    .filter(result => 'outcome' in result)
    .map((result): [string, OrderOutcome] => {
      const { id, outcome } = result as { id: string; outcome: OrderOutcome }
      return [id, outcome]
    })
    .groupByKey({ name: 'outcomes', key: textKey('commandId') })
    .reduce({ name: orderCommandView, ttlMs: keptMs, reduce: first => first })
    .view({
      name: orderCommandView,
      description: 'What became of each command to an order, for a week',
      value: {
        orderId: text('Which order'),
        type: text('PlaceOrder, AddItems or CancelOrder'),
        fingerprint: text('Digest of what was asked for'),
        refusal: orNull('Why it was refused; null where it was done'),
        version: Type.Integer({ description: 'Version of the order after it' }),
        status: text('Status of the order after it'),
        eventId: orNull('ce_id of the event that it led to'),
        eventType: orNull('Its type'),
        decidedAt: Type.Integer({ description: 'When it was asked, epoch ms' }),
      },
      units: { decidedAt: 'ms' },
    })
}

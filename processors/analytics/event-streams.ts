/** The input of the analytics views: what becomes of orders, each event once. */
import { encodeEvent, eventCodec } from '../../contracts/event-codec.ts'
import type { BusinessEvent, EventOf, EventType } from '../../contracts/events.ts'
import { eventKeyOf, eventTopics, type InputTopic, keyFieldOf } from '../../contracts/topics.ts'
import { type Stream, type Topology, textKey, type ValueSerde } from '../../streams/index.ts'
import { dayMs } from './view-times.ts'

export type EventStream = Stream<string, BusinessEvent>

export interface EventStreams {
  readonly orders: EventStream
  readonly payments: EventStream
  readonly inventory: EventStream
  readonly fulfilment: EventStream
  /** By sku. */
  readonly stock: EventStream
}

/** What becomes of orders, by order. */
export type OrderStreams = Omit<EventStreams, 'stock'>

/** Events by their order, as they are on the wire. */
export const orderKey = textKey('orderId')

export const eventSerde: ValueSerde<BusinessEvent> = {
  encode: encodeEvent,
  decode: (bytes, start, end) => eventCodec.decode(bytes, start, end),
}

/** Events with a `ce_id` seen in the 7 days before are duplicates. */
export const duplicateTtlMs = 7 * dayMs

/** Reads the topics, every event once: what all parts of the topology take theirs from. */
export function eventStreams(topology: Topology): EventStreams {
  // Rows name sources by their place: new ones come last.
  return { ...orderStreams(topology), stock: eventsOnce(topology, 'stock') }
}

export function orderStreams(topology: Topology): OrderStreams {
  return {
    orders: eventsOnce(topology, 'orders'),
    payments: eventsOnce(topology, 'payments'),
    inventory: eventsOnce(topology, 'inventory'),
    fulfilment: eventsOnce(topology, 'fulfilment'),
  }
}

/** The events of a topic, each once. */
export function eventsOnce(topology: Topology, topic: InputTopic): EventStream {
  return topology
    .stream(topic, { key: textKey(keyFieldOf(topic)), value: eventSerde })
    .filter(isEvent, { name: `${topic}-checked` })
    .deduplicate({ name: `${topic}-once`, id: { header: 'ce_id' }, ttlMs: duplicateTtlMs })
}

/** A record that is no event of its order throws: it leaves as `poison`, with the reason. */
function isEvent(event: BusinessEvent | null, key: string | null): boolean {
  if (event === null) throw new TypeError('a null value is no event')
  if (key === null) throw new TypeError('the key is null')
  if (eventKeyOf(event) !== key) {
    const field = keyFieldOf(eventTopics[event.type])
    throw new TypeError(`the key is not the ${field} of the event`)
  }
  return true
}

/** The events of one type. */
export function ofType<T extends EventType>(
  stream: EventStream,
  type: T,
): Stream<string, EventOf<T>> {
  return stream.only((event): event is EventOf<T> => event.type === type, {
    messages: [type],
  })
}

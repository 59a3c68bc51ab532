/** The input of the analytics views: orders and payments, each event once. */
import { encodeEvent, eventCodec } from '../../contracts/event-codec.ts'
import type { BusinessEvent, EventOf, EventType } from '../../contracts/events.ts'
import { type Stream, type Topology, textKey, type ValueSerde } from '../../streams/index.ts'

export type EventStream = Stream<string, BusinessEvent>

export interface EventStreams {
  readonly orders: EventStream
  readonly payments: EventStream
}

/** Events by their order, as they are on the wire. */
export const orderKey = textKey('orderId')

export const eventSerde: ValueSerde<BusinessEvent> = {
  encode: encodeEvent,
  decode: (bytes, start, end) => eventCodec.decode(bytes, start, end),
}

/**
 * Reads the two topics; every part of the topology takes its events from here, so that what is
 * to hold for all of them (duplicates are dropped by `ce_id`) is done here once.
 */
export function eventStreams(topology: Topology): EventStreams {
  const read = (topic: string) => topology.stream(topic, { key: orderKey, value: eventSerde })
  return { orders: read('orders'), payments: read('payments') }
}

/** The events of one type. Tombstones, which no event is, are none of any type. */
export function ofType<T extends EventType>(
  stream: EventStream,
  type: T,
): Stream<string, EventOf<T>> {
  return stream.only((event): event is EventOf<T> => event?.type === type)
}

/** The input of the analytics views: orders and payments, each event once. */
import { encodeEvent, eventCodec } from '../../contracts/event-codec.ts'
import type { BusinessEvent, EventOf, EventType } from '../../contracts/events.ts'
import { type Stream, type Topology, textKey, type ValueSerde } from '../../streams/index.ts'
import { dayMs } from './view-times.ts'

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

/** Events with a `ce_id` seen in the 7 days before are duplicates. */
const duplicateTtlMs = 7 * dayMs

/** Reads the two topics, every event once: what all parts of the topology take theirs from. */
export function eventStreams(topology: Topology): EventStreams {
  const read = (topic: string) =>
    topology
      .stream(topic, { key: orderKey, value: eventSerde })
      .filter(isEvent, { name: `${topic}-checked` })
      .deduplicate({ name: `${topic}-once`, id: { header: 'ce_id' }, ttlMs: duplicateTtlMs })
  return { orders: read('orders'), payments: read('payments') }
}

/** A record that is no event of its order throws: it leaves as `poison`, with the reason. */
function isEvent(event: BusinessEvent | null, key: string | null): boolean {
  if (event === null) throw new TypeError('a null value is no event')
  if (key === null) throw new TypeError('the key is null')
  if (event.orderId !== key) throw new TypeError('the key is not the orderId of the event')
  return true
}

/** The events of one type. */
export function ofType<T extends EventType>(
  stream: EventStream,
  type: T,
): Stream<string, EventOf<T>> {
  return stream.only((event): event is EventOf<T> => event.type === type)
}

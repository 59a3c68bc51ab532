/**
 * What services read and write: events, each once, and events that follow from others, with the
 * headers that say so.
 */
import { eventHeaders } from '../../contracts/event-record.ts'
import type { BusinessEvent, EventType } from '../../contracts/events.ts'
import { eventTimeOf, eventTopics } from '../../contracts/topics.ts'
import type { ProcessorRecord, Stream, Topology, ValueSerde } from '../../streams/index.ts'
import { eventSerde, eventsOnce, orderKey } from '../analytics/event-streams.ts'

/** The event that another one follows from. */
export interface Cause {
  readonly id: string
  /** What all events of one order's story have in common. */
  readonly correlationId: string
  /** Where it stands in its trace; absent where that is not sampled. */
  readonly traceparent?: string
}

/** An event to be written, with its headers. */
export interface Message {
  readonly event: BusinessEvent
  readonly headers: Readonly<Record<string, string>>
}

type OrderRecord = ProcessorRecord<string, unknown>

function headerText(record: OrderRecord, name: string): string | undefined {
  return record.header(name)?.toString()
}

/** A record as the cause of others. One without `ce_id` is known by its key. */
export function causeOf(record: OrderRecord): Cause {
  const id = headerText(record, 'ce_id') ?? record.key
  const correlationId = headerText(record, 'correlationid') ?? record.key
  const { traceparent } = record
  return { id, correlationId, ...(traceparent && { traceparent }) }
}

export function isFrom(record: OrderRecord, service: string): boolean {
  return headerText(record, 'ce_source') === sourceOf(service)
}

const sourceOf = (service: string) => `/services/${service}`

/**
 * The event that a service makes of a cause. A service says one thing about an order once:
 * `mark` tells several of one type apart. So the same cause gives the same `ce_id` again.
 */
export function follow(
  service: string,
  cause: Cause,
  event: BusinessEvent & { readonly orderId: string },
  mark = '',
): Message {
  return message(service, cause, event, `${event.orderId}.${service}.${event.type}${mark}`)
}

export function message(service: string, cause: Cause, event: BusinessEvent, id: string): Message {
  const headers = causedHeaders(service, cause)
  return { event, headers: eventHeaders(event, { id, source: sourceOf(service), headers }) }
}

/** The headers that say what a record of a service follows from. */
export function causedHeaders(service: string, cause: Cause): Record<string, string> {
  const { id, correlationId, traceparent } = cause
  return {
    correlationid: correlationId,
    causationid: id,
    actor: `${service}-service`,
    ...(traceparent && { traceparent }),
  }
}

const messageSerde: ValueSerde<Message> = {
  encode: ({ event }) => eventSerde.encode(event),
  decode: (bytes, start, end) => ({ event: eventSerde.decode(bytes, start, end), headers: {} }),
}

/** How messages leave a processor. */
export const messages = { key: orderKey, value: messageSerde }

/** Sends a message on, at the time of its event. */
export function send(
  context: { forward(key: string, value: Message, timeMs?: number): void },
  key: string,
  value: Message,
): void {
  context.forward(key, value, eventTimeOf(value.event))
}

/** Writes the messages whose events are of the types, which are of one topic. */
export function publish(stream: Stream<string, Message>, ...types: readonly EventType[]): void {
  const written = new Set(types)
  const [topic, ...others] = new Set(types.map(type => eventTopics[type]))
  if (topic === undefined || others.length > 0) {
    throw new TypeError(`${types.join(', ')} are not the events of one topic`)
  }
  stream
    .filter(({ event }) => written.has(event.type), { messages: types })
    .to(topic, { ...messages, headers: ({ headers }) => headers })
}

/**
 * The events of the types, from all their topics, each once. Event time is that of the first
 * topic: the others answer, sooner or later, what the services say, and who waited for them
 * would wait for itself.
 */
export function readEvents(
  topology: Topology,
  ...types: readonly EventType[]
): Stream<string, BusinessEvent> {
  const topics = [...new Set(types.map(type => eventTopics[type]))]
  const [first, ...others] = topics.map(topic => eventsOnce(topology, topic))
  const wanted = new Set(types)
  return first!.mergePassive(...others).filter(({ type }) => wanted.has(type), { messages: types })
}

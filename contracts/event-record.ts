/** An event as a record of the log: key, bytes, time and CloudEvents headers. */
import { encodeEvent } from './event-codec.ts'
import type { BusinessEvent } from './events.ts'
import { eventKeyOf, eventTimeOf, eventTopics, type InputTopic } from './topics.ts'

export type RecordHeader = readonly [name: string, value: Buffer]

export interface EventRecord {
  readonly topic: InputTopic
  readonly key: Buffer
  readonly value: Buffer
  /** Epoch ms: the event's own time. */
  readonly timestamp: number
  readonly headers: readonly RecordHeader[]
}

export interface EventOrigin {
  /** `ce_id`: the event's identity; a second record with it is a duplicate. */
  readonly id: string
  /** `ce_source`: who made the event. */
  readonly source: string
  /** Further headers; those named like one of the five above stand instead of it. */
  readonly headers?: Readonly<Record<string, string>>
}

/** Largest record, bytes of key, value and headers together. */
export const recordBytesMax = 1024 * 1024

/** Throws EVENT_VALUE when the event does not fit its schema. */
export function eventRecord(event: BusinessEvent, origin: EventOrigin): EventRecord {
  const timestamp = eventTimeOf(event)
  const value = encodeEvent(event)
  const headers = Object.entries(eventHeaders(event, origin))
  return {
    topic: eventTopics[event.type],
    key: Buffer.from(eventKeyOf(event)),
    value,
    timestamp,
    headers: headers.map(([name, text]) => [name, Buffer.from(text)] as const),
  }
}

/** The headers of an event's record: those of CloudEvents, then the origin's further ones. */
export function eventHeaders(event: BusinessEvent, origin: EventOrigin): Record<string, string> {
  return {
    ce_id: origin.id,
    ce_type: event.type,
    ce_source: origin.source,
    ce_time: new Date(eventTimeOf(event)).toISOString(),
    ce_specversion: '1.0',
    ...origin.headers,
  }
}

/** Bytes of the record's content, without what a batch adds. */
export function recordBytes(record: EventRecord): number {
  let total = record.key.length + record.value.length
  for (const [name, value] of record.headers) total += Buffer.byteLength(name) + value.length
  return total
}

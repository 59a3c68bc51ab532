/**
 * Events on the wire: Confluent framing, then Avro.
 *
 *   event  := magic schemaId body
 *   magic  := 0x00
 *   schemaId := uint32 big-endian        a row of the schema directory
 *   body   := the record in Avro binary, nothing after it
 */
import { AvroCursor } from './avro-cursor.ts'
import { type AvroRead, compileReader, type ReaderOptions } from './avro-reader.ts'
import { AvroSink, type AvroWrite, compileWriter } from './avro-writer.ts'
import { ContractError, SchemaPending } from './errors.ts'
import type { BusinessEvent, EventOf, EventType } from './events.ts'
import { type EventSchema, eventSchemas, fixedSchemas, type SchemaDirectory } from './schemas.ts'
import { upcasts } from './upcasts.ts'

export const frameBytes = 5

/** Reads one event, or some of its fields, from `bytes[start, end)`. */
export type EventReader<T> = (bytes: Buffer, start: number, end: number) => T

const internedFields = new Set([
  'region',
  'currency',
  'category',
  'sku',
  'method',
  'reason',
  'carrier',
  'channel',
  'template',
  'rule',
  'segment',
])

function readingOf(type: EventType): ReaderOptions {
  const upcast = upcasts[type]
  const reader = eventSchemas[type]
  return { reader, interned: internedFields, ...(upcast && { upcasts: upcast }) }
}

/** Encodes and decodes events by one schema directory. Holds no event: share it freely. */
export class EventCodec {
  private directory: SchemaDirectory
  private readonly cursor = new AvroCursor()
  private readonly sink = new AvroSink()
  private readonly readers = new Map<number, { type: EventType; read: AvroRead }>()
  private readonly writers = new Map<EventType, { id: number; write: AvroWrite }>()

  constructor(schemas: SchemaDirectory) {
    this.directory = schemas
  }

  /** Whose ids it reads and writes. */
  get schemas(): SchemaDirectory {
    return this.directory
  }

  /** Goes on with another directory: before the first event is read or written. */
  use(schemas: SchemaDirectory): void {
    this.directory = schemas
    this.readers.clear()
    this.writers.clear()
  }

  /** Throws EVENT_VALUE when the event does not fit the current schema of its type. */
  encode(event: BusinessEvent): Buffer {
    const { id, write } = this.writerOf(event.type)
    const { sink } = this
    sink.reset()
    sink.byte(0)
    sink.uint32(id)
    write(sink, event)
    return sink.copy()
  }

  /**
   * Throws a `ContractError` on anything but exactly one whole event: a `SchemaPending` when its
   * schema has to be looked up first.
   */
  decode(bytes: Buffer, start: number, end: number): BusinessEvent {
    const id = schemaIdAt(bytes, start, end)
    const { type, read } = this.readers.get(id) ?? this.compile(id)
    const event = this.whole(read, bytes, start, end) as { type: EventType }
    event.type = type
    return event as BusinessEvent
  }

  /** The type of the event, without decoding it. */
  typeAt(bytes: Buffer, start: number, end: number): EventType {
    return this.schemaAt(schemaIdAt(bytes, start, end)).type
  }

  /**
   * A reader of some fields of one event type: cheaper than `decode`, and strict alike: it
   * walks the whole event. Throws EVENT_SCHEMA_UNKNOWN when given an event of another type.
   */
  projection<T extends EventType, F extends keyof EventOf<T> & string>(
    type: T,
    fields: readonly F[],
  ): EventReader<Pick<EventOf<T>, F>> {
    const reads = new Map<number, AvroRead>()
    return (bytes, start, end) => {
      const id = schemaIdAt(bytes, start, end)
      let read = reads.get(id)
      if (read === undefined) {
        const { type: actual, schema } = this.schemaAt(id)
        if (actual !== type) {
          throw new ContractError('EVENT_SCHEMA_UNKNOWN', `${actual} where ${type} is read`)
        }
        read = compileReader(schema, { ...readingOf(type), fields })
        reads.set(id, read)
      }
      return this.whole(read, bytes, start, end) as Pick<EventOf<T>, F>
    }
  }

  private whole(read: AvroRead, bytes: Buffer, start: number, end: number): unknown {
    const { cursor } = this
    cursor.open(bytes, start + frameBytes, end)
    const row = read(cursor)
    if (cursor.left === 0) return row
    throw new ContractError('EVENT_TRAILING', `${cursor.left} bytes`)
  }

  private schemaAt(id: number): EventSchema {
    const schema = this.schemas.byId(id)
    if (schema !== undefined) return schema
    if (this.schemas.missing === undefined) {
      throw new ContractError('EVENT_SCHEMA_UNKNOWN', `id ${id}`)
    }
    const reason = this.schemas.missing(id)
    if (reason === undefined) throw new SchemaPending(id)
    throw new ContractError('EVENT_SCHEMA_UNKNOWN', reason)
  }

  private compile(id: number) {
    const { type, schema } = this.schemaAt(id)
    const compiled = { type, read: compileReader(schema, readingOf(type)) }
    this.readers.set(id, compiled)
    return compiled
  }

  private writerOf(type: EventType) {
    const known = this.writers.get(type)
    if (known !== undefined) return known
    if (!Object.hasOwn(eventSchemas, type)) {
      throw new ContractError('EVENT_VALUE', `no event type ${type}`)
    }
    const { id, schema } = this.schemas.current(type)
    const compiled = { id, write: compileWriter(schema) }
    this.writers.set(type, compiled)
    return compiled
  }
}

/** The schema id of a framed event; EVENT_FRAME when the bytes are not framed. */
export function schemaIdAt(bytes: Buffer, start: number, end: number): number {
  if (end - start < frameBytes) {
    throw new ContractError('EVENT_FRAME', `${end - start} bytes, at least ${frameBytes} wanted`)
  }
  if (bytes[start] !== 0) {
    throw new ContractError('EVENT_FRAME', `magic byte ${bytes[start]}, 0 wanted`)
  }
  const low = (bytes[start + 2] << 16) | (bytes[start + 3] << 8) | bytes[start + 4]
  return bytes[start + 1] * 2 ** 24 + low
}

/**
 * The codec of the process: what runs in it shares one space of schema ids. They are the fixed ones
 * unless the command line gives it the directory of a registry at start.
 */
export const eventCodec = new EventCodec(fixedSchemas)

export function encodeEvent(event: BusinessEvent): Buffer {
  return eventCodec.encode(event)
}

export function decodeEvent(bytes: Buffer, start = 0, end = bytes.length): BusinessEvent {
  return eventCodec.decode(bytes, start, end)
}

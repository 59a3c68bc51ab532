/**
 * Events as JSON Schema (2020-12), from their Avro schemas and the rules of `event-rules.ts`: what
 * a line of `POST /v1/events` must hold as `value`, and what decoding gives.
 */
import {
  type AvroRecord,
  type AvroType,
  intMax,
  isArray,
  isRecord,
  isUnion,
  nameOf,
  presentType,
} from './avro-schema.ts'
import type { EventType } from './events.ts'
import { eventSchemas } from './schemas.ts'

export type JsonSchema = Readonly<Record<string, unknown>>

export function eventJsonSchema(type: EventType): JsonSchema {
  return recordSchema(eventSchemas[type])
}

function recordSchema({ fields }: AvroRecord): JsonSchema {
  return {
    type: 'object',
    required: fields.filter(field => !('default' in field)).map(({ name }) => name),
    properties: Object.fromEntries(fields.map(({ name, type }) => [name, schemaOf(name, type)])),
    additionalProperties: false,
  }
}

function schemaOf(name: string, type: AvroType): JsonSchema {
  if (isUnion(type)) return { anyOf: [schemaOf(name, presentType(type)), { type: 'null' }] }
  if (isArray(type)) return { type: 'array', items: schemaOf(name, type.items) }
  if (isRecord(type)) return recordSchema(type)
  const avro = nameOf(type)
  if (avro === 'string') return { type: 'string', minLength: 1 }
  const maximum = avro === 'int' ? intMax : Number.MAX_SAFE_INTEGER
  const description = descriptionOf(name, type)
  return {
    type: 'integer',
    minimum: name === 'quantity' ? 1 : 0,
    maximum,
    ...(description === undefined ? {} : { description }),
  }
}

function descriptionOf(name: string, type: AvroType): string | undefined {
  if (typeof type === 'object' && 'logicalType' in type) return 'Epoch milliseconds, UTC.'
  return name.endsWith('Minor') ? 'Minor units of the currency.' : undefined
}

/** Arbitrary events for property tests: any text, any amount, within the schemas. */
import fc from 'fast-check'
import { type AvroType, isUnion } from '../../contracts/avro-schema.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { eventSchemas } from '../../contracts/schemas.ts'

const text = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
  fc.constantFrom('EUR', 'eu-west', '\ufffd', 'é', 'x'.repeat(200)),
)
/**
 * avsc refuses ±(2^53 - 1) and writes odd bytes below -2^52 (it doubles the number in a double),
 * so values shared with it stay within.
 */
const long = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.maxSafeInteger().filter(value => value >= -(2 ** 52) && value < 2 ** 53 - 1),
  fc.constantFrom(-1, -(2 ** 31), 2 ** 31, -(2 ** 40) - 1, 2 ** 53 - 2, -(2 ** 52)),
)

function arbitraryOf(type: AvroType): fc.Arbitrary<unknown> {
  if (type === 'string') return text
  if (type === 'int') return fc.integer()
  if (type === 'null') return fc.constant(null)
  if (isUnion(type)) return fc.oneof(...type.map(arbitraryOf))
  if (typeof type === 'object' && 'items' in type) {
    return fc.array(arbitraryOf(type.items), { maxLength: 5 })
  }
  if (typeof type === 'object' && 'fields' in type) {
    return fc.record(
      Object.fromEntries(type.fields.map(field => [field.name, arbitraryOf(field.type)])),
    )
  }
  return long
}

export const anyEvent: fc.Arbitrary<BusinessEvent> = fc.oneof(
  ...Object.entries(eventSchemas).map(([type, schema]) =>
    arbitraryOf(schema).map(value => ({ ...(value as object), type }) as BusinessEvent),
  ),
)

/**
 * What an event's fields must be beyond their Avro types: texts are not empty, amounts and
 * times not negative, quantities at least 1. `totalMinor` may differ from the sum of the items
 * (shipping, discounts), and an order may have no items. A field with a default may be absent,
 * an optional one null. Unknown fields are refused.
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
import { shown } from './avro-writer.ts'
import type { EventType } from './events.ts'
import { eventSchemas } from './schemas.ts'

export type RuleCode = 'FIELD_UNKNOWN' | 'FIELD_MISSING' | 'FIELD_INVALID' | 'NUMBER_TOO_LARGE'

export interface RuleBreach {
  readonly code: RuleCode
  /** Where and what: `value.items[2].quantity: expected an integer of at least 1, got "x"`. */
  readonly detail: string
}

type Check = (value: unknown, path: string) => RuleBreach | undefined

const checks = new Map<EventType, Check>(
  Object.entries(eventSchemas).map(([type, schema]) => [type as EventType, recordCheck(schema)]),
)

/** The first field of `value` that breaks a rule of the event type; undefined when none does. */
export function checkEventFields(
  type: EventType,
  value: unknown,
  path = 'value',
): RuleBreach | undefined {
  return checks.get(type)!(value, path)
}

function checkOf(name: string, type: AvroType): Check {
  if (isUnion(type)) {
    const check = checkOf(name, presentType(type))
    return (value, path) => (value === null ? undefined : check(value, path))
  }
  if (isArray(type)) return arrayCheck(checkOf(name, type.items))
  if (isRecord(type)) return recordCheck(type)
  const avro = nameOf(type)
  if (avro === 'string') return checkText
  const max = avro === 'int' ? intMax : Number.MAX_SAFE_INTEGER
  return integerCheck(name === 'quantity' ? 1 : 0, max)
}

function recordCheck(schema: AvroRecord): Check {
  const fields = new Map(schema.fields.map(field => [field.name, checkOf(field.name, field.type)]))
  const optional = new Set(
    schema.fields.filter(field => 'default' in field).map(({ name }) => name),
  )
  return (value, path) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return invalid(path, 'an object', value)
    }
    for (const name of Object.keys(value)) {
      if (fields.has(name)) continue
      return {
        code: 'FIELD_UNKNOWN',
        detail: `${path}: ${schema.name} has no field ${shown(name)}`,
      }
    }
    const row = value as Readonly<Record<string, unknown>>
    for (const [name, check] of fields) {
      const here = `${path}.${name}`
      if (!Object.hasOwn(row, name)) {
        if (optional.has(name)) continue
        return { code: 'FIELD_MISSING', detail: `${here}: missing` }
      }
      const breach = check(row[name], here)
      if (breach !== undefined) return breach
    }
    return undefined
  }
}

function arrayCheck(check: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) return invalid(path, 'an array', value)
    for (let at = 0; at < value.length; at += 1) {
      const breach = check(value[at], `${path}[${at}]`)
      if (breach !== undefined) return breach
    }
    return undefined
  }
}

function checkText(value: unknown, path: string): RuleBreach | undefined {
  if (typeof value !== 'string' || value === '') return invalid(path, 'a non-empty text', value)
  // A lone surrogate cannot be written as UTF-8.
  if (!value.isWellFormed()) return invalid(path, 'well-formed Unicode', value)
  return undefined
}

function integerCheck(min: number, max: number): Check {
  const limit = max === Number.MAX_SAFE_INTEGER ? '2^53 - 1' : `${max}`
  const expected = `an integer of at least ${min}`
  return (value, path) => {
    // Rounding is monotonic and 2^53 is a double, so an integer text of 2^53 or more has
    // become a number of 2^53 or more: comparing the parsed number misses none.
    if (typeof value === 'number' && value > max) {
      const detail = `${path}: expected an integer of at most ${limit}, got ${value}`
      return { code: 'NUMBER_TOO_LARGE', detail }
    }
    if (Number.isSafeInteger(value) && (value as number) >= min) return undefined
    return invalid(path, expected, value)
  }
}

function invalid(path: string, expected: string, value: unknown): RuleBreach {
  return { code: 'FIELD_INVALID', detail: `${path}: expected ${expected}, got ${shown(value)}` }
}

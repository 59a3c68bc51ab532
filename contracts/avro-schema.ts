/** Avro schemas as values: the subset that events may use, and how a JSON document becomes one. */
import { ContractError } from './errors.ts'

/** Of an Avro `int`. */
export const intMax = 2 ** 31 - 1

export type AvroPrimitive = 'null' | 'boolean' | 'int' | 'long' | 'float' | 'double' | 'string'

export interface AvroField {
  readonly name: string
  readonly type: AvroType
  /** Value for readers of data written before the field existed. */
  readonly default?: unknown
  readonly doc?: string
}

export interface AvroRecord {
  readonly type: 'record'
  readonly name: string
  readonly namespace?: string
  readonly doc?: string
  readonly fields: readonly AvroField[]
}

export interface AvroEnum {
  readonly type: 'enum'
  readonly name: string
  readonly symbols: readonly string[]
}

/** Anything else is SCHEMA_UNSUPPORTED. */
export type AvroType =
  | AvroPrimitive
  | { readonly type: AvroPrimitive; readonly logicalType?: string }
  | { readonly type: 'array'; readonly items: AvroType }
  | AvroEnum
  | AvroRecord
  | readonly AvroType[]

const primitives = new Set(['null', 'boolean', 'int', 'long', 'float', 'double', 'string'])

type JsonObject = Readonly<Record<string, unknown>>

/**
 * The record schema that a JSON document states. Names that stand for a record or enum defined
 * earlier in it are replaced by its definition. Throws SCHEMA_UNSUPPORTED for what is beyond the
 * subset, with its place.
 */
export function parseAvro(document: unknown): AvroRecord {
  const type = parseType(document, { namespace: '', defined: new Map(), at: 'schema' })
  if (isRecord(type)) return type
  throw unsupported('schema', `a record is wanted, not ${nameOf(type)}`)
}

interface Scope {
  readonly namespace: string
  /** Types named so far, by full name; undefined while its own fields are parsed. */
  readonly defined: Map<string, AvroType | undefined>
  readonly at: string
}

function parseType(json: unknown, scope: Scope): AvroType {
  const { at } = scope
  if (typeof json === 'string') return named(json, scope)
  if (Array.isArray(json)) {
    return json.map((branch, i) => parseType(branch, { ...scope, at: `${at}[${i}]` }))
  }
  if (typeof json !== 'object' || json === null) throw unsupported(at, `${json} is no type`)
  const { type, logicalType, items } = json as JsonObject
  if (type === 'array') return { type, items: parseType(items, { ...scope, at: `${at}.items` }) }
  if (type === 'record') return parseRecord(json as JsonObject, scope)
  if (type === 'enum') return parseEnum(json as JsonObject, scope)
  if (typeof type !== 'string') return parseType(type, scope)
  const inner = named(type, scope)
  if (typeof logicalType !== 'string' || typeof inner !== 'string') return inner
  return { type: inner, logicalType }
}

function named(name: string, { namespace, defined, at }: Scope): AvroType {
  if (primitives.has(name)) return name as AvroPrimitive
  const full = fullName(name, namespace)
  const type = defined.get(full)
  if (type !== undefined) return type
  throw unsupported(at, defined.has(full) ? `${name} within itself` : `type ${name}`)
}

function parseRecord(json: JsonObject, scope: Scope): AvroRecord {
  const { name, namespace, doc, fields } = json
  const place = placeOf(json, scope)
  if (!Array.isArray(fields)) throw unsupported(place.at, 'a record without fields')
  scope.defined.set(place.full, undefined)
  const within = { ...scope, namespace: place.namespace }
  const record: AvroRecord = {
    type: 'record',
    name: name as string,
    ...(typeof namespace === 'string' && { namespace }),
    ...(typeof doc === 'string' && { doc }),
    fields: fields.map((field: JsonObject) => parseField(field, { ...within, at: place.at })),
  }
  scope.defined.set(place.full, record)
  return record
}

function parseField(field: JsonObject, scope: Scope): AvroField {
  const { name, type, doc } = field
  if (typeof name !== 'string') throw unsupported(scope.at, 'a field without name')
  return {
    name,
    type: parseType(type, { ...scope, at: `${scope.at}.${name}` }),
    ...('default' in field && { default: field.default }),
    ...(typeof doc === 'string' && { doc }),
  }
}

function parseEnum(json: JsonObject, scope: Scope): AvroEnum {
  const { name, symbols } = json
  const { at, full } = placeOf(json, scope)
  if (!Array.isArray(symbols) || !symbols.every(symbol => typeof symbol === 'string')) {
    throw unsupported(at, 'an enum without symbols')
  }
  const type = { type: 'enum', name: name as string, symbols } as const
  scope.defined.set(full, type)
  return type
}

/** Where a named type stands: in errors, and as a full name. */
function placeOf({ name, namespace }: JsonObject, scope: Scope) {
  if (typeof name !== 'string') throw unsupported(scope.at, 'a named type without name')
  const own = typeof namespace === 'string' ? namespace : scope.namespace
  const full = fullName(name, own)
  const enclosing = full.includes('.') ? full.slice(0, full.lastIndexOf('.')) : ''
  return { at: scope.at === 'schema' ? name : scope.at, full, namespace: enclosing }
}

function fullName(name: string, namespace: string): string {
  return name.includes('.') || namespace === '' ? name : `${namespace}.${name}`
}

export function isUnion(type: AvroType): type is readonly AvroType[] {
  return Array.isArray(type)
}

export function isArray(type: AvroType): type is { type: 'array'; items: AvroType } {
  return typeof type === 'object' && 'items' in type
}

export function isRecord(type: AvroType): type is AvroRecord {
  return typeof type === 'object' && 'fields' in type
}

export function isEnum(type: AvroType): type is AvroEnum {
  return typeof type === 'object' && 'symbols' in type
}

/** The type's name without logical type, for errors and for comparing. */
export function nameOf(type: AvroType): string {
  if (typeof type === 'string') return type
  if (isUnion(type)) return `[${type.map(nameOf).join(', ')}]`
  return type.type
}

/** A type that may be null, without the null: what an optional field holds when it is there. */
export function presentType(type: AvroType): AvroType {
  if (!isUnion(type)) return type
  const rest = type.filter(branch => branch !== 'null')
  return rest.length === 1 ? rest[0] : rest
}

function unsupported(at: string, problem: string): ContractError {
  return new ContractError('SCHEMA_UNSUPPORTED', `${at}: ${problem}`)
}

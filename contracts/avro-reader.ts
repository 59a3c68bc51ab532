/**
 * Compiles an Avro schema into a reader: closures over an `AvroCursor`, no generated code.
 *
 * The writer's schema says what the bytes are, the reader's schema and fields what is wanted:
 * other fields are passed over, fields that the writer did not have get their default. Text
 * and numbers that are passed over are checked all the same, so that a record is poison for
 * every reader or for none.
 */
import type { AvroCursor } from './avro-cursor.ts'
import { ContractError, inField } from './errors.ts'
import type { AvroField, AvroRecord, AvroType } from './schemas.ts'

export type AvroRead = (cursor: AvroCursor) => unknown
type AvroSkip = (cursor: AvroCursor) => void
type MutableRow = Record<string, unknown>

export interface ReaderOptions {
  /** Schema of the values wanted; the writer's own when absent. */
  readonly reader?: AvroRecord
  /** Fields wanted; all of the reader's when absent. */
  readonly fields?: readonly string[]
  /** Names of text fields with few distinct values: equal ones share one string. */
  readonly interned?: ReadonlySet<string>
}

/** Returns a reader of one record. The row is a fresh plain object. */
export function compileReader(writer: AvroRecord, options: ReaderOptions = {}): AvroRead {
  const reader = options.reader ?? writer
  const wanted = options.fields ?? reader.fields.map(field => field.name)
  for (const name of wanted) {
    if (reader.fields.some(field => field.name === name)) continue
    throw unsupported(`${reader.name} has no field ${name}`)
  }
  const interned = options.interned ?? new Set()
  return recordReader(
    writer,
    { ...reader, fields: reader.fields.filter(field => wanted.includes(field.name)) },
    interned,
  )
}

function recordReader(
  writer: AvroRecord,
  reader: AvroRecord,
  interned: ReadonlySet<string>,
): AvroRead {
  const names: string[] = []
  const reads: (AvroRead | undefined)[] = []
  const skips: (AvroSkip | undefined)[] = []
  for (const field of writer.fields) {
    const target = reader.fields.find(candidate => candidate.name === field.name)
    names.push(field.name)
    const read =
      target === undefined
        ? undefined
        : fieldReader(field, target, interned.has(field.name), interned)
    reads.push(read)
    skips.push(read === undefined ? compileSkip(field.type) : undefined)
  }
  const defaults = reader.fields.filter(
    field => !writer.fields.some(written => written.name === field.name),
  )
  for (const field of defaults) {
    if (!('default' in field)) throw unsupported(`${writer.name} lacks ${field.name}`)
  }
  return cursor => {
    const row: MutableRow = {}
    let at = 0
    try {
      for (; at < names.length; at += 1) {
        const read = reads[at]
        if (read !== undefined) row[names[at]] = read(cursor)
        else skips[at]!(cursor)
      }
    } catch (error) {
      throw inField(error, names[at])
    }
    for (const field of defaults) row[field.name] = structuredClone(field.default)
    return row
  }
}

function fieldReader(
  written: AvroField,
  wanted: AvroField,
  isInterned: boolean,
  interned: ReadonlySet<string>,
): AvroRead {
  if (isInterned && nameOf(written.type) === 'string' && nameOf(wanted.type) === 'string') {
    return cursor => cursor.internedString()
  }
  return typeReader(written.type, wanted.type, interned)
}

const wideNumbers = new Set(['int>long', 'int>double', 'long>double', 'float>double', 'int>float'])

/** Resolves a written type against a wanted one, by Avro's rules for the subset. */
function typeReader(written: AvroType, wanted: AvroType, interned: ReadonlySet<string>): AvroRead {
  if (isUnion(written)) {
    const branches = written.map(branch => typeReader(branch, wanted, interned))
    return cursor => branches[cursor.index(branches.length)](cursor)
  }
  const from = nameOf(written)
  if (isUnion(wanted)) {
    const branch = wanted.find(candidate => nameOf(candidate) === from)
    if (branch === undefined) throw unsupported(`${from} where ${nameOf(wanted)} is wanted`)
    return typeReader(written, branch, interned)
  }
  const to = nameOf(wanted)
  if (from !== to && !wideNumbers.has(`${from}>${to}`)) {
    throw unsupported(`${from} where ${to} is wanted`)
  }
  if (isArray(written) && isArray(wanted)) {
    return arrayReader(typeReader(written.items, wanted.items, interned))
  }
  if (isRecord(written) && isRecord(wanted)) return recordReader(written, wanted, interned)
  if (isEnum(written)) {
    const { symbols } = written
    return cursor => symbols[cursor.index(symbols.length)]
  }
  return primitiveReader(from)
}

function primitiveReader(name: string): AvroRead {
  switch (name) {
    case 'null':
      return () => null
    case 'boolean':
      return cursor => cursor.boolean()
    case 'int':
      return cursor => cursor.int()
    case 'long':
      return cursor => cursor.long()
    case 'float':
      return cursor => cursor.float()
    case 'double':
      return cursor => cursor.double()
    case 'string':
      return cursor => cursor.string()
    default:
      throw unsupported(`type ${name}`)
  }
}

function arrayReader(readItem: AvroRead): AvroRead {
  return cursor => {
    const items: unknown[] = []
    try {
      for (let left = cursor.blockItems(); left > 0; left = cursor.blockItems()) {
        for (; left > 0; left -= 1) items.push(readItem(cursor))
      }
    } catch (error) {
      throw inField(error, `[${items.length}]`)
    }
    return items
  }
}

function compileSkip(type: AvroType): AvroSkip {
  if (isUnion(type)) {
    const branches = type.map(compileSkip)
    return cursor => branches[cursor.index(branches.length)](cursor)
  }
  if (isArray(type)) return arraySkip(compileSkip(type.items))
  if (isRecord(type)) {
    const names = type.fields.map(field => field.name)
    const skips = type.fields.map(field => compileSkip(field.type))
    return cursor => {
      let at = 0
      try {
        for (; at < skips.length; at += 1) skips[at](cursor)
      } catch (error) {
        throw inField(error, names[at])
      }
    }
  }
  if (nameOf(type) === 'string') return cursor => cursor.skipString()
  return typeReader(type, type, new Set())
}

function arraySkip(skipItem: AvroSkip): AvroSkip {
  return cursor => {
    let index = 0
    try {
      for (let left = cursor.blockItems(); left > 0; left = cursor.blockItems()) {
        for (; left > 0; left -= 1, index += 1) skipItem(cursor)
      }
    } catch (error) {
      throw inField(error, `[${index}]`)
    }
  }
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

export function isEnum(type: AvroType): type is { type: 'enum'; name: string; symbols: string[] } {
  return typeof type === 'object' && 'symbols' in type
}

/** The type's name without logical type, for errors and for comparing. */
export function nameOf(type: AvroType): string {
  if (typeof type === 'string') return type
  if (isUnion(type)) return `[${type.map(nameOf).join(', ')}]`
  return type.type
}

function unsupported(problem: string): ContractError {
  return new ContractError('SCHEMA_UNSUPPORTED', problem)
}

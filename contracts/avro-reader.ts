/**
 * Compiles an Avro schema into a reader: closures over an `AvroCursor`, no generated code.
 *
 * The writer's schema says what the bytes are, the reader's schema and fields what is wanted:
 * other fields are passed over, fields that the writer did not have get their default. Text
 * and numbers that are passed over are checked all the same, so that a record is poison for
 * every reader or for none.
 */
import type { AvroCursor } from './avro-cursor.ts'
import {
  type AvroField,
  type AvroRecord,
  type AvroType,
  isArray,
  isEnum,
  isRecord,
  isUnion,
  nameOf,
} from './avro-schema.ts'
import { ContractError, inField } from './errors.ts'
import type { Upcasts } from './upcasts.ts'

export type AvroRead = (cursor: AvroCursor) => unknown
type AvroSkip = (cursor: AvroCursor) => void
type MutableRow = Record<string, unknown>

export interface ReaderOptions {
  /** Schema of the values wanted; the writer's own when absent. */
  readonly reader?: AvroRecord
  /** Fields wanted; all of the reader's when absent. */
  readonly fields?: readonly string[]
  /** Fields that follow from others where the writer did not have them. */
  readonly upcasts?: Upcasts
  /** Names of text fields with few distinct values: equal ones share one string. */
  readonly interned?: ReadonlySet<string>
}

/** Returns a reader of one record. The row is a fresh plain object. */
export function compileReader(writer: AvroRecord, options: ReaderOptions = {}): AvroRead {
  const reader = options.reader ?? writer
  const wanted = options.fields ?? reader.fields.map(field => field.name)
  for (const name of wanted) {
    if (!hasField(reader, name)) throw unsupported(`${reader.name} has no field ${name}`)
  }
  const interned = options.interned ?? new Set()
  const upcasts = upcastsOf(writer, wanted, options.upcasts ?? {})
  const upcast = new Set(upcasts.map(([name]) => name))
  const sources = new Set(upcasts.flatMap(([, { from }]) => from))
  const extra = [...sources].filter(name => !wanted.includes(name))
  const fields = [
    ...reader.fields.filter(({ name }) => wanted.includes(name) && !upcast.has(name)),
    ...writer.fields.filter(({ name }) => extra.includes(name)),
  ]
  const read = recordReader(writer, { ...reader, fields }, interned)
  if (upcasts.length === 0) return read
  return cursor => {
    const row = read(cursor) as MutableRow
    for (const [name, { value }] of upcasts) row[name] = value(row)
    for (const name of extra) delete row[name]
    return row
  }
}

/** Those of fields that are wanted and were not written, where what they follow from was. */
function upcastsOf(writer: AvroRecord, wanted: readonly string[], upcasts: Upcasts) {
  return Object.entries(upcasts).filter(
    ([name, { from }]) =>
      wanted.includes(name) &&
      !hasField(writer, name) &&
      from.every(source => hasField(writer, source)),
  )
}

function hasField({ fields }: AvroRecord, name: string): boolean {
  return fields.some(field => field.name === name)
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
        : fieldReader(field, target, { interned, isInterned: interned.has(field.name) })
    reads.push(read)
    skips.push(read === undefined ? compileSkip(field.type) : undefined)
  }
  const defaults = reader.fields
    .filter(field => !writer.fields.some(written => written.name === field.name))
    .map(field => defaultOf(writer.name, field))
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
    for (const make of defaults) make(row)
    return row
  }
}

function fieldReader(written: AvroField, wanted: AvroField, texts: TextOptions): AvroRead {
  try {
    return typeReader(written.type, wanted.type, texts)
  } catch (error) {
    throw inField(error, written.name)
  }
}

/** Sets a field that was not written; a fresh value for each row. */
function defaultOf(writer: string, field: AvroField): (row: MutableRow) => void {
  const { name, default: value } = field
  if (value === undefined) throw unsupported(`${writer} lacks ${name}`)
  return typeof value === 'object' && value !== null
    ? row => {
        row[name] = structuredClone(value)
      }
    : row => {
        row[name] = value
      }
}

const wideNumbers = new Set([
  'int>long',
  'int>float',
  'int>double',
  'long>float',
  'long>double',
  'float>double',
])

interface TextOptions {
  readonly interned: ReadonlySet<string>
  /** Whether this very type is one of those. */
  readonly isInterned: boolean
}

/** Resolves a written type against a wanted one, by Avro's rules for the subset. */
function typeReader(written: AvroType, wanted: AvroType, texts: TextOptions): AvroRead {
  if (isUnion(written)) {
    const branches = written.map(branch => typeReader(branch, wanted, texts))
    return cursor => branches[cursor.index(branches.length)](cursor)
  }
  const from = nameOf(written)
  if (isUnion(wanted)) {
    return branchReader(written, wanted, texts)
  }
  const to = nameOf(wanted)
  if (from !== to && !wideNumbers.has(`${from}>${to}`)) {
    throw unsupported(`${from} where ${to} is wanted`)
  }
  if (isArray(written) && isArray(wanted)) {
    const items = { interned: texts.interned, isInterned: false }
    return arrayReader(typeReader(written.items, wanted.items, items))
  }
  if (isRecord(written) && isRecord(wanted)) {
    checkNames(written, wanted)
    return recordReader(written, wanted, texts.interned)
  }
  if (isEnum(written) && isEnum(wanted)) {
    const { symbols } = written
    checkNames(written, wanted)
    const foreign = symbols.filter(symbol => !wanted.symbols.includes(symbol))
    if (foreign.length > 0) throw unsupported(`${wanted.name} has no ${foreign.join(', ')}`)
    return cursor => symbols[cursor.index(symbols.length)]
  }
  if (from === 'string' && texts.isInterned) return cursor => cursor.internedString()
  return primitiveReader(from)
}

/** The branch of the same type, or else the first that takes it. */
function branchReader(
  written: AvroType,
  wanted: readonly AvroType[],
  texts: TextOptions,
): AvroRead {
  const from = nameOf(written)
  const isSame = (branch: AvroType) => nameOf(branch) === from
  for (const branch of [...wanted.filter(isSame), ...wanted.filter(one => !isSame(one))]) {
    try {
      return typeReader(written, branch, texts)
    } catch {
      // Perhaps another one does.
    }
  }
  throw unsupported(`${from} where ${nameOf(wanted)} is wanted`)
}

interface Named {
  readonly name: string
}

/** Types of two namespaces are the same, of two names they are not. */
function checkNames(written: Named, wanted: Named): void {
  const [from, to] = [written, wanted].map(({ name }) => name.slice(name.lastIndexOf('.') + 1))
  if (from !== to) throw unsupported(`${from} where ${to} is wanted`)
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
  return typeReader(type, type, { interned: new Set(), isInterned: false })
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

function unsupported(problem: string): ContractError {
  return new ContractError('SCHEMA_UNSUPPORTED', problem)
}

/** Record headers, read only when asked for (grammar in `record-batch.ts`). */
import { corrupt } from './record-batch.ts'
import type { RecordColumns } from './record-columns.ts'
import { type Cursor, readVarint } from './varint.ts'

export type Header = readonly [name: string, value: Buffer | null]

/** Of their bytes in a batch, at most: a character of a name takes three, a length five. */
export function headersBytesMax(headers: readonly Header[]): number {
  let size = 0
  for (const [name, value] of headers) size += 3 * name.length + (value?.length ?? 0) + 10
  return size
}

const cursor: Cursor = { position: 0 }

interface HeaderVisitor {
  /** Value start is -1 when it is null. Returning true ends the walk. */
  visit(nameStart: number, nameEnd: number, valueStart: number, valueEnd: number): boolean
}

function walk(columns: RecordColumns, index: number, visitor: HeaderVisitor): void {
  const { bytes } = columns
  const end = columns.headersEnd[index]
  const broken = () => corrupt(columns.headersStart[index], columns.offsets[index], 'bad headers')
  cursor.position = columns.headersStart[index]
  if (cursor.position < 0) return
  const count = readVarint(bytes, cursor)
  let p = cursor.position
  if (!(count >= 0 && count * 2 <= end - p)) throw broken()
  for (let i = 0; i < count; i++) {
    cursor.position = p
    const nameLength = readVarint(bytes, cursor)
    const nameStart = cursor.position
    if (!(nameLength >= 0 && nameStart + nameLength < end)) throw broken()
    cursor.position = nameStart + nameLength
    const valueLength = readVarint(bytes, cursor)
    const valueStart = cursor.position
    p = valueLength < 0 ? valueStart : valueStart + valueLength
    if (!(valueLength >= -1 && p <= end)) throw broken()
    const start = valueLength < 0 ? -1 : valueStart
    if (visitor.visit(nameStart, nameStart + nameLength, start, p)) return
  }
  if (p !== end) throw broken()
}

/** All headers of a record in order; values are views of the batch's bytes. */
export function readHeaders(columns: RecordColumns, index: number): Header[] {
  const headers: Header[] = []
  walk(columns, index, {
    visit(nameStart, nameEnd, valueStart, valueEnd) {
      const value = valueStart < 0 ? null : columns.bytes.subarray(valueStart, valueEnd)
      headers.push([columns.bytes.utf8Slice(nameStart, nameEnd), value])
      return false
    },
  })
  return headers
}

class HeaderSearch implements HeaderVisitor {
  bytes: Buffer = Buffer.alloc(0)
  name: Buffer = this.bytes
  start = -1
  end = -1
  found = false

  visit(nameStart: number, nameEnd: number, valueStart: number, valueEnd: number): boolean {
    const { bytes, name } = this
    if (nameEnd - nameStart !== name.length) return false
    for (let i = 0; i < name.length; i++) if (bytes[nameStart + i] !== name[i]) return false
    this.start = valueStart
    this.end = valueEnd
    // The last header of a name wins, as in Kafka's `lastHeader`.
    this.found = true
    return false
  }
}

const search = new HeaderSearch()

/**
 * The value of the last header with this name: null where its value is null, undefined where
 * there is none.
 */
export function header(
  columns: RecordColumns,
  index: number,
  name: Buffer,
): Buffer | null | undefined {
  if (columns.headersStart[index] < 0) return undefined
  search.bytes = columns.bytes
  search.name = name
  search.found = false
  walk(columns, index, search)
  if (!search.found) return undefined
  return search.start < 0 ? null : columns.bytes.subarray(search.start, search.end)
}

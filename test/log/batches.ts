/** Record batches for tests: made from and rendered to text. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type FinishOptions, RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { type DecodedBatches, type DecodeOptions, decodeBatches } from '../../log/record-columns.ts'
import { type Header, readHeaders } from '../../log/record-headers.ts'

export interface TestRecord {
  readonly key?: string | null
  readonly value?: string | null
  readonly timestampMs?: number
  readonly headers?: readonly Header[]
}

const slice = (text: string | null) => {
  if (text === null) return null
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

export function makeBatch(records: readonly TestRecord[], options?: FinishOptions): Buffer {
  const builder = new RecordBatchBuilder()
  for (const { key = null, value = null, timestampMs = 0, headers } of records) {
    builder.append(timestampMs, slice(key), slice(value), headers)
  }
  return builder.finish(options)
}

/** A batch of records without time, written `key=value`, `key=` for a tombstone. */
export function batchOf(...pairs: readonly string[]): Buffer {
  return makeBatch(
    pairs.map(pair => {
      const [key, value] = pair.split('=')
      return { key, value: value === '' ? null : value }
    }),
  )
}

export function golden(name: string): Buffer {
  return readFileSync(join(import.meta.dirname, 'golden', `${name}.bin`))
}

const text = (bytes: Buffer, start: number, end: number) =>
  start < 0 ? 'null' : `'${bytes.utf8Slice(start, end)}'`

/** One line a record: offset, timestamp, key, value, headers. */
export function rendered({ runs }: DecodedBatches): string[] {
  return runs.flatMap(columns =>
    Array.from({ length: columns.length }, (_, i) => {
      const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
      const headers = readHeaders(columns, i).map(
        ([name, value]) => ` ${name}=${value === null ? 'null' : `'${value.toString()}'`}`,
      )
      const key = text(bytes, keyStart[i], keyEnd[i])
      const value = text(bytes, valueStart[i], valueEnd[i])
      return `${columns.offsets[i]} ${columns.timestamps[i]} ${key} ${value}${headers.join('')}`
    }),
  )
}

/** Keys and values alone: `0 a=1`. */
export function pairs(bytes: Buffer, options?: DecodeOptions): string[] {
  return decodeBatches(bytes, options).runs.flatMap(columns =>
    Array.from({ length: columns.length }, (_, i) => {
      const key = columns.bytes.utf8Slice(columns.keyStart[i], columns.keyEnd[i])
      const value =
        columns.valueStart[i] < 0
          ? ''
          : columns.bytes.utf8Slice(columns.valueStart[i], columns.valueEnd[i])
      return `${columns.offsets[i]} ${key}=${value}`
    }),
  )
}

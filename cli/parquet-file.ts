/**
 * A recording as a Parquet file, for analysis: a row a record in the order of event time, with its
 * place, key and value as bytes and, of events, type, key text and content as JSON.
 */
import zlib from 'node:zlib'
import {
  type ColumnSource,
  fileWriter,
  ParquetWriter,
  schemaFromColumnData,
} from 'hyparquet-writer'
import { decodeEvent } from '../contracts/event-codec.ts'
import type { BusinessEvent } from '../contracts/events.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { readHeaders } from '../log/record-headers.ts'
import type { RecordedTopic } from '../recording/port.ts'
import type { Chunk, Run } from '../recording/timeline.ts'
import { foreignSchema } from './recorded-schemas.ts'

const GROUP_ROWS = 50_000
const GROUP_BYTES = 32 << 20
/** Beyond it no date is. */
const TIME_MS_MAX = 8.64e15

const types = {
  topic: 'STRING',
  partition: 'INT32',
  offset: 'INT64',
  timestamp: 'TIMESTAMP',
  type: 'STRING',
  event: 'STRING',
  headers: 'STRING',
  key: 'BYTE_ARRAY',
  value: 'BYTE_ARRAY',
} as const
type Column = keyof typeof types
type Cell = string | number | bigint | Date | Uint8Array | null

const required: ReadonlySet<string> = new Set(['topic', 'partition', 'offset', 'timestamp'])

/** Writes the file anew; resolves with the number of rows. */
export async function writeParquet(
  path: string,
  topics: readonly RecordedTopic[],
  chunks: AsyncIterable<Chunk>,
): Promise<number> {
  const writer = new ParquetWriter({
    writer: fileWriter(path),
    schema: schemaFromColumnData({ columnData: new RowGroup().columns() }),
    codec: 'ZSTD',
    compressors: { ZSTD: bytes => zlib.zstdCompressSync(bytes) },
    createdBy: 'millrace',
  })
  let group = new RowGroup()
  let rows = 0
  const flush = async () => {
    await writer.write({ columnData: group.columns(), rowGroupSize: GROUP_ROWS * 2 })
    rows += group.rows
    group = new RowGroup()
  }
  for await (const runs of chunks) {
    for (const run of runs) {
      const { name } = topics[run.topic]!
      for (let i = run.start; i < run.end; i++) {
        group.add(name, run, i)
        if (group.rows >= GROUP_ROWS || group.bytes >= GROUP_BYTES) await flush()
      }
    }
  }
  if (group.rows > 0) await flush()
  await writer.finish()
  return rows
}

class RowGroup {
  rows = 0
  bytes = 0
  readonly #cells = Object.fromEntries(
    Object.keys(types).map(name => [name, [] as Cell[]]),
  ) as Record<Column, Cell[]>

  add(topic: string, { partition, columns }: Run, i: number): void {
    const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
    const event = eventAt(columns, i)
    const { type, ...content } = event ?? { type: null }
    const time = Math.max(-TIME_MS_MAX, Math.min(TIME_MS_MAX, columns.timestamps[i]!))
    const row: Record<Column, Cell> = {
      topic,
      partition,
      offset: BigInt(columns.offsets[i]!),
      timestamp: new Date(time),
      type,
      event: event === undefined ? null : JSON.stringify(content),
      headers: headersText(columns, i),
      key: part(bytes, keyStart[i]!, keyEnd[i]!),
      value: part(bytes, valueStart[i]!, valueEnd[i]!),
    }
    for (const name of Object.keys(row) as Column[]) this.#cells[name].push(row[name])
    this.rows++
    this.bytes += columns.headersEnd[i]! - Math.max(keyStart[i]!, 0)
  }

  columns(): ColumnSource[] {
    return Object.entries(types).map(([name, type]) => {
      return { name, type, data: this.#cells[name as Column], nullable: !required.has(name) }
    })
  }
}

function eventAt(columns: RecordColumns, i: number): BusinessEvent | undefined {
  const { bytes, valueStart, valueEnd } = columns
  if (valueStart[i]! < 0 || foreignSchema(columns, i) !== undefined) return undefined
  try {
    return decodeEvent(bytes, valueStart[i]!, valueEnd[i]!)
  } catch {
    return undefined
  }
}

/**
 * A JSON object of texts, with a list of them for a name that comes again; what is no UTF-8 has
 * replacement characters there.
 */
function headersText(columns: RecordColumns, i: number): string {
  const all = new Map<string, (string | null)[]>()
  for (const [name, value] of readHeaders(columns, i)) {
    const text = value?.toString() ?? null
    const texts = all.get(name)
    if (texts === undefined) all.set(name, [text])
    else texts.push(text)
  }
  const pairs = [...all].map(([name, texts]) => [name, texts.length === 1 ? texts[0] : texts])
  return JSON.stringify(Object.fromEntries(pairs))
}

function part(bytes: Buffer, start: number, end: number): Uint8Array | null {
  return start < 0 ? null : new Uint8Array(bytes.subarray(start, end))
}

/** What is in a recording, by reading all of it. */
import type { Codec } from '../log/compression.ts'
import { MillraceError } from '../log/errors.ts'
import { readBatchHeaders } from '../log/record-batch.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import {
  type DamagePlace,
  type Recording,
  readBlock,
  type SpanData,
  spanRecords,
} from './reader.ts'

export interface PartitionContents {
  readonly topic: string
  readonly partition: number
  records: number
  /** Offsets `[from, to)`; equal when it has none. */
  readonly from: number
  to: number
  /** Epoch ms; null where there is no record. */
  minTimestamp: number | null
  maxTimestamp: number | null
  /** Of its batches as the log had them. */
  bytes: number
}

export interface Contents {
  readonly partitions: readonly PartitionContents[]
  /** Batches by their compression. */
  readonly codecs: Readonly<Partial<Record<Codec, number>>>
  /** Records by topic and schema id, where the value is in Confluent framing. */
  readonly schemaIds: Readonly<Record<string, Readonly<Record<string, number>>>>
  /** The first place that cannot be read; nothing behind it is counted. */
  readonly damage: DamagePlace | undefined
}

export interface InspectOptions {
  /** Bytes of the file read so far. */
  readonly onProgress?: (bytes: number) => void
}

export async function inspect(
  recording: Recording,
  { onProgress }: InspectOptions = {},
): Promise<Contents> {
  const census = new Census(recording)
  let damage = recording.damage
  for (const entry of recording.blocks) {
    try {
      for (const data of await readBlock(recording, entry)) {
        census.add(data, spanRecords(recording, data))
      }
    } catch (error) {
      if (!(error instanceof MillraceError && error.code === 'RECORDING_DAMAGED')) throw error
      damage = { position: entry.position, reason: String(error.details.reason), isTorn: false }
      break
    }
    onProgress?.(entry.position + entry.size)
  }
  return { ...census.contents(), damage }
}

/** Schema ids told of a topic. */
const SCHEMA_IDS_MAX = 100

class Census {
  readonly #partitions: PartitionContents[][]
  readonly #codecs: Partial<Record<Codec, number>> = {}
  readonly #schemaIds: Record<string, Record<string, number>> = {}

  constructor({ header }: Recording) {
    this.#partitions = header.topics.map(({ name, from }) =>
      from.map((offset, partition) => ({
        topic: name,
        partition,
        records: 0,
        from: offset,
        to: offset,
        minTimestamp: null,
        maxTimestamp: null,
        bytes: 0,
      })),
    )
  }

  add({ span, bytes }: SpanData, runs: readonly RecordColumns[]): void {
    const row = this.#partitions[span.topic]![span.partition]!
    row.records += span.records
    row.to = Math.max(row.to, span.to)
    row.minTimestamp = Math.min(row.minTimestamp ?? span.minTimestamp, span.minTimestamp)
    row.maxTimestamp = Math.max(row.maxTimestamp ?? span.maxTimestamp, span.maxTimestamp)
    row.bytes += span.bytes
    for (const { codec } of readBatchHeaders(bytes)) {
      this.#codecs[codec] = (this.#codecs[codec] ?? 0) + 1
    }
    const ids = (this.#schemaIds[row.topic] ??= {})
    for (const run of runs) {
      for (let i = 0; i < run.length; i++) {
        const start = run.valueStart[i]!
        if (start < 0 || run.valueEnd[i]! - start < 5 || run.bytes[start] !== 0) continue
        const own = String(run.bytes.readUInt32BE(start + 1))
        // Foreign values may begin with a zero by chance, and have any number there.
        const isListed = own in ids || Object.keys(ids).length < SCHEMA_IDS_MAX
        const id = isListed ? own : 'others'
        ids[id] = (ids[id] ?? 0) + 1
      }
    }
  }

  contents(): Omit<Contents, 'damage'> {
    return { partitions: this.#partitions.flat(), codecs: this.#codecs, schemaIds: this.#schemaIds }
  }
}

/**
 * Lines of JSON as a recording: in order, events in the partition of their key. The lines are read
 * twice, as a recording names its topics and partitions before anything else.
 */
import { type NdjsonLine, ndjsonLines } from '../contracts/ndjson.ts'
import { inputPartitions } from '../contracts/topics.ts'
import { partitionOf } from '../log/murmur2.ts'
import { HEADER_BYTES } from '../log/record-batch.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { headersBytesMax } from '../log/record-headers.ts'
import { TOPIC_CONFIG_DEFAULT, topicConfig } from '../log/topics.ts'
import { VERSION } from '../recording/format.ts'
import type { RecordedTopic, RecordingFile } from '../recording/port.ts'
import { BLOCK_BYTES, RecordingWriter } from '../recording/writer.ts'
import { type LineRecord, parseRecordLine } from './record-lines.ts'

export interface LineProblem {
  readonly line: number
  readonly code: string
  readonly detail: string
}

export interface Survey {
  readonly topics: readonly RecordedTopic[]
  /** The first ones; `problemCount` counts all. */
  readonly problems: readonly LineProblem[]
  readonly problemCount: number
}

export type Lines = AsyncIterable<Buffer>

/** A record of 1 MiB in base64, and what is around it. */
const LINE_BYTES_MAX = 4 << 20
const PROBLEMS_LISTED_MAX = 20
/** Lengths, offset, timestamp and attributes. */
const RECORD_HEAD_BYTES_MAX = 40

/**
 * What the lines hold. A topic has at least `partitions`; without it, one with other records than
 * events alone has as many as these say.
 */
export async function surveyLines(source: Lines, partitions?: number): Promise<Survey> {
  const counts = new Map<string, number>()
  const largest = new Map<string, number>()
  const problems: LineProblem[] = []
  let problemCount = 0
  for await (const line of parsed(source, () => '')) {
    if (line.ok) {
      const asked = partitions ?? (line.partition === undefined ? inputPartitions : 1)
      const known = counts.get(line.topic) ?? 0
      counts.set(line.topic, Math.max(known, asked, (line.partition ?? 0) + 1))
      largest.set(line.topic, Math.max(largest.get(line.topic) ?? 0, sizeOf(line)))
    } else if (problemCount++ < PROBLEMS_LISTED_MAX) problems.push(line.problem)
  }
  const topics = [...counts].map(([name, count]) => {
    const from = Array.from({ length: count }, () => 0)
    // A batch is finished behind the record with which it reaches a block's size.
    const batchBytesMax = BLOCK_BYTES + HEADER_BYTES + largest.get(name)!
    const isDefault = batchBytesMax <= TOPIC_CONFIG_DEFAULT.batchBytesMax
    const config = topicConfig(isDefault ? {} : { batchBytesMax })
    return { name, id: '', partitions: count, config, from }
  })
  return { topics, problems, problemCount }
}

/** Of a record in a batch, at most. */
function sizeOf({ key, value, headers }: LineRecord): number {
  const pair = (key?.length ?? 0) + (value?.length ?? 0)
  return RECORD_HEAD_BYTES_MAX + pair + headersBytesMax(headers)
}

export interface LinesOptions {
  readonly source: Lines
  readonly file: RecordingFile
  readonly topics: readonly RecordedTopic[]
  readonly createdMs: number
  /** `ce_id` of events that have none. */
  readonly newId: () => string
}

/** Writes the recording; resolves with the number of records. */
export async function recordLines(options: LinesOptions): Promise<number> {
  const { source, file, topics, createdMs, newId } = options
  const header = { version: VERSION, createdMs, source: { kind: 'lines', incarnation: '' }, topics }
  const writer = await RecordingWriter.create(file, header)
  const open = new OpenBatches(topics)
  let records = 0
  for await (const line of parsed(source, newId)) {
    if (!line.ok) continue
    open.add(line)
    records++
    if (open.sizeBytes >= BLOCK_BYTES) {
      open.finishInto(writer)
      await writer.flush()
    }
  }
  open.finishInto(writer)
  await writer.finish()
  return records
}

type ParsedLine = LineRecord | { readonly ok: false; readonly problem: LineProblem }

async function* parsed(source: Lines, newId: () => string): AsyncGenerator<ParsedLine> {
  for await (const lines of ndjsonLines(source, LINE_BYTES_MAX)) {
    for (const line of lines) yield parseLine(line, newId)
  }
}

function parseLine(line: NdjsonLine, newId: () => string): ParsedLine {
  const result =
    'text' in line ? parseRecordLine(line.text, newId) : { ok: false as const, ...line }
  if (result.ok) return result
  const { code, detail } = result
  return { ok: false, problem: { line: line.number, code, detail } }
}

interface OpenBatch {
  readonly topic: number
  readonly partition: number
  readonly builder: RecordBatchBuilder
  /** Offset of its next batch. */
  offset: number
}

class OpenBatches {
  readonly #topics: readonly RecordedTopic[]
  readonly #open = new Map<string, OpenBatch>()
  sizeBytes = 0

  constructor(topics: readonly RecordedTopic[]) {
    this.#topics = topics
  }

  add(record: LineRecord): void {
    const topic = this.#topics.findIndex(({ name }) => name === record.topic)
    const { partitions } = this.#topics[topic]!
    const { key, value, timestamp, headers } = record
    const partition = record.partition ?? partitionOf(key!, 0, key!.length, partitions)
    const id = `${topic}/${partition}`
    let batch = this.#open.get(id)
    if (batch === undefined) {
      batch = { topic, partition, builder: new RecordBatchBuilder(), offset: 0 }
      this.#open.set(id, batch)
    }
    const before = batch.builder.sizeBytes
    batch.builder.append(timestamp, whole(key), whole(value), headers)
    this.sizeBytes += batch.builder.sizeBytes - before
  }

  finishInto(writer: RecordingWriter): void {
    for (const batch of this.#open.values()) {
      const { topic, partition, builder, offset: from } = batch
      if (builder.count === 0) continue
      batch.offset += builder.count
      const bytes = builder.finish({ baseOffset: from })
      const recordsMax = Number.POSITIVE_INFINITY
      writer.add({ topic, partition, from, to: batch.offset, bytes, recordsMax })
    }
    this.sizeBytes = 0
  }
}

function whole(bytes: Buffer | null) {
  return bytes && { bytes, start: 0, end: bytes.length }
}

/**
 * Takes what a log has of some topics into a recording: committed records only, batches as they
 * are, each partition in its order. It ends at a limit, at the end of the log as it was at the
 * beginning, or when it is told to.
 */
import { logError } from '../log/errors.ts'
import type { FetchResponse, LogEnvironment, TopicPartition } from '../log/port.ts'
import { recordingError } from './errors.ts'
import type { RecordedTopic, RecordSource } from './port.ts'
import { endOffsets, type Recording } from './reader.ts'
import { BLOCK_BYTES, RecordingWriter } from './writer.ts'

export type RecordFrom = 'beginning' | 'now' | { readonly timestampMs: number }

export interface RecordOptions {
  readonly source: RecordSource
  readonly writer: RecordingWriter
  readonly environment: Pick<LogEnvironment, 'clock'>
  /** Next offset of each partition of the header's topics, from `nextOffsets`. */
  readonly offsets: readonly PartitionOffset[]
  /** Ends after so many records, exactly. */
  readonly recordsMax?: number
  /** Ends after so long, ms. */
  readonly durationMs?: number
  /** Ends where the log ended when it began. */
  readonly toEnd?: boolean
  /** Ends it; what was taken is kept. */
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: RecordProgress) => void
}

export interface PartitionOffset extends TopicPartition {
  /** Place in the header's list of topics. */
  readonly topicIndex: number
  readonly offset: number
}

export interface RecordProgress {
  /** Taken in this run. */
  readonly records: number
  /** Of the file. */
  readonly sizeBytes: number
}

const FETCH_BYTES = 1 << 20
const FETCH_WAIT_MS = 200
/** What comes slowly is in the file after this at the latest. */
const FLUSH_MS = 1000

/** Describes topics for a new recording. Rejects with TOPIC_MISSING. */
export async function describeTopics(
  source: RecordSource,
  names: readonly string[],
  from: RecordFrom,
): Promise<readonly RecordedTopic[]> {
  return Promise.all(
    names.map(async topic => {
      const found = await source.describeTopic(topic)
      if (found === undefined) throw logError('TOPIC_MISSING', { topic })
      const targets = partitionsOf(topic, found.partitions)
      return { ...found, from: await startOffsets(source, targets, from) }
    }),
  )
}

async function startOffsets(
  source: RecordSource,
  targets: readonly TopicPartition[],
  from: RecordFrom,
): Promise<number[]> {
  if (typeof from === 'object') {
    const find = (target: TopicPartition) => source.offsetForTimestamp(target, from.timestampMs)
    return Promise.all(targets.map(find))
  }
  const ranges = await source.offsets(targets)
  return ranges.map(range => (from === 'now' ? range.endOffset : range.startOffset))
}

function partitionsOf(topic: string, count: number): TopicPartition[] {
  return Array.from({ length: count }, (_, partition) => ({ topic, partition }))
}

/** Where each partition goes on, behind what a recording has already. */
export function nextOffsets({ header, blocks }: Resumable): readonly PartitionOffset[] {
  const ends = endOffsets(blocks)
  return header.topics.flatMap(({ name, partitions, from }, topicIndex) =>
    partitionsOf(name, partitions).map(target => {
      const end = ends.get(`${topicIndex}/${target.partition}`)
      return { ...target, topicIndex, offset: end ?? from[target.partition]! }
    }),
  )
}

export type Resumable = Pick<Recording, 'header' | 'blocks'>

/**
 * A writer that goes on where an interrupted or ended recording stops: what follows its last whole
 * block is cut off, once the log is known to have what comes next. Rejects with RECORDING_DAMAGED
 * where that is more than an interruption leaves, with RECORDING_MISMATCH where the log is not the
 * one that was recorded, and with RECORD_SOURCE_LOST.
 */
export async function resumeWriter(
  recording: Recording,
  source: RecordSource,
): Promise<RecordingWriter> {
  const { file, header, blocks, end, damage } = recording
  const { path } = file
  if (damage !== undefined && !damage.isTorn) {
    throw recordingError('RECORDING_DAMAGED', { path, ...damage })
  }
  const mismatch = (reason: string) => recordingError('RECORDING_MISMATCH', { path, reason })
  if (header.source.incarnation !== source.incarnation) {
    throw mismatch('it is of another log, or of this one before the machine lost its newest part')
  }
  for (const { name, id, partitions } of header.topics) {
    const found = await source.describeTopic(name)
    if (found === undefined) throw mismatch(`topic ${name} is gone`)
    if (found.id !== id) throw mismatch(`topic ${name} was created anew`)
    if (found.partitions !== partitions) {
      throw mismatch(`topic ${name} has ${found.partitions} partitions now, ${partitions} then`)
    }
  }
  await requireOffsets(source, nextOffsets(recording))
  await file.truncate(end)
  return new RecordingWriter(file, header, { blocks, end })
}

async function requireOffsets(
  source: RecordSource,
  offsets: readonly PartitionOffset[],
): Promise<void> {
  for (const [i, { startOffset, endOffset }] of (await source.offsets(offsets)).entries()) {
    const next = offsets[i]!
    if (next.offset < startOffset || next.offset > endOffset) {
      throw sourceLost(next, `the log holds ${startOffset} to ${endOffset}`)
    }
  }
}

function sourceLost({ topic, partition, offset }: PartitionOffset, reason: string) {
  return recordingError('RECORD_SOURCE_LOST', { topic, partition, offset, reason })
}

interface Reading {
  readonly target: PartitionOffset
  offset: number
  /** Where it ends; Infinity while nobody knows. */
  readonly end: number
}

/**
 * Resolves with the records taken. The recording is flushed, also when it rejects, and has no
 * index yet. Rejects with RECORD_SOURCE_LOST, RECORD_SOURCE_CORRUPT, RECORDING_WRITE_FAILED, or as
 * the source does.
 */
export async function record(options: RecordOptions): Promise<number> {
  const { source, writer, offsets, toEnd = false } = options
  const ranges = toEnd ? await source.offsets(offsets) : []
  const readings = offsets.map((target, i): Reading => {
    const end = ranges[i]?.endOffset ?? Number.POSITIVE_INFINITY
    return { target, offset: target.offset, end }
  })
  let records: number
  try {
    records = await takeAll(readings, options)
  } catch (error) {
    // Why it ended counts, not that the disk is full, too.
    await writer.flush().catch(() => {})
    throw error
  }
  await writer.flush()
  return records
}

async function takeAll(readings: readonly Reading[], options: RecordOptions): Promise<number> {
  const { source, writer, environment, signal, onProgress } = options
  const { recordsMax = Number.POSITIVE_INFINITY, durationMs = Number.POSITIVE_INFINITY } = options
  const startMs = environment.clock()
  let flushedMs = startMs
  for (let records = 0; ; ) {
    const leftMs = startMs + durationMs - environment.clock()
    const open = readings.filter(({ offset, end }) => offset < end)
    const isOver = open.length === 0 || records >= recordsMax || leftMs <= 0
    if (isOver || signal?.aborted) return records
    const requests = open.map(({ target: { topic, partition }, offset }) => {
      return { topic, partition, offset, bytesMax: FETCH_BYTES }
    })
    const waitMsMax = Math.min(FETCH_WAIT_MS, leftMs)
    const responses = await source.fetch(requests, { waitMsMax, ...(signal && { signal }) })
    for (const [i, response] of responses.entries()) {
      records += take(writer, open[i]!, response, recordsMax - records)
      if (writer.waitingBytes >= BLOCK_BYTES) await writer.flush()
    }
    const nowMs = environment.clock()
    if (nowMs - flushedMs >= FLUSH_MS) {
      await writer.flush()
      flushedMs = nowMs
    }
    onProgress?.({ records, sizeBytes: writer.sizeBytes })
  }
}

function take(
  writer: RecordingWriter,
  reading: Reading,
  response: FetchResponse,
  recordsMax: number,
): number {
  const { target, offset: from, end } = reading
  const { topic, topicIndex, partition } = target
  const fail = (reason: string) => sourceLost({ ...target, offset: from }, reason)
  if (response.error === 'unknown-topic') throw fail('the topic is gone')
  if (response.error !== undefined) {
    throw fail(`the log holds ${response.startOffset} to ${response.endOffset}`)
  }
  if (response.bytes.length === 0) {
    reading.offset = Math.max(from, response.nextOffset)
    return 0
  }
  // What was fetched beyond the limit is not looked at, and would be fetched again.
  if (recordsMax <= 0) return 0
  try {
    const to = Math.min(response.nextOffset, end)
    const batches = { topic: topicIndex, partition, from, to, bytes: response.bytes }
    const added = writer.add({ ...batches, recordsMax })
    reading.offset = added.to
    return added.records
  } catch (cause) {
    const reason = (cause as Error).message
    throw recordingError(
      'RECORD_SOURCE_CORRUPT',
      { topic, partition, offset: from, reason },
      { cause },
    )
  }
}

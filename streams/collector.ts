/**
 * Reads the source partitions: fetches ahead, hands the tasks a round of records with the
 * partitions of lowest event time first, and decides idleness, which only the reader of a
 * partition may (law 7).
 */
import { MillraceError } from '../log/errors.ts'
import type { EventLog, FetchResponse } from '../log/port.ts'
import { batchEnd, readBatchHeader } from '../log/record-batch.ts'
import { decodeBatches } from '../log/record-columns.ts'
import type { Assembly } from './assembly.ts'
import type { EngineSettings } from './environment.ts'
import { streamsError } from './errors.ts'
import {
  BATCH_RECORDS_MAX,
  type BrokenBatch,
  type RejectedRecord,
  type SourcePartition,
} from './source-partition.ts'

/** With fewer records in a round the next one looks further ahead, with more it looks less far. */
const ROUND_RECORDS_MIN = BATCH_RECORDS_MAX / 4
const ROUND_RECORDS_MAX = BATCH_RECORDS_MAX - 1
const SPAN_MS_MAX = 30 * 24 * 60 * 60 * 1000

export interface CollectorOptions {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly settings: EngineSettings
  readonly clock: () => number
  readonly onReject: (source: SourcePartition, record: RejectedRecord) => void
  readonly onBroken: (source: SourcePartition, batch: BrokenBatch) => void
}

export class Collector {
  readonly #options: CollectorOptions
  readonly #sources: readonly SourcePartition[]
  /** Event time that a round spans: a sparse backlog would else be read a record at a time. */
  #spanMs: number

  constructor(options: CollectorOptions) {
    this.#options = options
    this.#spanMs = options.settings.alignMs
    this.#sources = options.assembly.sources
  }

  get hasRecords(): boolean {
    return this.#sources.some(source => source.hasRecords)
  }

  /** Everything that the log held at the last fetch has been processed. */
  get atEnd(): boolean {
    return this.#sources.every(source => source.atEnd)
  }

  /** One fetch for every partition with room; waits up to `waitMsMax` when there is nothing. */
  async fetch(waitMsMax: number, signal?: AbortSignal): Promise<void> {
    const { log, settings } = this.#options
    const wanting = this.#sources.filter(source => source.bufferedBytes < settings.bufferBytesMax)
    if (wanting.length === 0) return
    const requests = wanting.map(({ topic, partition, fetchOffset }) => ({
      topic,
      partition,
      offset: fetchOffset,
      bytesMax: Math.ceil(settings.bufferBytesMax / 4),
    }))
    const responses = await log.fetch(requests, { waitMsMax, signal })
    responses.forEach((response, i) => {
      this.#accept(wanting[i]!, response)
    })
  }

  #accept(source: SourcePartition, response: FetchResponse): void {
    if (response.error !== undefined) {
      const details = { ...response, offset: source.fetchOffset }
      if (response.error === 'unknown-topic') throw streamsError('SOURCE_MISSING', details)
      throw streamsError('OFFSET_LOST', details)
    }
    source.endOffset = response.endOffset
    if (source.fetchOffset >= response.endOffset) source.confirmedMs = this.#options.clock()
    if (response.bytes.length === 0) return
    try {
      this.#offer(source, response.bytes)
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      this.#salvage(source, response.bytes)
    }
  }

  #offer(source: SourcePartition, bytes: Buffer): void {
    const { runs, nextOffset } = decodeBatches(bytes, { fromOffset: source.fetchOffset })
    runs.forEach((columns, i) => {
      source.offer(columns, runs[i + 1]?.offsets[0] ?? nextOffset)
    })
    if (runs.length === 0 && nextOffset > source.fetchOffset) source.skipTo(nextOffset)
  }

  /**
   * Takes the good batches one by one up to the first corrupt one, and reports that. What
   * follows it is fetched anew: where it ends is only known to the log.
   */
  #salvage(source: SourcePartition, bytes: Buffer): void {
    let position = 0
    while (position < bytes.length) {
      let end = -1
      try {
        end = batchEnd(bytes, position)
        if (end < 0) return
        this.#offer(source, bytes.subarray(position, end))
      } catch (error) {
        const broken = bytes.subarray(position, end < 0 ? bytes.length : end)
        const { message: detail } = error as Error
        const batch = { bytes: broken, offset: source.fetchOffset, detail }
        source.offerBroken(batch, this.#after(source, bytes, position))
        return
      }
      position = end
    }
  }

  /**
   * The offset to go on at: where the whole batch behind the broken one begins, else what the
   * broken one's header says if it agrees with itself, else the next: its checksum is wrong, so
   * one field alone is not to be believed, and good records would be skipped.
   */
  #after(source: SourcePartition, bytes: Buffer, position: number): number {
    const { fetchOffset, endOffset } = source
    const isAhead = (offset: number) => offset > fetchOffset && offset <= endOffset
    try {
      const end = batchEnd(bytes, position)
      const next = end < 0 ? -1 : batchEnd(bytes, end)
      if (next > 0) {
        const { baseOffset } = readBatchHeader(bytes, end, next, true)
        if (isAhead(baseOffset)) return baseOffset
      }
    } catch {
      // Not framed: the header may be whole nevertheless.
    }
    try {
      const broken = readBatchHeader(bytes, position, bytes.length, false)
      const { baseOffset, recordCount, nextOffset } = broken
      const agrees = baseOffset <= fetchOffset && baseOffset + recordCount === nextOffset
      if (agrees && isAhead(nextOffset)) return nextOffset
    } catch {
      // The header is broken too: try offset by offset.
    }
    return fetchOffset + 1
  }

  /** Hands one round of records to the tasks. False when nothing was buffered. */
  collect(): boolean {
    const { settings, clock, assembly } = this.#options
    let earliest = Number.POSITIVE_INFINITY
    for (const source of this.#sources) {
      const next = source.nextTimeMs()
      if (next > Number.NEGATIVE_INFINITY) earliest = Math.min(earliest, next)
    }
    if (!this.hasRecords) return false
    const untilMs = earliest + this.#spanMs
    const latestMs = clock() + settings.futureMsMax
    let records = 0
    for (const source of this.#sources) {
      if (source.nextTimeMs() > untilMs) continue
      const batch = source.take({
        untilMs,
        latestMs,
        reject: record => this.#options.onReject(source, record),
        rejectBatch: broken => this.#options.onBroken(source, broken),
      })
      if (batch === undefined) continue
      records += batch.length
      source.idle = false
      source.atEndSinceMs = undefined
      const runtime = assembly.sourceTask(source).runtime(source.node.id)
      runtime.receive(batch, 0)
      runtime.watermark.set(0, { timeMs: source.streamTimeMs, idle: false })
    }
    this.#adaptSpan(records)
    return true
  }

  /** The span is a matter of speed and open state only: no result depends on it. */
  #adaptSpan(records: number): void {
    if (records > ROUND_RECORDS_MAX) this.#spanMs /= 4
    else if (records < ROUND_RECORDS_MIN && this.hasRecords) this.#spanMs *= 2
    const { alignMs } = this.#options.settings
    this.#spanMs = Math.max(Math.min(this.#spanMs, SPAN_MS_MAX), alignMs)
  }

  /**
   * Marks partitions as idle whose log has had nothing more for long enough: said by the log,
   * not concluded from its silence. True when one changed.
   */
  updateIdleness(): boolean {
    const { settings, clock, assembly } = this.#options
    const now = clock()
    let changed = false
    for (const source of this.#sources) {
      if (source.idle) continue
      if (!source.atEnd) {
        source.atEndSinceMs = undefined
        continue
      }
      source.atEndSinceMs ??= now
      if (source.confirmedMs - source.atEndSinceMs < settings.idleAfterMs) continue
      source.idle = true
      changed = true
      const runtime = assembly.sourceTask(source).runtime(source.node.id)
      runtime.watermark.set(0, { timeMs: source.streamTimeMs, idle: true })
    }
    return changed
  }
}

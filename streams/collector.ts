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
import { BATCH_RECORDS_MAX, type InputPartition } from './input-partition.ts'

/** With fewer records in a round the next one looks further ahead, with more it looks less far. */
const ROUND_RECORDS_MIN = BATCH_RECORDS_MAX / 4
const ROUND_RECORDS_MAX = BATCH_RECORDS_MAX - 1
const SPAN_MS_MAX = 30 * 24 * 60 * 60 * 1000

export interface CollectorOptions {
  readonly assembly: Assembly
  readonly log: EventLog
  readonly settings: EngineSettings
  readonly clock: () => number
}

export class Collector {
  readonly #options: CollectorOptions
  /** Event time that a round of a branch spans: of a sparse backlog it would else be a record. */
  readonly #spansMs = new Map<number, number>()

  constructor(options: CollectorOptions) {
    this.#options = options
  }

  get #inputs(): readonly InputPartition[] {
    return this.#options.assembly.inputs
  }

  get hasRecords(): boolean {
    return this.#inputs.some(input => input.hasRecords)
  }

  /** A record can be taken now. */
  get hasReady(): boolean {
    return this.#inputs.some(input => input.hasRecords && input.heldMs === 0)
  }

  /**
   * Offsets have been passed that hold no record, such as a marker that came after its records:
   * without an epoch nobody who waits for them would know.
   */
  get hasSkipped(): boolean {
    const { sources } = this.#options.assembly
    return sources.some(({ position, coveredOffset }) => position !== coveredOffset)
  }

  /** Until the first of the records that wait to be tried again may be taken, ms. */
  get heldMs(): number {
    const waits = this.#inputs.map(input => input.heldMs).filter(heldMs => heldMs > 0)
    return waits.length === 0 ? 0 : Math.min(...waits)
  }

  /** Everything that the log held at the last fetch has been processed. */
  get atEnd(): boolean {
    return this.#inputs.every(input => input.atEnd)
  }

  /** A fetch would ask for something. */
  get hasRoom(): boolean {
    return this.#wanting.length > 0
  }

  get #wanting(): readonly InputPartition[] {
    const { bufferBytesMax } = this.#options.settings
    return this.#inputs.filter(input => input.bufferedBytes < bufferBytesMax)
  }

  /** One fetch for every partition with room; waits up to `waitMsMax` when there is nothing. */
  async fetch(waitMsMax: number, signal?: AbortSignal): Promise<void> {
    const { log, settings } = this.#options
    const wanting = this.#wanting
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

  #accept(source: InputPartition, response: FetchResponse): void {
    if (response.error !== undefined) {
      const details = { ...response, offset: source.fetchOffset }
      if (response.error === 'unknown-topic') throw streamsError('SOURCE_DELETED', details)
      if (source.beginAgain(response.startOffset)) return
      throw source.lost(details)
    }
    if (response.pending) return
    source.endOffset = response.endOffset
    if (source.fetchOffset >= response.endOffset) source.confirmedMs = this.#options.clock()
    try {
      if (response.bytes.length > 0) this.#offer(source, response.bytes)
      if (response.nextOffset > source.fetchOffset) source.skipTo(response.nextOffset)
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      this.#salvage(source, response.bytes)
    }
  }

  #offer(source: InputPartition, bytes: Buffer): void {
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
  #salvage(source: InputPartition, bytes: Buffer): void {
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
        const batch = { bytes: broken, offset: source.fetchOffset, detail, error }
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
  #after(source: InputPartition, bytes: Buffer, position: number): number {
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

  /**
   * Hands one round of records to the tasks. False when nothing was buffered. Branches do not wait
   * for each other's event time: one that is being built is far behind.
   */
  collect(inputs: readonly InputPartition[] = this.#inputs): boolean {
    let collected = false
    // One that waits for a record to be tried again holds up no other.
    const ready = inputs.filter(input => input.heldMs === 0)
    for (const branch of new Set(ready.map(input => input.branch))) {
      const its = ready.filter(input => input.branch === branch)
      collected = this.#collectBranch(branch, its) || collected
    }
    return collected
  }

  #collectBranch(branch: number, inputs: readonly InputPartition[]): boolean {
    const { settings, clock } = this.#options
    const spanMs = this.#spansMs.get(branch) ?? settings.alignMs
    let earliest = Number.POSITIVE_INFINITY
    let waiting = false
    for (const input of inputs) {
      const next = input.nextTimeMs()
      if (next > Number.NEGATIVE_INFINITY) earliest = Math.min(earliest, next)
      waiting ||= input.hasRecords
    }
    if (!waiting) return false
    const untilMs = earliest + spanMs
    const latestMs = clock() + settings.futureMsMax
    let records = 0
    for (const input of inputs) {
      if (input.nextTimeMs() > untilMs) continue
      const batch = input.take({ untilMs, latestMs })
      if (batch === undefined) continue
      records += batch.length
      input.deliver(batch)
    }
    const hasMore = inputs.some(input => input.hasRecords)
    this.#spansMs.set(branch, adaptedSpan(spanMs, { records, hasMore, leastMs: settings.alignMs }))
    return true
  }

  /**
   * Marks partitions as idle whose log has had nothing more for long enough: said by the log,
   * not concluded from its silence. True when one changed.
   */
  updateIdleness(): boolean {
    const { settings, clock, assembly } = this.#options
    const now = clock()
    let changed = false
    for (const source of assembly.sources) {
      if (source.idle) continue
      if (!source.atEnd) {
        source.atEndSinceMs = undefined
        continue
      }
      source.atEndSinceMs ??= now
      if (source.confirmedMs - source.atEndSinceMs < settings.idleAfterMs) continue
      source.becomeIdle()
      changed = true
    }
    return changed
  }
}

/** The span is a matter of speed and open state only: no result depends on it. */
function adaptedSpan(
  spanMs: number,
  { records, hasMore, leastMs }: { records: number; hasMore: boolean; leastMs: number },
): number {
  let next = spanMs
  if (records > ROUND_RECORDS_MAX) next /= 4
  else if (records < ROUND_RECORDS_MIN && hasMore) next *= 2
  return Math.max(Math.min(next, SPAN_MS_MAX), leastMs)
}

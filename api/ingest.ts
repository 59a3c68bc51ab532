/**
 * NDJSON lines → validated records → the log, with bounded memory: lines are checked as they
 * arrive and appended in batches, each before the next is read. An atomic request is held
 * whole (it is bounded too) and appended at once, or not at all.
 */
import type { EventRecord } from '../contracts/event-record.ts'
import { type NdjsonLine, ndjsonLines } from '../contracts/ndjson.ts'
import { type LineContext, validateEventLine } from '../contracts/validation.ts'
import { apiError } from './errors.ts'
import type { Limits } from './limits.ts'

/**
 * Appends all or nothing; resolves with a position that covers everything acknowledged. Events
 * without a `traceparent` of their own follow from the one given.
 */
export type AppendEvents = (
  records: readonly EventRecord[],
  traceparent: string | undefined,
) => Promise<string>

export interface IngestPorts {
  readonly append: AppendEvents
  /** The position now, for a request that appended nothing. */
  readonly position: () => string
  /** Epoch ms. */
  readonly clock: () => number
  /** `ce_id` of events that come without: never the same twice, also after a restart. */
  readonly ids: () => string
  /** `ce_source` of events that come without. */
  readonly source: string
  readonly limits: Limits
}

export interface RejectedLine {
  readonly line: number
  readonly code: string
  readonly detail: string
}

export interface IngestResult {
  readonly accepted: number
  /** The first lines that were refused; `rejectedCount` counts all. */
  readonly rejected: readonly RejectedLine[]
  readonly rejectedCount: number
  readonly position: string
}

export interface IngestOptions {
  readonly atomic: boolean
  /** What the events follow from. */
  readonly traceparent?: string | undefined
}

export type Ingest = (
  source: AsyncIterable<Buffer>,
  options: IngestOptions,
) => Promise<IngestResult>

export function createIngest(ports: IngestPorts): Ingest {
  return async (source, options) => {
    const { atomic } = options
    const run = new IngestRun(ports, options)
    try {
      for await (const lines of ndjsonLines(source)) {
        run.nowMs = ports.clock()
        for (const line of lines) {
          run.take(line)
          if (run.full) await run.flush()
        }
      }
    } catch (error) {
      throw run.accepted > 0 ? run.cutOff(error) : error
    }
    if (!atomic || run.rejectedCount === 0) await run.flush()
    return run.result()
  }
}

class IngestRun implements LineContext {
  nowMs = 0
  accepted = 0
  rejectedCount = 0
  readonly newId: () => string
  readonly source: string
  private readonly rejected: RejectedLine[] = []
  private pending: EventRecord[] = []
  private pendingBytes = 0
  private position: string | undefined
  private readonly ports: IngestPorts
  private readonly atomic: boolean
  private readonly traceparent: string | undefined

  constructor(ports: IngestPorts, { atomic, traceparent }: IngestOptions) {
    this.ports = ports
    this.atomic = atomic
    this.traceparent = traceparent
    this.newId = ports.ids
    this.source = ports.source
  }

  take(line: NdjsonLine): void {
    if ('code' in line) {
      this.reject({ line: line.number, code: line.code, detail: line.detail })
      return
    }
    const verdict = validateEventLine(line.text, this)
    if (!verdict.ok) {
      this.reject({ line: line.number, code: verdict.code, detail: verdict.detail })
      return
    }
    // Nothing of an atomic request that has a bad line will be appended.
    if (this.atomic && this.rejectedCount > 0) return
    this.pending.push(verdict.record)
    this.pendingBytes += line.text.length
  }

  private reject(line: RejectedLine): void {
    this.rejectedCount++
    if (this.rejected.length < this.ports.limits.rejectedListMax) this.rejected.push(line)
    if (!this.atomic) return
    this.pending = []
    this.pendingBytes = 0
  }

  get full(): boolean {
    const { appendRecordsMax, appendBytesMax } = this.ports.limits
    if (this.atomic) return false
    return this.pending.length >= appendRecordsMax || this.pendingBytes >= appendBytesMax
  }

  async flush(): Promise<void> {
    if (this.pending.length === 0) return
    const records = this.pending
    this.pending = []
    this.pendingBytes = 0
    try {
      this.position = await this.ports.append(records, this.traceparent)
    } catch (error) {
      throw this.accepted > 0 ? this.cutOff(error) : error
    }
    this.accepted += records.length
  }

  /** Some lines are in the log already: the answer has to say how many. */
  cutOff(cause: unknown): Error {
    const { code } = cause as { code?: unknown }
    if (code === 'EVENTS_CUT_OFF') return cause as Error
    const details = {
      accepted: this.accepted,
      rejected: this.rejected,
      position: this.position,
      rejectedCount: this.rejectedCount,
    }
    if (code === 'BODY_TOO_LARGE') {
      const bytesMax = this.ports.limits.requestBytesMax
      return apiError('BODY_TOO_LARGE', { ...details, bytesMax }, { cause })
    }
    return apiError('EVENTS_CUT_OFF', details, { cause })
  }

  result(): IngestResult {
    return {
      accepted: this.accepted,
      rejected: this.rejected,
      rejectedCount: this.rejectedCount,
      position: this.position ?? this.ports.position(),
    }
  }
}

/** Passes the chunks on until there are more bytes than a request may have. */
export async function* boundedBody(
  source: AsyncIterable<Buffer>,
  bytesMax: number,
): AsyncIterable<Buffer> {
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    if (bytes > bytesMax) throw apiError('BODY_TOO_LARGE', { bytesMax })
    yield chunk
  }
}

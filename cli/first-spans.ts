/**
 * Spans that begin a trace, or follow from a request: where records and requests come in. Whether a
 * new trace is sampled is decided here, once, by its id; all that follows goes by the flag.
 */
import {
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import type { RequestSpan, RequestTracing, TracedRequest } from '../api/index.ts'
import type { EventRecord } from '../contracts/event-record.ts'
import { messageAttributes, type Tracing } from '../streams/spans.ts'
import { sampledContext, traceparentHeader, traceparentOf } from '../streams/trace-context.ts'

/** Random bytes are asked for so many at a time: a call costs more than a span. */
const POOL_BYTES = 4096
const WORD_VALUES = 2 ** 32

/**
 * Ids of traces. Their last 56 bits are random, and a share of them is sampled: those with the
 * largest, as OpenTelemetry's consistent sampling has it. A trace that is not sampled costs a
 * comparison.
 */
export class TraceIds {
  readonly #randomBytes: (size: number) => Buffer
  /** Of the first 32 of those bits: below it a trace is not sampled. */
  readonly #threshold: number
  #pool: Buffer = Buffer.alloc(0)
  #next = 0
  #chosen: string | undefined

  constructor(share: number, randomBytes: (size: number) => Buffer) {
    this.#threshold = (1 - share) * WORD_VALUES
    this.#randomBytes = randomBytes
  }

  /** The id of a new trace, if it is sampled. */
  draw(): string | undefined {
    const start = this.#take(4)
    const word = this.#pool.readUInt32BE(start)
    if (word < this.#threshold) return undefined
    const others = this.#hex(12)
    return others.slice(0, 18) + word.toString(16).padStart(8, '0') + others.slice(18)
  }

  /** The next trace that the tracer begins has this id. */
  choose(traceId: string): void {
    this.#chosen = traceId
  }

  generateTraceId(): string {
    const traceId = this.#chosen ?? this.#hex(16)
    this.#chosen = undefined
    return traceId
  }

  generateSpanId(): string {
    return this.#hex(8)
  }

  /** Where so many fresh bytes begin in the pool. */
  #take(size: number): number {
    if (this.#next + size > this.#pool.length) {
      this.#pool = this.#randomBytes(POOL_BYTES)
      this.#next = 0
    }
    this.#next += size
    return this.#next - size
  }

  #hex(size: number): string {
    const start = this.#take(size)
    return this.#pool.toString('hex', start, start + size)
  }
}

export interface FirstSpansOptions extends Tracing {
  readonly tracer: Tracer
  readonly ids: TraceIds
}

export class FirstSpans implements RequestTracing {
  readonly #options: FirstSpansOptions

  constructor(options: FirstSpansOptions) {
    this.#options = options
  }

  /** A span that follows from `cause`, or where there is none begins a trace; if it is sampled. */
  #begin(name: string, kind: SpanKind, cause: string | undefined): Span | undefined {
    const { tracer, clock, limit, ids } = this.#options
    const parent = cause === undefined ? undefined : sampledContext(cause)
    const traceId = cause === undefined ? ids.draw() : parent?.traceId
    if (traceId === undefined || !limit.admits(traceId)) return undefined
    limit.count()
    if (parent === undefined) ids.choose(traceId)
    const context = parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT
    return tracer.startSpan(name, { kind, startTime: clock() }, context)
  }

  /** A request; see `RequestTracing`. */
  begin({ method, route, path, traceparent }: TracedRequest): RequestSpan | undefined {
    const span = this.#begin(
      route === undefined ? method : `${method} ${route}`,
      SpanKind.SERVER,
      traceparent,
    )
    if (span === undefined) return undefined
    span.setAttributes({
      'http.request.method': method,
      'url.scheme': 'http',
      'url.path': path,
      ...(route !== undefined && { 'http.route': route }),
    })
    return {
      traceparent: traceparentOf(span.spanContext()),
      isAsked: traceparent !== undefined,
      end: status => {
        span.setAttribute('http.response.status_code', status)
        if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
        span.end(this.#options.clock())
      },
    }
  }

  /** Records that are about to be appended: those that are sampled get a `traceparent`. */
  accept<R extends AcceptedRecord>(records: readonly R[], cause: string | undefined) {
    const spans: Span[] = []
    const traced = records.map(record => {
      if (isTraced(record)) return record
      const span = this.#begin(`send ${record.topic}`, SpanKind.PRODUCER, cause)
      if (span === undefined) return withTrace(record, cause)
      span.setAttributes(attributesOf(record))
      spans.push(span)
      return withTrace(record, traceparentOf(span.spanContext()))
    })
    return {
      records: traced,
      /** They are in the log. */
      appended: () => {
        const nowMs = this.#options.clock()
        for (const span of spans) span.end(nowMs)
      },
    }
  }
}

type AcceptedRecord = Omit<EventRecord, 'topic'> & { readonly topic: string }

/**
 * Records, what they follow from and who makes spans of them, if anybody does: without one they go
 * on in the trace that they came with.
 */
export function acceptRecords<R extends AcceptedRecord>(
  records: readonly R[],
  cause: string | undefined,
  first: FirstSpans | undefined,
): { readonly records: readonly R[]; appended(): void } {
  if (cause !== undefined && sampledContext(cause) === undefined) return { records, appended }
  if (first !== undefined) return first.accept(records, cause)
  if (cause === undefined) return { records, appended }
  const traced = records.map(record => (isTraced(record) ? record : withTrace(record, cause)))
  return { records: traced, appended }
}

function appended(): void {}

const isTraced = ({ headers }: AcceptedRecord) =>
  headers.some(([name]) => name === traceparentHeader)

function withTrace<R extends AcceptedRecord>(record: R, traceparent: string | undefined): R {
  if (traceparent === undefined) return record
  const header = [traceparentHeader, Buffer.from(traceparent)] as const
  return { ...record, headers: [...record.headers, header] }
}

function attributesOf({ topic, headers }: AcceptedRecord) {
  const id = headers.find(([name]) => name === 'ce_id')?.[1].toString()
  return messageAttributes('send', topic, id)
}

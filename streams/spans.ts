/**
 * The spans of the epoch that is being made, of sampled records only: one where a record is read
 * by a task, one a step with state, one a record that is written. They end when their epoch is
 * committed, and are dropped with an epoch that fails, so that nothing follows from a span that
 * was never told of but what a killed process had not sent yet.
 *
 *     send orders ─▶ process orders ─▶ order-totals ─▶ send totals ─▶ …
 *      elsewhere      read              step            written
 */
import {
  type Attributes,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { header } from '../log/record-headers.ts'
import type { Batch } from './batch.ts'
import type { SideReason } from './operator.ts'
import { contextOf, sampledContext, traceparentOf } from './trace-context.ts'
import type { TraceLimit } from './trace-limit.ts'

/** What an engine traces with. */
export interface Tracing {
  readonly tracer: Tracer
  /** Epoch ms, with fractions. */
  readonly clock: () => number
  readonly limit: TraceLimit
}

export interface SpansOptions extends Tracing {
  readonly application: string
}

/** Where a batch was read. */
export interface Reading {
  readonly topic: string
  readonly partition: number
  /** Records of the partition that have not been read yet. */
  readonly lag: number
}

/** A record to be written. */
export interface Writing {
  readonly topic: string
  readonly partition: number
  readonly id: string | undefined
}

export type Traces = Map<number, Span>

interface Begun {
  readonly name: string
  readonly kind: SpanKind
  readonly parent: SpanContext
  readonly startMs: number
  readonly attributes: Attributes
}

interface Made {
  readonly span: Span
  /** Absent: when the epoch is committed. */
  readonly endMs?: number
}

const CE_ID = Buffer.from('ce_id')

export class Spans {
  readonly #options: SpansOptions
  #made: Made[] = []

  constructor(options: SpansOptions) {
    this.#options = options
  }

  get nowMs(): number {
    return this.#options.clock()
  }

  #begin({ name, kind, parent, startMs, attributes }: Begun): Span {
    const { tracer, limit } = this.#options
    limit.count()
    const context = trace.setSpanContext(ROOT_CONTEXT, parent)
    return tracer.startSpan(name, { kind, startTime: startMs, attributes }, context)
  }

  /** Finds the records to be followed in a batch that was just read, and begins their spans. */
  read(batch: Batch, reading: Reading): void {
    const { columns, rows } = batch
    if (columns === undefined) return
    for (let i = 0; i < rows.length; i++) {
      if (columns.headersStart[rows[i]!]! < 0) continue
      const parent = contextOf(columns, rows[i]!, this.#options.limit)
      if (parent === undefined) continue
      batch.traces ??= new Map()
      batch.traces.set(i, this.#readOne(batch, i, { ...reading, parent }))
    }
  }

  #readOne(batch: Batch, i: number, reading: Reading & { parent: SpanContext }): Span {
    const { topic, partition, lag, parent } = reading
    const columns = batch.columns!
    const row = batch.rows[i]!
    const startMs = this.nowMs
    const id = header(columns, row, CE_ID)?.toString()
    const span = this.#begin({
      name: `process ${topic}`,
      kind: SpanKind.CONSUMER,
      parent,
      startMs,
      attributes: {
        ...messageAttributes('process', topic, id),
        'messaging.destination.partition.id': String(partition),
        'messaging.consumer.group.name': this.#options.application,
        'messaging.kafka.offset': columns.offsets[row]!,
        'millrace.lag_records': lag,
        'millrace.wait_ms': Math.round(Math.max(startMs - columns.timestamps[row]!, 0)),
      },
    })
    this.#made.push({ span })
    return span
  }

  /** Begins the spans of a step, for those of a batch that have one. */
  step(name: string, partition: number, traces: Traces): StepSpans {
    const startMs = this.nowMs
    const spans: Traces = new Map()
    for (const [i, before] of traces) {
      const attributes = { 'millrace.step': name, 'millrace.partition': partition }
      const parent = before.spanContext()
      const begun = { name, kind: SpanKind.INTERNAL, parent, startMs, attributes }
      spans.set(i, this.#begin(begun))
    }
    const end = () => {
      const endMs = this.nowMs
      for (const span of spans.values()) this.#made.push({ span, endMs })
    }
    return { spans, end }
  }

  /**
   * Begins the span of a record to be written, and gives its traceparent. The span follows from the
   * record that it was made of, unless its own headers name another trace; undefined where neither
   * is traced.
   */
  write(before: Span | undefined, own: string | undefined, writing: Writing): string | undefined {
    const made = before?.spanContext()
    const named = own === undefined ? undefined : sampledContext(own)
    const parent = named === undefined || named.traceId === made?.traceId ? made : named
    if (parent === undefined) return undefined
    if (!this.#options.limit.admits(parent.traceId)) return traceparentOf(parent)
    const { topic, partition, id } = writing
    const span = this.#begin({
      name: `send ${topic}`,
      kind: SpanKind.PRODUCER,
      parent,
      startMs: this.nowMs,
      attributes: {
        ...messageAttributes('send', topic, id),
        'messaging.destination.partition.id': String(partition),
      },
    })
    this.#made.push({ span })
    return traceparentOf(span.spanContext())
  }

  /** To be called once the epoch being sealed is committed. */
  seal(): () => void {
    const made = this.#made
    this.#made = []
    return () => {
      const committedMs = this.nowMs
      for (const { span, endMs = committedMs } of made) span.end(endMs)
    }
  }
}

export interface StepSpans {
  readonly spans: Traces
  end(): void
}

/** A record left the flow here; a late one, and a copy, is nobody's error. */
export function markDropped(span: Span | undefined, reason: SideReason, detail: string): void {
  span?.setAttribute('millrace.dropped', reason)
  if (reason === 'late' || reason === 'duplicate') return
  span?.setStatus({ code: SpanStatusCode.ERROR, message: detail === '' ? reason : detail })
}

/** What OpenTelemetry calls things of a record that is read or written. */
export function messageAttributes(
  operation: 'process' | 'send',
  topic: string,
  id: string | undefined,
): Attributes {
  return {
    'messaging.system': 'millrace',
    'messaging.operation.type': operation,
    'messaging.operation.name': operation,
    'messaging.destination.name': topic,
    ...(id && { 'messaging.message.id': id }),
  }
}

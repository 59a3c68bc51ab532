/** Spans that are kept in memory, and shown as the tree that they make. */
import type { HrTime, SpanContext, SpanKind } from '@opentelemetry/api'
import { AlwaysOnSampler, type ReadableSpan, TracerProvider } from '@opentelemetry/sdk-trace'
import type { Tracing } from '../../streams/spans.ts'
import { TraceLimit } from '../../streams/trace-limit.ts'

/** What a receiver of spans sees of one. */
export interface SeenSpan {
  readonly name: string
  readonly kind: SpanKind
  readonly context: SpanContext
  /** Id of the span before it; absent of the first. */
  readonly parent?: string
  readonly links: readonly SpanContext[]
  readonly startMs: number
  readonly endMs: number
  readonly attributes: Readonly<Record<string, unknown>>
  readonly status: string | undefined
}

export interface KeptSpans {
  readonly tracing: Tracing
  /** In the order of their ends. */
  readonly ended: SeenSpan[]
}

export interface KeptSpansOptions {
  readonly clock: () => number
  readonly spansPerSecondMax?: number
  /** Tells the span ids of several tracers apart. */
  readonly first?: number
  readonly ended?: SeenSpan[]
}

const ms = ([seconds, nanos]: HrTime) => seconds * 1000 + nanos / 1e6

function seen(span: ReadableSpan): SeenSpan {
  const { name, kind, parentSpanContext, links, startTime, endTime, attributes, status } = span
  return {
    name,
    kind,
    context: span.spanContext(),
    ...(parentSpanContext && { parent: parentSpanContext.spanId }),
    links: links.map(({ context }) => context),
    startMs: ms(startTime),
    endMs: ms(endTime),
    attributes,
    status: status.message,
  }
}

export function keptSpans(options: KeptSpansOptions): KeptSpans {
  const { clock, spansPerSecondMax = 1e9, first = 1, ended = [] } = options
  let id = first
  const provider = new TracerProvider({
    sampler: new AlwaysOnSampler(),
    idGenerator: {
      generateTraceId: () => (id++).toString(16).padStart(32, '0'),
      generateSpanId: () => (id++).toString(16).padStart(16, '0'),
    },
    spanProcessors: [
      {
        onStart() {},
        onEnd: span => ended.push(seen(span)),
        forceFlush: async () => {},
        shutdown: async () => {},
      },
    ],
  })
  const limit = new TraceLimit({ spansPerSecondMax, clock })
  return { tracing: { tracer: provider.getTracer('test'), clock, limit }, ended }
}

/** Spans by what they follow from, indented; behind `~` the names of those they are linked to. */
export function storyOf(spans: readonly SeenSpan[], trace?: string): string {
  const inTrace = spans.filter(({ context }) => trace === undefined || context.traceId === trace)
  const byId = new Map(spans.map(span => [span.context.spanId, span]))
  const lines: string[] = []
  const tell = (span: SeenSpan, depth: number) => {
    const links = span.links.map(({ spanId }) => byId.get(spanId)?.name ?? 'unknown')
    const about = links.length === 0 ? '' : ` ~ ${links.sort().join(', ')}`
    lines.push(`${'  '.repeat(depth)}${span.name}${about}`)
    const next = inTrace.filter(({ parent }) => parent === span.context.spanId)
    for (const one of next.sort(inOrder)) tell(one, depth + 1)
  }
  const firsts = inTrace.filter(({ parent }) => parent === undefined || !byId.has(parent))
  for (const span of firsts.sort(inOrder)) tell(span, 0)
  return lines.join('\n')
}

const inOrder = (a: SeenSpan, b: SeenSpan) => a.startMs - b.startMs || a.name.localeCompare(b.name)

/** Spans whose parent is not among them, but for those that follow from `root`. */
export function orphans(spans: readonly SeenSpan[], root: string): SeenSpan[] {
  const known = new Set([root, ...spans.map(({ context }) => context.spanId)])
  return spans.filter(({ parent }) => parent === undefined || !known.has(parent))
}

/**
 * Spans of requests, and what goes on with them: whoever traces is given (`ServerOptions.tracing`).
 * A request that brings a `traceparent` decides itself whether it is traced; of others a share is.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'

export interface TracedRequest {
  readonly method: string
  /** As it was registered, `/v1/orders/:id`; undefined where there is none. */
  readonly route: string | undefined
  readonly path: string
  /** What the client sent. */
  readonly traceparent: string | undefined
}

export interface RequestSpan {
  /** For what follows from the request. */
  readonly traceparent: string
  /** The client has asked for it. */
  readonly isAsked: boolean
  /** To be called once. */
  end(status: number): void
}

export interface RequestTracing {
  /** Undefined where the request is not traced. */
  begin(request: TracedRequest): RequestSpan | undefined
}

declare module 'fastify' {
  interface FastifyRequest {
    span: RequestSpan | null
  }
}

/** Requests of the API alone: what asks whether the service is well is not looked at. */
export function registerTracing(app: FastifyInstance, tracing: RequestTracing | undefined): void {
  app.decorateRequest('span', null)
  if (tracing === undefined) return
  app.addHook('onRequest', async (request, reply) => {
    const path = (request.raw.url ?? '').split('?')[0]!
    if (!path.startsWith('/v1/')) return
    const { method, routeOptions } = request
    const traceparent = traceparentOf(request)
    const span = tracing.begin({ method, route: routeOptions.url, path, traceparent })
    if (span === undefined) return
    request.span = span
    // Also when the client leaves before its answer.
    reply.raw.once('close', () => span.end(reply.raw.statusCode))
  })
}

/** What has the form of one; whether it is sampled is for whoever reads it. */
function traceparentOf({ headers }: FastifyRequest): string | undefined {
  const { traceparent } = headers
  const fits = typeof traceparent === 'string' && /^[\da-f]{2}(-[\da-f]+){3}$/.test(traceparent)
  return fits ? traceparent : undefined
}

/** What a command follows from. */
export function traceOfCommand(request: FastifyRequest): string | undefined {
  return request.span?.traceparent ?? traceparentOf(request)
}

/** The same of the many events of one request: each decides for itself unless the client has. */
export function traceOfEvents(request: FastifyRequest): string | undefined {
  const { span } = request
  if (span !== null) return span.isAsked ? span.traceparent : undefined
  return traceOfCommand(request)
}

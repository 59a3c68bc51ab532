/** `POST /v1/events`: a stream of NDJSON lines into the log. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { positionHeader, type ServerContext, sendJson } from './context.ts'
import { apiError } from './errors.ts'
import { boundedBody, type Ingest, type IngestResult } from './ingest.ts'
import { booleanOf, parseSearch, refuseUnknown } from './parameters.ts'
import { searchOf, writeRoute } from './routes.ts'
import { traceOfEvents } from './tracing.ts'

const mediaType = 'application/x-ndjson'

export function registerEventRoutes(
  app: FastifyInstance,
  context: ServerContext,
  ingest: Ingest,
): void {
  let atomicRequests = 0
  app.removeAllContentTypeParsers()
  // The body stays a stream; the handler reads it at its own pace.
  app.addContentTypeParser(mediaType, (_request, payload, done) => done(null, payload))

  writeRoute(app, '/v1/events', async (request, reply) => {
    const atomic = atomicOf(request)
    const source = bodyOf(request, reply, context.limits.requestBytesMax)
    if (atomic && atomicRequests >= context.limits.atomicRequestsMax) {
      throw apiError('OVERLOADED', { what: 'atomic requests' })
    }
    atomicRequests += atomic ? 1 : 0
    try {
      const options = { atomic, traceparent: traceOfEvents(request) }
      const body = boundedBody(source, context.limits.requestBytesMax)
      const result = await ingest(body, options)
      return answer(reply, result, atomic)
    } catch (error) {
      // What is left of the body is not read, so this connection cannot go on.
      if (!source.readableEnded) reply.header('connection', 'close')
      throw error
    } finally {
      atomicRequests -= atomic ? 1 : 0
    }
  })
}

function atomicOf(request: FastifyRequest): boolean {
  const parameters = parseSearch(searchOf(request))
  refuseUnknown(parameters, ['atomic'])
  return booleanOf(parameters, 'atomic')
}

type Body = AsyncIterable<Buffer> & { readonly readableEnded: boolean }

function bodyOf(request: FastifyRequest, reply: FastifyReply, bytesMax: number): Body {
  const body = request.body as Body | undefined
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (body === undefined || encoding !== 'identity') {
    reply.header('connection', 'close')
    throw apiError('MEDIA_TYPE_REFUSED', { expected: `${mediaType}, not compressed` })
  }
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) {
    reply.header('connection', 'close')
    throw apiError('BODY_TOO_LARGE', { bytesMax })
  }
  return body
}

function answer(reply: FastifyReply, result: IngestResult, atomic: boolean): FastifyReply {
  const { accepted, rejected, rejectedCount, position } = result
  if (accepted > 0) {
    const count = rejectedCount > rejected.length ? { rejectedCount } : {}
    return sendJson(reply, { accepted, rejected, position, ...count }, position)
  }
  reply.header(positionHeader, position)
  const reason =
    rejectedCount === 0
      ? 'the body has no line'
      : atomic
        ? `${rejectedCount} are bad and the request is atomic`
        : `all ${rejectedCount} are bad`
  throw apiError('EVENTS_REJECTED', { reason, accepted, rejected, rejectedCount, position })
}

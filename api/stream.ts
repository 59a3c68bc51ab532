/** `GET /v1/stream/{view}`: the live feed of one view as server-sent events. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import { assert } from '../streams/errors.ts'
import { secretOf } from './auth.ts'
import { positionHeader, type ServerContext, viewNamed } from './context.ts'
import { apiError } from './errors.ts'
import type { Feeds } from './feed.ts'
import { filterNames, parseSearch, refuseUnknown, scopeOf, waitMsOf } from './parameters.ts'
import { readOne } from './reading.ts'
import { type Handler, readRoute, searchOf } from './routes.ts'
import { watchSession } from './session.ts'
import { StreamSink } from './stream-sink.ts'
import { Subscriber } from './subscriber.ts'

export function registerStreamRoute(
  app: FastifyInstance,
  context: ServerContext,
  feeds: Feeds,
): void {
  const handler: Handler = async (request, reply) => {
    const view = viewNamed(context.views, (request.params as { view: string }).view)
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, [...filterNames(view), 'timeout'])
    const scope = scopeOf(view, parameters)
    const read = { context, request, reply, waitMs: waitMsOf(parameters) }
    await readOne(read, waiting => context.views.ready(view.name, waiting))
    const { metrics, limits } = context
    if (metrics.streamsOpen + metrics.socketsOpen >= limits.socketsMax) {
      throw apiError('OVERLOADED', { what: 'event streams' })
    }
    const { principal } = request
    assert(principal !== null, 'a stream is opened by somebody')
    const feed = feeds.of(view)
    const leave = context.holders.admit(context.auth, principal)
    const lastId = request.headers['last-event-id']
    const resume = typeof lastId === 'string' && lastId !== '' ? lastId : undefined
    reply.header(positionHeader, context.views.position())
    const sink = openStream(reply, view.name, context)
    const subscriber = new Subscriber(feed, scope, sink, context)
    const secret = secretOf(request.headers)
    const unwatch = watchSession(context, { principal, secret, end: error => sink.fail(error) })
    reply.raw.once('close', () => {
      leave()
      unwatch()
      subscriber.close()
    })
    subscriber.start(resume)
  }
  readRoute(app, '/v1/stream/:view', handler, { role: 'reader', head: false })
}

function openStream(reply: FastifyReply, view: string, context: ServerContext): StreamSink {
  reply
    .header('content-type', 'text/event-stream; charset=utf-8')
    .header('cache-control', 'no-store')
    // The stream ends with the server, and then the connection has no further use.
    .header('connection', 'close')
    // Proxies that gather an answer before they pass it on must not.
    .header('x-accel-buffering', 'no')
  reply.hijack()
  const headers = Object.entries(reply.getHeaders()).filter(([, value]) => value !== undefined)
  reply.raw.writeHead(200, Object.fromEntries(headers) as Record<string, string>)
  return new StreamSink(reply.raw, view, context)
}

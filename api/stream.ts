/** `GET /v1/stream/{view}`: the live feed of one view as server-sent events. */
import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply } from 'fastify'
import { awaitPosition, positionHeader, type ServerContext, viewNamed } from './context.ts'
import { apiError } from './errors.ts'
import type { Feeds } from './feed.ts'
import { filterNames, parseSearch, refuseUnknown, scopeOf, waitMsOf } from './parameters.ts'
import { problemOf } from './problem.ts'
import { readRoute, searchOf } from './routes.ts'
import { type Frame, type Sink, Subscriber } from './subscriber.ts'

export function registerStreamRoute(
  app: FastifyInstance,
  context: ServerContext,
  feeds: Feeds,
): void {
  const settings = { role: 'reader', head: false } as const
  const handler = async (...[request, reply]: Parameters<Parameters<typeof readRoute>[2]>) => {
    const view = viewNamed(context.views, (request.params as { view: string }).view)
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, [...filterNames(view), 'timeout'])
    const scope = scopeOf(view, parameters)
    await awaitPosition(context, request, waitMsOf(parameters))
    const { metrics, limits } = context
    if (metrics.streamsOpen + metrics.socketsOpen >= limits.socketsMax) {
      throw apiError('OVERLOADED', { what: 'event streams' })
    }
    const feed = feeds.of(view)
    const lastId = request.headers['last-event-id']
    const resume = typeof lastId === 'string' && lastId !== '' ? lastId : undefined
    reply.header(positionHeader, context.views.position())
    const sink = openStream(reply, view.name, context)
    const subscriber = new Subscriber(feed, scope, sink, context)
    reply.raw.once('close', () => subscriber.close())
    subscriber.start(resume)
  }
  readRoute(app, '/v1/stream/:view', handler, settings)
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

class StreamSink implements Sink {
  private readonly response: ServerResponse
  private readonly view: string
  private readonly context: ServerContext
  private waiting: (() => void)[] = []
  private cancelHeartbeat: (() => void) | undefined
  private congestedSince: number | undefined
  private missedBytes = 0

  constructor(response: ServerResponse, view: string, context: ServerContext) {
    this.response = response
    this.view = view
    this.context = context
    context.metrics.streamsOpen++
    const end = () => this.finish()
    context.onClose.add(end)
    response.on('drain', () => this.eased())
    response.on('error', () => undefined)
    response.once('close', () => {
      context.metrics.streamsOpen--
      context.onClose.delete(end)
      this.cancelHeartbeat?.()
      this.wake()
    })
    response.write('retry: 1000\n\n')
    this.scheduleHeartbeat()
  }

  get closed(): boolean {
    return this.response.writableEnded || this.response.destroyed
  }

  get congested(): boolean {
    return this.response.writableLength > this.context.limits.conflateBytes
  }

  send({ type, position, body }: Frame): void {
    if (this.closed) return
    // A client told to fetch anew must not come back with the position it had.
    const id = type === 'must-refetch' ? 'id:\n' : position === undefined ? '' : `id: ${position}\n`
    const head = `${id}event: ${type}\ndata: {"type":"${type}","id":${JSON.stringify(this.view)},`
    this.context.metrics.framesSent++
    this.context.metrics.bytesSent += head.length + body.length
    this.response.cork()
    this.response.write(head)
    this.response.write(body)
    this.response.write('\n\n')
    this.response.uncork()
    if (this.congested) this.congestedSince ??= this.context.clock()
  }

  private eased(): void {
    this.congestedSince = undefined
    this.missedBytes = 0
    this.wake()
  }

  private wake(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const resume of waiting) resume()
  }

  drained(): Promise<void> {
    if (this.closed || !this.congested) return Promise.resolve()
    return new Promise(resolve => this.waiting.push(resolve))
  }

  missed(bytes: number): void {
    this.missedBytes += bytes
    if (this.missedBytes > this.context.limits.clientBytesMax) this.closeSlow()
  }

  checkStall(): void {
    if (this.congestedSince === undefined) return
    const stalledMs = this.context.clock() - this.congestedSince
    if (stalledMs > this.context.limits.clientStallMs) this.closeSlow()
  }

  closeSlow(): void {
    if (this.closed) return
    this.context.metrics.slowClientsClosed++
    this.response.destroy()
  }

  fail(error: unknown): void {
    const { code, detail } = problemOf(error)
    if (!this.closed) {
      this.response.end(
        `event: error\ndata: ${JSON.stringify({ type: 'error', code, detail })}\n\n`,
      )
    }
  }

  /** A client that does not read would hold the connection for ever. */
  private finish(): void {
    this.response.end()
    const cancel = this.context.schedule(
      () => this.response.destroy(),
      this.context.limits.closeGraceMs,
    )
    this.response.once('close', cancel)
  }

  private scheduleHeartbeat(): void {
    this.cancelHeartbeat = this.context.schedule(() => {
      if (this.closed) return
      if (!this.congested) this.response.write(': still here\n\n')
      this.scheduleHeartbeat()
    }, this.context.limits.heartbeatMs)
  }
}

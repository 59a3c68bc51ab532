/** The HTTP server: views, events, live feeds, health and the dashboard, on one port. */
import type { Socket } from 'node:net'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import staticFiles from '@fastify/static'
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify'
import type { ViewService } from '../streams/views.ts'
import {
  type AuthSettings,
  hasCredentials,
  hostAllowed,
  identify,
  isPeer,
  mayAct,
  noAuth,
  originAllowed,
  type Principal,
  type Role,
  secretOf,
} from './auth.ts'
import { hasTooManyHeaders, positionHeader, type ServerContext } from './context.ts'
import { apiError } from './errors.ts'
import { registerEventRoutes } from './event-routes.ts'
import { Feeds } from './feed.ts'
import { type AppendEvents, createIngest } from './ingest.ts'
import { defaultLimits, type Limits, type Schedule } from './limits.ts'
import { serveLive } from './live.ts'
import { countRequest, createServerMetrics } from './metrics.ts'
import { type Operations, registerOperationRoutes } from './operation-routes.ts'
import type { OrderPorts } from './order-command.ts'
import { registerOrderRoutes } from './order-routes.ts'
import { problemOf, problemType, sendProblem } from './problem.ts'
import { registerSearchRoutes } from './search-routes.ts'
import { FeedHolders } from './session.ts'
import { registerStreamRoute } from './stream.ts'
import { type RequestTracing, registerTracing } from './tracing.ts'
import { registerViewRoutes } from './view-routes.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set once the request was let in; null on routes that anyone may use. */
    principal: Principal | null
  }
}

/** What a page of another site must not have a browser send. */
const changing = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

export interface ServerOptions extends Operations {
  readonly views: ViewService
  readonly append: AppendEvents
  /** Where commands to orders go; without it there are no routes of orders. */
  readonly orders?: Omit<OrderPorts, 'ids'>
  /** Epoch ms. */
  readonly clock: () => number
  readonly schedule: Schedule
  /** Ids of requests and events (`ce_id`): never the same twice, such as a UUID. */
  readonly ids: () => string
  readonly limits?: Partial<Limits>
  readonly auth?: AuthSettings
  readonly version: string
  /** Folder with the built dashboard; without one `/` is 404. */
  readonly dashboardRoot?: string
  /** False for a path below it that leads elsewhere, by a symbolic link. */
  readonly dashboardHolds?: (path: string) => boolean
  readonly logger?: FastifyBaseLogger
  /** Absent: no spans are made of requests. */
  readonly tracing?: RequestTracing
}

export interface Server {
  /** Resolves with the address, `http://host:port`. Call `assertBindable` first. */
  listen(options: { readonly host: string; readonly port: number }): Promise<string>
  /** Ends live feeds and waiting reads, answers what has begun, and frees the port. */
  close(): Promise<void>
  readonly inject: FastifyInstance['inject']
  /** Every route with the role it needs; undefined where anyone may. */
  readonly routes: readonly ServedRoute[]
}

export interface ServedRoute {
  readonly method: string
  readonly url: string
  readonly role: Role | undefined
}

export async function createServer(options: ServerOptions): Promise<Server> {
  const limits = { ...defaultLimits, ...options.limits }
  const context: ServerContext = {
    views: options.views,
    auth: options.auth ?? noAuth,
    limits,
    holders: new FeedHolders(limits.userFeedsMax),
    clock: options.clock,
    schedule: options.schedule,
    metrics: createServerMetrics(),
    version: options.version,
    onClose: new Set(),
  }
  const app = createApp(options, limits)
  const routes = inventory(app)
  registerTracing(app, options.tracing)
  await registerSecurity(app, context)
  registerCounting(app, context)
  registerViewRoutes(app, context)
  const ingest = createIngest({
    append: options.append,
    position: () => options.views.position(),
    clock: options.clock,
    ids: options.ids,
    source: 'millrace/http',
    limits: context.limits,
  })
  registerEventRoutes(app, context, ingest)
  const { orders, ids } = options
  if (orders !== undefined) await registerOrderRoutes(app, context, { ...orders, ids })
  registerSearchRoutes(app, context)
  registerOperationRoutes(app, context, options)
  const feeds = new Feeds(context)
  registerStreamRoute(app, context, feeds)
  serveLive(app.server, context, feeds)
  await registerDashboard(app, options)
  closeQuickly(app, context)
  await app.ready()
  return {
    listen: address => app.listen(address),
    close: () => app.close(),
    inject: app.inject.bind(app) as FastifyInstance['inject'],
    routes,
  }
}

/** Notes the routes as they are registered. */
function inventory(app: FastifyInstance): ServedRoute[] {
  const routes: ServedRoute[] = []
  app.addHook('onRoute', ({ method, url, config }) => {
    for (const one of [method].flat()) routes.push({ method: one, url, role: config?.role })
  })
  return routes
}

function createApp(options: ServerOptions, limits: Limits): FastifyInstance {
  const app: FastifyInstance = fastify({
    ...(options.logger === undefined ? {} : { loggerInstance: options.logger }),
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: options.ids,
    // Slow senders of headers or bodies are cut off.
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: 0,
    http: {
      headersTimeout: limits.headersTimeoutMs,
      connectionsCheckingInterval: limits.timeoutCheckMs,
      maxHeaderSize: 16_384,
    },
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    routerOptions: {
      maxParamLength: 4096,
      // Parameters are decoded by parameters.ts alone.
      querystringParser: () => ({}),
    },
    frameworkErrors: (error, _request, reply) => void sendProblem(reply, error),
    clientErrorHandler: (error, socket) => refuseBytes(error, socket as Socket),
  })
  app.server.maxConnections = limits.connectionsMax
  // Node would drop what is beyond its own bound and go on; more than ours are refused.
  app.server.maxHeadersCount = 0
  app.setErrorHandler((error, request, reply) => {
    const { status } = problemOf(error)
    if (status >= 500 && status !== 503) request.log.error({ err: error }, 'request failed')
    return sendProblem(reply, error)
  })
  app.setNotFoundHandler((request, reply) => {
    const path = (request.raw.url ?? '').split('?')[0]!.slice(0, 128)
    return sendProblem(reply, apiError('ROUTE_UNKNOWN', { path }))
  })
  return app
}

/** Fastify and Node close idle connections; these are the ones they would wait for. */
function closeQuickly(app: FastifyInstance, context: ServerContext): void {
  // Browsers connect ahead of need; Node counts a connection without a request as busy.
  const unused = new Set<Socket>()
  const used = ({ socket }: { socket: Socket }) => unused.delete(socket)
  app.server.on('request', used).on('upgrade', used)
  app.server.on('connection', (socket: Socket) => {
    unused.add(socket)
    socket.once('close', () => unused.delete(socket))
  })
  app.addHook('preClose', async () => {
    for (const stop of [...context.onClose]) stop()
    for (const socket of unused) socket.destroy()
    // A request that never ends, such as a stalled upload, must not hold the process.
    const cutOff = () => app.server.closeAllConnections()
    const cancel = context.schedule(cutOff, context.limits.drainMs)
    app.server.once('close', cancel)
  })
}

/** What was no HTTP: there is no request to answer, only a socket. */
function refuseBytes(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const problem = problemOf(
    error.code === 'HPE_HEADER_OVERFLOW'
      ? apiError('HEADERS_TOO_LARGE')
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? apiError('REQUEST_TIMEOUT')
        : apiError('REQUEST_MALFORMED', { reason: 'it is not HTTP/1.1' }),
  )
  const body = JSON.stringify(problem)
  const length = Buffer.byteLength(body)
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\nContent-Type: ${problemType}\r\n` +
      `Content-Length: ${length}\r\nConnection: close\r\n\r\n${body}`,
  )
}

async function registerSecurity(app: FastifyInstance, context: ServerContext): Promise<void> {
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        objectSrc: ["'none'"],
        baseUri: ["'none'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
    // The server speaks plain HTTP; whoever terminates TLS before it sets this.
    strictTransportSecurity: false,
  })
  if (hasCredentials(context.auth)) {
    await app.register(rateLimit, {
      max: context.limits.requestsPerMinuteMax,
      timeWindow: 60_000,
      // One of them asks for all its clients, which have their own limit there.
      allowList: request => isPeer(context.auth, secretOf(request.headers)),
      errorResponseBuilder: (_request, { ttl }) =>
        apiError('RATE_LIMITED', { seconds: Math.max(1, Math.ceil(ttl / 1000)) }),
    })
  }
  app.decorateRequest('principal', null)
  app.addHook('onRequest', async (request, reply) => {
    if (hasTooManyHeaders(request.raw, context)) {
      reply.header('connection', 'close')
      throw apiError('HEADERS_TOO_LARGE')
    }
    const { host, origin } = request.headers
    if (!hostAllowed(host, context.auth)) throw apiError('HOST_REFUSED')
    // A page of any site can have a browser send a POST without a body, and needs no answer.
    if (changing.has(request.method) && !originAllowed(origin, host, context.auth)) {
      throw apiError('ORIGIN_REFUSED')
    }
  })
  // After the rate limit, which so covers guesses at keys; before the body is read.
  app.addHook('preParsing', async request => {
    const { role } = request.routeOptions.config
    if (role === undefined) return
    const principal = await identify(context.auth, secretOf(request.headers))
    if (!mayAct(principal, role)) throw apiError('FORBIDDEN', { role })
    request.principal = principal
  })
}

function registerCounting(app: FastifyInstance, context: ServerContext): void {
  const { metrics } = context
  app.addHook('onRequest', async (_request, reply) => {
    metrics.requestsActive++
    // Also when the client leaves before its answer.
    reply.raw.once('close', () => {
      metrics.requestsActive--
    })
  })
  app.addHook('onSend', async (request, reply) => {
    if (!request.raw.url?.startsWith('/v1/') || reply.hasHeader(positionHeader)) return
    const position = positionNow(context.views)
    if (position !== undefined) reply.header(positionHeader, position)
  })
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown'
    countRequest(metrics, [request.method, route, String(reply.statusCode)])
  })
}

/** An engine that has not started yet has no position. */
function positionNow(views: ViewService): string | undefined {
  return views.tasks().some(task => task.state === 'running' || task.state === 'draining')
    ? views.position()
    : undefined
}

async function registerDashboard(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const { dashboardRoot: root, dashboardHolds } = options
  if (root === undefined) return
  await app.register(staticFiles, {
    root,
    ...(dashboardHolds === undefined ? {} : { allowedPath: dashboardHolds }),
    dotfiles: 'ignore',
    index: 'index.html',
    cacheControl: false,
    setHeaders: (response, path) => {
      // Vite puts a hash of the content in the names of assets.
      const hashed = /[\\/]assets[\\/]/.test(path)
      const policy = hashed ? 'public, max-age=31536000, immutable' : 'no-cache'
      response.header('cache-control', policy)
    },
  })
}

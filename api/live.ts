/** WebSocket `/v1/live`: who may upgrade, and the sockets of a server. */
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { liveSubprotocol } from '../contracts/live.ts'
import { hostAllowed, originAllowed, secretOf } from './auth.ts'
import { hasTooManyHeaders, type ServerContext } from './context.ts'
import { apiError } from './errors.ts'
import type { Feeds } from './feed.ts'
import { LiveConnection } from './live-connection.ts'
import { problemOf, problemType } from './problem.ts'

/** Serves upgrades of the HTTP server until it closes. */
export function serveLive(http: HttpServer, context: ServerContext, feeds: Feeds): void {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: context.limits.messageBytesMax,
    maxFragments: context.limits.messageFragmentsMax,
    // Memory a client could make us hold, for little: rows are short-lived.
    perMessageDeflate: false,
    clientTracking: false,
    handleProtocols: () => liveSubprotocol,
  })
  const connections = new Set<LiveConnection>()
  let closing = false
  /** Sockets whose client has not said who it is. */
  let unknown = 0
  http.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy())
    const refusal = closing ? apiError('SHUTTING_DOWN') : refusalOf(request, context, unknown)
    if (refusal !== undefined) {
      refuseUpgrade(socket, refusal)
      return
    }
    const secret = secretOf(request.headers)
    sockets.handleUpgrade(request, socket, head, webSocket => {
      let known = false
      const onKnown = () => {
        if (!known) unknown--
        known = true
      }
      unknown++
      const connection = new LiveConnection(webSocket, { context, feeds, secret, onKnown })
      connections.add(connection)
      context.metrics.socketsOpen++
      webSocket.once('close', () => {
        connections.delete(connection)
        context.metrics.socketsOpen--
      })
    })
  })
  context.onClose.add(() => {
    closing = true
    for (const connection of connections) connection.goAway()
  })
}

function refusalOf(
  request: IncomingMessage,
  context: ServerContext,
  unknown: number,
): Error | undefined {
  const { metrics, limits } = context
  const { host, origin } = request.headers
  const path = (request.url ?? '').split('?')[0]!
  if (path !== '/v1/live') return apiError('ROUTE_UNKNOWN', { path: path.slice(0, 128) })
  if (hasTooManyHeaders(request, context)) return apiError('HEADERS_TOO_LARGE')
  if (!hostAllowed(host, context.auth)) return apiError('HOST_REFUSED')
  if (!originAllowed(origin, host, context.auth)) return apiError('ORIGIN_REFUSED')
  if (metrics.socketsOpen >= limits.socketsMax || unknown >= limits.socketsUnknownMax) {
    return apiError('OVERLOADED', { what: 'live sockets' })
  }
  const offered = request.headers['sec-websocket-protocol']?.split(',').map(name => name.trim())
  if (offered?.includes(liveSubprotocol)) return undefined
  return apiError('REQUEST_MALFORMED', { reason: `the subprotocol ${liveSubprotocol} is missing` })
}

function refuseUpgrade(socket: Duplex, error: Error): void {
  const problem = problemOf(error)
  const body = JSON.stringify(problem)
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\nContent-Type: ${problemType}\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

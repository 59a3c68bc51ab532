/** One live socket: the handshake, its messages, its subscriptions. */
import { Check } from 'typebox/value'
import type { RawData, WebSocket } from 'ws'
import { instanceScope } from '../contracts/instance-scope.ts'
import {
  type ClientMessage,
  clientMessage,
  liveClose,
  type SubscribeMessage,
} from '../contracts/live.ts'
import { identify, mayAct, type Principal } from './auth.ts'
import { type ServerContext, viewNamed } from './context.ts'
import { apiError } from './errors.ts'
import type { Feeds } from './feed.ts'
import { parseJson } from './json.ts'
import { filterNames, refuseUnknown, scopeOf } from './parameters.ts'
import { problemOf } from './problem.ts'
import { watchSession } from './session.ts'
import { SocketSink } from './socket-sink.ts'
import { type Frame, type Sink, Subscriber } from './subscriber.ts'

export interface LiveConnectionOptions {
  readonly context: ServerContext
  readonly feeds: Feeds
  /** The key or token that came with the upgrade, where the client could set headers. */
  readonly secret: string | undefined
  /** The client has said who it is, or has gone. */
  readonly onKnown: () => void
}

export class LiveConnection {
  private readonly socket: WebSocket
  private readonly context: ServerContext
  private readonly feeds: Feeds
  private readonly secret: string | undefined
  private readonly sink: SocketSink
  private readonly subscribers = new Map<string, Subscriber>()
  private cancelInit: (() => void) | undefined
  private cancelHeartbeat: (() => void) | undefined
  private acknowledged = false
  private readonly onKnown: () => void
  /** Messages that came while the credentials were being checked. */
  private early: { readonly message: ClientMessage; readonly bytes: number }[] | undefined
  private leave: (() => void) | undefined
  private unwatch: (() => void) | undefined
  private alive = true
  /** Token bucket of messages. */
  private tokens: number
  private tokensAt: number

  constructor(socket: WebSocket, options: LiveConnectionOptions) {
    const { context, feeds, secret } = options
    this.socket = socket
    this.context = context
    this.feeds = feeds
    this.secret = secret
    this.onKnown = options.onKnown
    this.sink = new SocketSink(socket, context)
    this.tokens = context.limits.messagesPerSecondMax
    this.tokensAt = context.clock()
    socket.on('message', (data, binary) => this.receive(data, binary))
    socket.on('close', () => this.end())
    // Protocol violations: ws itself closes with 1002, 1007 or 1009.
    socket.on('error', () => undefined)
    // Frames below the protocol cost work, too.
    socket.on('ping', () => this.takeToken())
    socket.on('pong', () => {
      this.alive = true
      this.takeToken()
    })
    this.cancelInit = context.schedule(
      () => this.sink.close(liveClose.initTimeout, 'connection_init is missing'),
      context.limits.initTimeoutMs,
    )
    this.scheduleHeartbeat()
  }

  /** The server stops. */
  goAway(): void {
    this.sink.close(liveClose.goingAway, 'the server is stopping')
  }

  private end(): void {
    this.cancelInit?.()
    this.cancelHeartbeat?.()
    this.unwatch?.()
    this.leave?.()
    this.onKnown()
    for (const subscriber of this.subscribers.values()) subscriber.close()
    this.subscribers.clear()
  }

  /** A client that answers no ping for a whole interval is gone, however it went. */
  private scheduleHeartbeat(): void {
    this.cancelHeartbeat = this.context.schedule(() => {
      if (!this.alive) {
        this.socket.terminate()
        return
      }
      this.alive = false
      this.socket.ping()
      this.scheduleHeartbeat()
    }, this.context.limits.heartbeatMs)
  }

  private receive(data: RawData, binary: boolean): void {
    if (this.sink.closed) return
    if (!this.takeToken()) return
    let message: unknown
    try {
      if (binary) throw apiError('MESSAGE_INVALID', { reason: 'it is binary' })
      message = parseJson(data.toString())
    } catch (error) {
      this.refuse(undefined, error)
      return
    }
    if (!Check(clientMessage, message)) this.refuse(message, undefined)
    else if (this.early === undefined) this.handle(message)
    else this.hold(this.early, { message, bytes: bytesOf(data) })
  }

  /** False, and the end of the connection, when it sends too much. */
  private takeToken(): boolean {
    const { messagesPerSecondMax } = this.context.limits
    const now = this.context.clock()
    const gained = ((now - this.tokensAt) * messagesPerSecondMax) / 1000
    this.tokens = Math.min(messagesPerSecondMax, this.tokens + Math.max(0, gained))
    this.tokensAt = now
    if (this.tokens < 1) {
      this.sink.close(liveClose.tryAgainLater, 'too many messages')
      return false
    }
    this.tokens--
    return true
  }

  /** An error frame that says what is wrong, then the close. */
  private refuse(message: unknown, cause: unknown): void {
    const given = (message as { id?: unknown } | null | undefined)?.id
    const id = typeof given === 'string' ? given.slice(0, 128) : ''
    const reason = cause instanceof SyntaxError ? cause.message : 'its members are not as declared'
    this.sendError(id, apiError('MESSAGE_INVALID', { reason: reason.slice(0, 200) }))
    this.sink.close(liveClose.badMessage, 'invalid message')
  }

  private handle(message: ClientMessage): void {
    switch (message.type) {
      case 'ping':
        this.sink.sendMessage({ type: 'pong', ...payloadOf(message) })
        return
      case 'pong':
        return
      case 'connection_init':
        void this.initialize(message.payload?.token ?? message.payload?.apiKey ?? this.secret)
        return
      case 'subscribe':
        if (this.acknowledged) this.subscribe(message)
        else this.sink.close(liveClose.unauthorized, 'connection_init is missing')
        return
      case 'complete':
        // An unknown id is no error: the server may have completed it a moment ago.
        this.subscribers.get(message.id)?.close()
        this.subscribers.delete(message.id)
        return
    }
  }

  /** Kept for when the credentials are checked; no more than one message may have. */
  private hold(early: NonNullable<typeof this.early>, next: (typeof early)[number]): void {
    early.push(next)
    const bytes = early.reduce((sum, { bytes }) => sum + bytes, 0)
    if (bytes <= this.context.limits.messageBytesMax) return
    this.sink.close(liveClose.tryAgainLater, 'too many messages before connection_ack')
  }

  private async initialize(secret: string | undefined): Promise<void> {
    if (this.cancelInit === undefined) {
      this.sink.close(liveClose.tooManyInits, 'too many connection_init')
      return
    }
    this.cancelInit()
    this.cancelInit = undefined
    const early: NonNullable<typeof this.early> = []
    this.early = early
    try {
      const principal = await identify(this.context.auth, secret)
      if (this.sink.closed) return
      this.admit(principal, secret)
    } catch (error) {
      this.refuseInit(error, secret)
      return
    }
    this.early = undefined
    this.acknowledged = true
    const payload = { version: this.context.version, heartbeatMs: this.context.limits.heartbeatMs }
    this.sink.sendMessage({ type: 'connection_ack', payload })
    for (const { message } of early) {
      if (!this.sink.closed) this.handle(message)
    }
  }

  private admit(principal: Principal, secret: string | undefined): void {
    if (!mayAct(principal, 'reader')) throw apiError('FORBIDDEN', { role: 'reader' })
    this.leave = this.context.holders.admit(this.context.auth, principal)
    const end = () => this.sink.close(liveClose.sessionEnded, 'the credentials have ended')
    this.unwatch = watchSession(this.context, { principal, secret, end })
    this.onKnown()
  }

  /** Without credentials 4401, with wrong ones 4403; 1013 where another try may help. */
  private refuseInit(error: unknown, secret: string | undefined): void {
    const { status, code } = problemOf(error)
    if (status === 401 || status === 403) {
      const refusal = secret === undefined ? liveClose.unauthorized : liveClose.forbidden
      this.sink.close(refusal, `${code}: valid credentials are needed`)
    } else this.sink.close(liveClose.tryAgainLater, code)
  }

  private subscribe(message: SubscribeMessage): void {
    const { id, view: name, filter = {}, resume } = message
    if (this.subscribers.has(id)) {
      this.sink.close(liveClose.duplicateId, 'the id has a subscription')
      return
    }
    try {
      const max = this.context.limits.subscriptionsMax
      if (this.subscribers.size >= max) throw apiError('SUBSCRIPTIONS_EXCEEDED', { max })
      const view = viewNamed(this.context.views, name)
      const parameters = new Map(Object.entries(filter).map(([key, value]) => [key, `${value}`]))
      refuseUnknown(parameters, filterNames(view))
      const scope = scopeOf(view, parameters)
      const isPeer = message.scope === instanceScope
      const feed = isPeer ? this.feeds.ofInstance(view) : this.feeds.of(view)
      const subscriber = new Subscriber(feed, scope, this.sinkOf(id), this.context)
      this.subscribers.set(id, subscriber)
      subscriber.start(resume)
    } catch (error) {
      this.drop(id, error)
    }
  }

  private sinkOf(id: string): Sink {
    const { sink } = this
    return {
      account: sink.account,
      send: (frame: Frame) => sink.sendFrame(id, frame),
      fail: error => this.drop(id, error),
    }
  }

  private drop(id: string, error: unknown): void {
    this.subscribers.get(id)?.close()
    this.subscribers.delete(id)
    this.sendError(id, error)
  }

  private sendError(id: string, error: unknown): void {
    const { code, detail } = problemOf(error)
    this.sink.sendMessage({ type: 'error', id, payload: { code, detail } })
  }
}

function payloadOf(message: { payload?: unknown }): { payload?: unknown } {
  return message.payload === undefined ? {} : { payload: message.payload }
}

function bytesOf(data: RawData): number {
  return Array.isArray(data) ? data.reduce((sum, { length }) => sum + length, 0) : data.byteLength
}

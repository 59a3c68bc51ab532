/** One live socket: the handshake, its messages, its subscriptions. */
import { Check } from 'typebox/value'
import type { RawData, WebSocket } from 'ws'
import {
  type ClientMessage,
  clientMessage,
  liveClose,
  type SubscribeMessage,
} from '../contracts/live.ts'
import { identify, mayAct } from './auth.ts'
import { type ServerContext, viewNamed } from './context.ts'
import { apiError } from './errors.ts'
import type { Feeds } from './feed.ts'
import { parseJson } from './json.ts'
import { filterNames, refuseUnknown, scopeOf } from './parameters.ts'
import { problemOf } from './problem.ts'
import { SocketSink } from './socket-sink.ts'
import { type Frame, type Sink, Subscriber } from './subscriber.ts'

export interface LiveConnectionOptions {
  readonly context: ServerContext
  readonly feeds: Feeds
  /** The key that came with the upgrade, where the client could set headers. */
  readonly secret: string | undefined
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
  private alive = true
  /** Token bucket of messages. */
  private tokens: number
  private tokensAt: number

  constructor(socket: WebSocket, { context, feeds, secret }: LiveConnectionOptions) {
    this.socket = socket
    this.context = context
    this.feeds = feeds
    this.secret = secret
    this.sink = new SocketSink(socket, context)
    this.tokens = context.limits.messagesPerSecondMax
    this.tokensAt = context.clock()
    socket.on('message', (data, binary) => this.receive(data, binary))
    socket.on('close', () => this.end())
    // Protocol violations: ws itself closes with 1002, 1007 or 1009.
    socket.on('error', () => undefined)
    socket.on('pong', () => {
      this.alive = true
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
    if (!this.takeToken()) {
      this.sink.close(liveClose.tryAgainLater, 'too many messages')
      return
    }
    let message: unknown
    try {
      if (binary) throw apiError('MESSAGE_INVALID', { reason: 'it is binary' })
      message = parseJson(data.toString())
    } catch (error) {
      this.refuse(undefined, error)
      return
    }
    if (Check(clientMessage, message)) this.handle(message)
    else this.refuse(message, undefined)
  }

  private takeToken(): boolean {
    const { messagesPerSecondMax } = this.context.limits
    const now = this.context.clock()
    const gained = ((now - this.tokensAt) * messagesPerSecondMax) / 1000
    this.tokens = Math.min(messagesPerSecondMax, this.tokens + Math.max(0, gained))
    this.tokensAt = now
    if (this.tokens < 1) return false
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
        this.initialize(message.payload?.apiKey)
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

  private initialize(apiKey: string | undefined): void {
    if (this.cancelInit === undefined) {
      this.sink.close(liveClose.tooManyInits, 'too many connection_init')
      return
    }
    this.cancelInit()
    this.cancelInit = undefined
    const secret = apiKey ?? this.secret
    const principal = identify(this.context.auth, secret)
    if (principal === undefined || !mayAct(principal, 'reader')) {
      const code = secret === undefined ? liveClose.unauthorized : liveClose.forbidden
      this.sink.close(code, 'a valid API key is needed')
      return
    }
    this.acknowledged = true
    const payload = { version: this.context.version, heartbeatMs: this.context.limits.heartbeatMs }
    this.sink.sendMessage({ type: 'connection_ack', payload })
  }

  private subscribe({ id, view: name, filter = {}, resume }: SubscribeMessage): void {
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
      const feed = this.feeds.of(view)
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
      get congested() {
        return sink.congested
      },
      get closed() {
        return sink.closed
      },
      send: (frame: Frame) => sink.sendFrame(id, frame),
      drained: () => sink.drained(),
      missed: bytes => sink.missed(bytes),
      checkStall: () => sink.checkStall(),
      closeSlow: () => sink.closeSlow(),
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

/**
 * The live protocol's client, for browsers and Node. It reconnects with a growing, spread
 * delay; subscriptions survive and go on from the position they had.
 */
import type { ClientMessage, LiveFilter, LiveRow, ServerMessage } from '../contracts/live.ts'
import { FeedMessages, type MessageHandlers } from './feed-messages.ts'
import { LiveRows, type RowsEvent } from './live-rows.ts'

/** The part of the standard WebSocket that is used. */
export interface Socket {
  readonly readyState: number
  addEventListener(
    type: 'open' | 'message' | 'close' | 'error',
    listener: (event: { readonly data?: unknown; readonly code?: number }) => void,
  ): void
  send(data: string): void
  close(code?: number, reason?: string): void
}

export type SocketConstructor = new (url: string, protocol: string) => Socket

/**
 * `open` after the handshake; `waiting` between two tries; `refused` when the server wants
 * other credentials: then only `reconnect()` tries again.
 */
export type ConnectionState = 'connecting' | 'open' | 'waiting' | 'refused' | 'closed'

export interface LiveOptions {
  readonly WebSocket: SocketConstructor
  /** Runs a callback after a delay in ms; the result cancels it. */
  readonly schedule: (run: () => void, delayMs: number) => () => void
  /** In [0, 1): spreads the reconnects of many clients. */
  readonly random: () => number
  /** Asked at each connect. */
  readonly apiKey?: () => string | undefined
  /** The same for a token; when it ends the server closes, and this is asked for the next. */
  readonly token?: () => string | undefined
  readonly onState?: (state: ConnectionState) => void
  /** After any message, also one that changes no row: the connection is alive. */
  readonly onMessage?: (message: ServerMessage) => void
  /** First and longest delay before a reconnect, ms. */
  readonly backoffMs?: readonly [first: number, longest: number]
  /** A quiet connection is tried after this time, and given up after it twice, ms. */
  readonly pingMs?: number
}

export interface SubscriptionRequest {
  readonly view: string
  /** Key fields, `prefix`, `from`, `to`. */
  readonly filter?: LiveFilter
  /** Internal: what runs on the instance alone. */
  readonly scope?: 'instance'
}

export interface SubscriptionHandlers<Row> {
  /** After `rows` has changed. */
  readonly onRows?: (event: RowsEvent<Row>) => void
  /** The server refused or ended the subscription; it is not tried again. */
  readonly onError?: (error: { readonly code: string; readonly detail: string }) => void
}

export interface LiveSubscription<Row = LiveRow> {
  readonly rows: ReadonlyMap<string, Row>
  /** The cut that `rows` shows; undefined before the first snapshot. */
  readonly position: string | undefined
  close(): void
}

export interface LiveConnection {
  readonly state: ConnectionState
  subscribe<Row = LiveRow>(
    request: SubscriptionRequest,
    handlers?: SubscriptionHandlers<Row>,
  ): LiveSubscription<Row>
  /** A subscription of who keeps no rows, or keeps them elsewhere; the result ends it. */
  follow(request: SubscriptionRequest, handlers: MessageHandlers): () => void
  /** Tries at once, for instance when the network came back or a key was entered. */
  reconnect(): void
  close(): void
}

/** Connects to `url`, `ws://host/v1/live` (or `http://`, which is taken as `ws://`). */
export function connectLive(url: string, options: LiveOptions): LiveConnection {
  return new Connection(url.replace(/^http/, 'ws'), options)
}

interface Held {
  readonly request: SubscriptionRequest
  readonly live: LiveRows<unknown> | FeedMessages
  readonly handlers: SubscriptionHandlers<unknown>
  /** Set while the subscription waits to be tried again. */
  cancelRetry: () => void
  failures: number
}

const subprotocol = 'millrace.v1'
const openState = 1
/** Close codes after which the same credentials would be refused again. */
const refusals = [4401, 4403]
/** Errors of a subscription that pass: partitions of the view are moving or being restored. */
const passing = ['VIEW_NOT_READY']

class Connection implements LiveConnection {
  state: ConnectionState = 'connecting'
  private readonly url: string
  private readonly options: LiveOptions
  private readonly held = new Map<string, Held>()
  private socket: Socket | undefined
  private acknowledged = false
  private failures = 0
  private lastId = 0
  private cancelRetry: (() => void) | undefined
  private cancelPing: (() => void) | undefined

  constructor(url: string, options: LiveOptions) {
    this.url = url
    this.options = options
    this.connect()
  }

  subscribe<Row>(
    request: SubscriptionRequest,
    handlers: SubscriptionHandlers<Row> = {},
  ): LiveSubscription<Row> {
    const live = new LiveRows<Row>()
    const close = this.hold(request, live as LiveRows<unknown>, handlers as never)
    return {
      get rows() {
        return live.rows
      },
      get position() {
        return live.position
      },
      close,
    }
  }

  follow(request: SubscriptionRequest, handlers: MessageHandlers): () => void {
    return this.hold(request, new FeedMessages(handlers), handlers)
  }

  private hold(
    request: SubscriptionRequest,
    live: Held['live'],
    handlers: Held['handlers'],
  ): () => void {
    const id = String(++this.lastId)
    const held: Held = { request, live, handlers, cancelRetry: () => {}, failures: 0 }
    this.held.set(id, held)
    if (this.acknowledged) this.sendSubscribe(id)
    return () => {
      held.cancelRetry()
      if (this.held.delete(id) && this.acknowledged) this.send({ type: 'complete', id })
    }
  }

  reconnect(): void {
    if (this.state === 'closed' || this.state === 'open') return
    this.failures = 0
    this.connect()
  }

  close(): void {
    this.abandon()
    for (const held of this.held.values()) held.cancelRetry()
    this.held.clear()
    this.setState('closed')
  }

  private setState(state: ConnectionState): void {
    if (this.state === state) return
    this.state = state
    this.options.onState?.(state)
  }

  private connect(): void {
    this.abandon()
    this.setState('connecting')
    const socket = new this.options.WebSocket(this.url, subprotocol)
    this.socket = socket
    // A socket that was left may still speak.
    const current = () => this.socket === socket
    socket.addEventListener('open', () => {
      if (current()) this.greet()
    })
    socket.addEventListener('message', ({ data }) => {
      if (current()) this.receive(JSON.parse(String(data)) as ServerMessage)
    })
    socket.addEventListener('close', ({ code = 1006 }) => {
      if (current()) this.lost(code)
    })
    // A close follows; without a listener Node's clients would throw.
    socket.addEventListener('error', () => undefined)
    this.watch()
  }

  private greet(): void {
    const apiKey = this.options.apiKey?.()
    const token = this.options.token?.()
    const payload = {
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(token === undefined ? {} : { token }),
    }
    this.send({ type: 'connection_init', ...((apiKey ?? token) ? { payload } : {}) })
  }

  /** Leaves the present socket, whatever its state. */
  private abandon(): void {
    this.cancelRetry?.()
    this.cancelPing?.()
    const { socket } = this
    this.socket = undefined
    this.acknowledged = false
    for (const { live } of this.held.values()) live.interrupted()
    socket?.close(1000)
  }

  private lost(code: number): void {
    this.abandon()
    if (refusals.includes(code)) {
      this.setState('refused')
      return
    }
    const delayMs = this.delayAfter(this.failures)
    this.failures = Math.min(this.failures + 1, 16)
    this.setState('waiting')
    this.cancelRetry = this.options.schedule(() => this.connect(), delayMs)
  }

  /** Grows with the failures in a row, and is spread over many clients. */
  private delayAfter(failures: number): number {
    const [first, longest] = this.options.backoffMs ?? [250, 10_000]
    const full = Math.min(longest, first * 2 ** failures)
    return full * (0.5 + this.options.random() / 2)
  }

  /** Pings when it has been quiet for a while, and gives up when it stays so. */
  private watch(pinged = false): void {
    this.cancelPing?.()
    this.cancelPing = this.options.schedule(() => {
      if (pinged || !this.acknowledged) {
        this.lost(1006)
        return
      }
      this.send({ type: 'ping' })
      this.watch(true)
    }, this.options.pingMs ?? 10_000)
  }

  private receive(message: ServerMessage): void {
    this.watch()
    switch (message.type) {
      case 'connection_ack':
        this.acknowledged = true
        this.failures = 0
        this.setState('open')
        for (const id of this.held.keys()) this.sendSubscribe(id)
        break
      case 'ping':
        this.send({ type: 'pong' })
        break
      case 'pong':
        break
      case 'error':
      case 'complete':
        this.end(message.id, message.type === 'error' ? message.payload : undefined)
        break
      default:
        this.deliver(message.id, message)
    }
    this.options.onMessage?.(message)
  }

  private deliver(id: string, message: ServerMessage): void {
    const held = this.held.get(id)
    // One that was closed a moment ago still gets what was under way.
    if (held === undefined) return
    if (message.type === 'up-to-date') held.failures = 0
    const event = held.live.apply(message)
    if (event !== undefined) held.handlers.onRows?.(event)
  }

  private end(id: string, error: { code: string; detail: string } | undefined): void {
    const held = this.held.get(id)
    if (held !== undefined && passing.includes(error?.code ?? '')) {
      this.subscribeAgain(id, held)
      return
    }
    this.held.delete(id)
    const ended = { code: 'COMPLETE', detail: 'The server ended the subscription.' }
    held?.handlers.onError?.(error ?? ended)
  }

  private subscribeAgain(id: string, held: Held): void {
    held.live.interrupted()
    const delayMs = this.delayAfter(held.failures)
    held.failures = Math.min(held.failures + 1, 16)
    held.cancelRetry = this.options.schedule(() => {
      if (this.acknowledged) this.sendSubscribe(id)
    }, delayMs)
  }

  private sendSubscribe(id: string): void {
    const held = this.held.get(id)!
    held.cancelRetry()
    const { request, live } = held
    const { view, filter, scope } = request
    const resume = live.position
    this.send({
      type: 'subscribe',
      id,
      view,
      ...(filter === undefined ? {} : { filter: { ...filter } }),
      ...(resume === undefined ? {} : { resume }),
      ...(scope === undefined ? {} : { scope }),
    })
  }

  private send(message: ClientMessage): void {
    if (this.socket?.readyState === openState) this.socket.send(JSON.stringify(message))
  }
}

/** The live feeds of one process as its server has them, without sockets. */
import { ClientAccount } from '../../../api/client-account.ts'
import type { ServerContext } from '../../../api/context.ts'
import { Feeds } from '../../../api/feed.ts'
import { defaultLimits } from '../../../api/limits.ts'
import { createServerMetrics } from '../../../api/metrics.ts'
import { type Sink, Subscriber } from '../../../api/subscriber.ts'
import type { InstanceViews } from '../../../streams/view-service.ts'
import type { ViewService } from '../../../streams/views.ts'
import type { SimulatedProcess } from '../streams-group/time.ts'

export interface SubscriptionOptions {
  readonly view: string
  readonly resume?: string
  /** The client reads nothing just now. */
  readonly isSlow?: () => boolean
  readonly onError: (error: unknown) => void
}

export class Serving {
  readonly views: InstanceViews
  readonly #context: ServerContext
  readonly #feeds: Feeds

  constructor(views: InstanceViews, process: SimulatedProcess) {
    this.views = views
    this.#context = contextOf(views, process)
    this.#feeds = new Feeds(this.#context)
  }

  /** What another instance follows. */
  follow(view: string, send: (text: string) => void): () => void {
    return this.#subscribe({ view, onError: () => {} }, send, 'ofInstance')
  }

  /** What a client subscribes to. */
  subscribe(options: SubscriptionOptions, send: (text: string) => void): () => void {
    return this.#subscribe(options, send, 'of')
  }

  #subscribe(
    { view: name, resume, isSlow = () => false, onError }: SubscriptionOptions,
    send: (text: string) => void,
    kind: 'of' | 'ofInstance',
  ): () => void {
    const context = this.#context
    const view = context.views.views().find(declared => declared.name === name)!
    let closed = false
    const account = new ClientAccount(
      {
        unsentBytes: () => (isSlow() ? context.limits.conflateBytes + 1 : 0),
        closed: () => closed,
        dropSlow: () => end(new Error('too slow')),
      },
      context,
    )
    const sink: Sink = {
      account,
      send: ({ type, body }) => {
        account.sent(body.length)
        send(`{"type":"${type}","id":"1",${body.toString()}`)
      },
      fail: error => end(error),
    }
    const subscriber = new Subscriber(this.#feeds[kind](view), { key: {} }, sink, context)
    const end = (error: unknown) => {
      if (closed) return
      stop()
      onError(error)
    }
    const stop = () => {
      closed = true
      subscriber.close()
    }
    const read = () => {
      account.taken()
      if (!closed) context.schedule(read, 50)
    }
    read()
    subscriber.start(resume)
    return stop
  }
}

function contextOf(views: ViewService, { environment }: SimulatedProcess): ServerContext {
  const { clock, schedule } = environment
  return {
    views,
    clock,
    schedule,
    limits: defaultLimits,
    metrics: createServerMetrics(),
    onClose: new Set(),
  } as Partial<ServerContext> as ServerContext
}

/**
 * What instances of a simulated cluster ask each other: over a network that takes its time and
 * loses requests, of processes that may be stopped or die in the middle of an answer.
 */

import { PeerFeed } from '../../../cli/peer-feed.ts'
import type { ServerMessage } from '../../../contracts/live.ts'
import { MillraceError, streamsError } from '../../../streams/errors.ts'
import { type Peer, peerName, type RemoteViews } from '../../../streams/remote-views.ts'
import type { PartUpdate, PartViews, Waiting } from '../../../streams/views.ts'
import type { SimulatedProcess, SimulatedTime } from '../streams-group/time.ts'
import type { Serving } from './serving.ts'

/** An instance as its peers see it. */
export interface Host {
  readonly id: string
  readonly process: SimulatedProcess
  readonly serving: Serving | undefined
}

export interface PeersOptions {
  readonly time: SimulatedTime
  /** The process that has the address now. */
  readonly find: (id: string) => Host | undefined
  readonly delayMs: () => number
  readonly lossShare: () => number
}

const PING_MS = 1_000
const RECONNECT_MS = 250

export class SimulatedPeers {
  readonly counts = { requests: 0, unanswered: 0, connections: 0 }
  readonly #options: PeersOptions
  #runs = 0

  constructor(options: PeersOptions) {
    this.#options = options
  }

  /** The port of one process. */
  of(id: string, process: SimulatedProcess): RemoteViews {
    return {
      id: `${id}-${++this.#runs}`,
      self: { host: id, port: 1 },
      at: peer => {
        if (peer.host === id) throw new Error(`${id} asked itself over the network`)
        return {
          // Functions do not travel.
          rows: (view, { enough: _, signal, ...query }) =>
            this.#ask(process, peer, signal, local => local.rows(view, query)),
          row: (view, { signal, ...query }) =>
            this.#ask(process, peer, signal, local => local.row(view, query)),
          follow: (view, onUpdate) => new Link(this, { process, peer, view, onUpdate }).close,
        }
      },
    }
  }

  async #ask<T>(
    from: SimulatedProcess,
    peer: Peer,
    signal: Waiting['signal'],
    ask: (local: PartViews) => Promise<T>,
  ): Promise<T> {
    this.counts.requests++
    const { time, delayMs, find, lossShare } = this.#options
    const answered = time.after(delayMs(), async () => {
      const host = find(peer.host)
      const lost = time.chance(lossShare())
      if (host?.serving === undefined || host.process.dead || lost) {
        this.counts.unanswered++
        throw streamsError('PEER_UNREACHABLE', { peer: peerName(peer), reason: 'no connection' })
      }
      const { local } = host.serving.views
      const answer = await host.process.after(0, () => ask(local))
      return JSON.parse(JSON.stringify(await host.process.after(delayMs(), () => answer))) as T
    })
    const outcome = Promise.resolve(answered).then(
      answer => from.after(0, () => answer),
      error => from.after(0, () => Promise.reject(travelled(error))),
    )
    return await Promise.race([outcome, aborted(signal)])
  }

  /** One connection; `onMessage` gets what it brings, and undefined when it is lost. */
  connect(
    { process, peer, view }: LinkOptions,
    onMessage: (message: ServerMessage | undefined) => void,
  ): () => void {
    const { delayMs, find } = this.#options
    const host = find(peer.host)
    let open = true
    let unwatch = () => {}
    const close = () => {
      open = false
      stop()
      unwatch()
    }
    let stop = () => {}
    if (host?.serving === undefined || host.process.dead) {
      void process.after(delayMs(), () => open && onMessage(undefined))
      return close
    }
    this.counts.connections++
    let last: Promise<void> = Promise.resolve()
    const send = (text: string) => {
      const travelled = process.after(delayMs(), () => {})
      last = last.then(async () => {
        await travelled
        if (open) onMessage(JSON.parse(text) as ServerMessage)
      })
    }
    // Accepted by the process, which may be stopped just now.
    void host.process.after(delayMs(), () => {
      if (open) stop = host.serving!.follow(view, send)
    })
    unwatch = this.#watch(process, host, () => onMessage(undefined))
    return close
  }

  /** Pings a host until one goes unanswered. */
  #watch(process: SimulatedProcess, host: Host, onLost: () => void): () => void {
    let answered = true
    let cancel = () => {}
    const ping = () => {
      if (!answered) {
        onLost()
        return
      }
      answered = false
      void host.process.after(0, () => {
        answered = true
      })
      cancel = process.environment.schedule(ping, PING_MS)
    }
    ping()
    return () => cancel()
  }
}

interface LinkOptions {
  readonly process: SimulatedProcess
  readonly peer: Peer
  readonly view: string
  readonly onUpdate: (update: PartUpdate) => void
}

/** A feed over connections that are made again whenever one is lost. */
class Link {
  readonly #peers: SimulatedPeers
  readonly #options: LinkOptions
  readonly #feed: PeerFeed
  #disconnect: () => void = () => {}
  #cancel: () => void
  #closed = false

  constructor(peers: SimulatedPeers, options: LinkOptions) {
    this.#peers = peers
    this.#options = options
    this.#feed = new PeerFeed(options.onUpdate)
    this.#cancel = options.process.environment.schedule(() => this.#connect(), 0)
  }

  #connect(): void {
    const { process } = this.#options
    this.#disconnect = this.#peers.connect(this.#options, message => {
      if (this.#closed) return
      if (message === undefined) {
        this.#disconnect()
        this.#cancel = process.environment.schedule(() => this.#connect(), RECONNECT_MS)
        this.#feed.onInterrupted()
      } else this.#feed.onMessage(message)
    })
  }

  readonly close = (): void => {
    this.#closed = true
    this.#cancel()
    this.#disconnect()
  }
}

/** An error as it comes over a network: made anew from its code and details. */
function travelled(error: unknown): unknown {
  if (!(error instanceof MillraceError)) return error
  const { code, details, message } = error
  if (code === 'VIEW_NOT_READY') return streamsError(code, { ...details, reason: message })
  return error
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason))
  })
}

/**
 * The other instances of the group, asked over HTTP and followed over WebSocket, by the public
 * routes with the scope of one instance (`contracts/instance-scope.ts`).
 */
import { createHmac, hash, randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { ApiKey, AuthSettings } from '../api/index.ts'
import { connectLive, type LiveConnection, type SocketConstructor } from '../client/index.ts'
import {
  instanceScope,
  type PartRowBody,
  type PartRowsBody,
  partitionsHeader,
} from '../contracts/instance-scope.ts'
import { streamsError } from '../streams/errors.ts'
import { type Peer, peerName, type RemoteViews } from '../streams/remote-views.ts'
import type {
  AsOf,
  PartPage,
  PartQuery,
  PartRowQuery,
  PartScope,
  PartUpdate,
  PartViews,
  RowAnswer,
  RowsScope,
  Waiting,
} from '../streams/views.ts'
import { effects } from './effects.ts'
import { PeerFeed } from './peer-feed.ts'

export interface PeersOptions {
  /** Where this instance can be asked. */
  readonly self: Peer | undefined
  /** Another one at each start of the process. */
  readonly id: string
  /** What it shows to the others; undefined where nobody asks for a key. */
  readonly secret: string | undefined
  readonly schedule: (run: () => void, delayMs: number) => () => void
  readonly random: () => number
  /** A sentence about a peer that keeps refusing. */
  readonly onRefused: (sentence: string) => void
}

/** A quiet connection is tried after this time, and given up after it twice. */
const PING_MS = 2_000
const BACKOFF_MS = [100, 2_000] as const
/** After which a peer is tried again that refused the key, or did not know the view. */
const REFUSED_MS = 5_000

export class HttpPeers implements RemoteViews {
  readonly id: string
  readonly self: Peer | undefined
  readonly #options: PeersOptions
  readonly #peers = new Map<string, HttpPeer>()

  constructor(options: PeersOptions) {
    this.#options = options
    this.id = options.id
    this.self = options.self
  }

  at(peer: Peer): PartViews {
    const name = peerName(peer)
    const known = this.#peers.get(name) ?? new HttpPeer(name, this.#options)
    this.#peers.set(name, known)
    return known
  }

  close(): void {
    for (const peer of this.#peers.values()) peer.close()
  }
}

class HttpPeer implements PartViews {
  readonly #name: string
  readonly #options: PeersOptions
  #connection: LiveConnection | undefined
  #followed = 0
  #cancelRetry: () => void = () => {}

  constructor(name: string, options: PeersOptions) {
    this.#name = name
    this.#options = options
  }

  async rows(view: string, query: PartQuery): Promise<PartPage> {
    const parameters = parametersOf(query)
    parameters.set('limit', String(query.limit))
    if (query.cursor !== undefined) parameters.set('cursor', query.cursor)
    const path = `/v1/views/${encodeURIComponent(view)}/rows`
    const { body } = await this.#get<PartRowsBody>(path, parameters, { ...query, view })
    const rows = body.places.map(([key, partition], i) => ({ key, partition, row: body.rows[i]! }))
    return { rows, position: body.position, next: body.next }
  }

  async row(view: string, query: PartRowQuery): Promise<RowAnswer> {
    const { partitions, key } = query
    const path = `/v1/views/${encodeURIComponent(view)}/rows/${encodeURIComponent(key)}`
    const { timeoutMs, asOf } = query
    const parameters = parametersOf({ timeoutMs, asOf, key: {} })
    const { body } = await this.#get<Partial<PartRowBody>>(path, parameters, { ...query, view })
    return { row: body.row, position: body.position!, partitions }
  }

  /** The body of an answer, that of a missing row too. */
  async #get<T>(path: string, parameters: URLSearchParams, asked: Asked) {
    const { covering, partitions, signal, view, timeoutMs = 0 } = asked
    const { secret } = this.#options
    const url = `http://${this.#name}${path}?${parameters}`
    const headers: Record<string, string> = {
      [partitionsHeader]: partitions.join(','),
      ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }),
      ...(covering === undefined ? {} : { 'millrace-position': covering }),
    }
    let status: number
    let body: unknown
    try {
      const init = { headers, redirect: 'error', ...(signal && { signal }) } as const
      const response = await fetch(url, init)
      status = response.status
      body = await response.json()
    } catch (error) {
      signal?.throwIfAborted()
      throw this.#unreachable(causeOf(error), error)
    }
    if (status === 200) return { body: body as T }
    const problem = (body ?? {}) as Problem
    if (problem.code === 'ROW_MISSING') return { body: { position: problem.position } as T }
    throw this.#refusal(status, problem, { view, timeoutMs })
  }

  #unreachable(reason: string, cause?: unknown) {
    return streamsError('PEER_UNREACHABLE', { peer: this.#name, reason }, { cause })
  }

  #refusal(status: number, problem: Problem, asked: { view: string; timeoutMs: number }) {
    const { code = '', detail = '', required, position } = problem
    if (code === 'VIEW_NOT_READY') {
      const reason = detail.replace(/^The view \S+ is not ready: /, '').replace(/\.$/, '')
      return streamsError(code, { view: asked.view, reason })
    }
    if (code === 'POSITION_TIMEOUT') {
      return streamsError(code, { timeoutMs: asked.timeoutMs, required, position })
    }
    if (code === 'HISTORY_GONE') {
      const { historyFrom, asOf } = problem
      return streamsError(code, { view: asked.view, historyFrom, asOf })
    }
    if (code === 'POSITION_LOST' || code === 'POSITION_INVALID' || code === 'CURSOR_INVALID') {
      return streamsError(code)
    }
    return this.#unreachable(`it answered ${status} ${code}${advice(status)}: ${detail}`)
  }

  follow(view: string, onUpdate: (update: PartUpdate) => void): () => void {
    const feed = new PeerFeed(onUpdate)
    let end = () => {}
    let cancel = () => {}
    const begin = () => {
      const { onMessage, onInterrupted } = feed
      const onError = ({ code, detail }: { code: string; detail: string }) => {
        onInterrupted()
        this.#options.onRefused(`${this.#name} ended the feed of ${view}: ${code}, ${detail}`)
        cancel = this.#options.schedule(begin, REFUSED_MS)
      }
      end = this.#connected().follow(
        { view, scope: instanceScope },
        { onMessage, onInterrupted, onError },
      )
    }
    this.#followed++
    begin()
    return () => {
      cancel()
      end()
      if (--this.#followed === 0) this.close()
    }
  }

  #connected(): LiveConnection {
    this.#connection ??= connectLive(`http://${this.#name}/v1/live`, {
      WebSocket: globalThis.WebSocket as unknown as SocketConstructor,
      schedule: this.#options.schedule,
      random: this.#options.random,
      apiKey: () => this.#options.secret,
      pingMs: PING_MS,
      backoffMs: BACKOFF_MS,
      onState: state => {
        if (state !== 'refused') return
        this.#options.onRefused(`${this.#name} refuses the key of this instance${advice(401)}`)
        this.#cancelRetry = this.#options.schedule(() => this.#connection?.reconnect(), REFUSED_MS)
      },
    })
    return this.#connection
  }

  close(): void {
    this.#cancelRetry()
    this.#connection?.close()
    this.#connection = undefined
  }
}

type Optional<T> = { readonly [K in keyof T]: T[K] | undefined }
type Asked = PartScope & Waiting & { readonly view: string }

interface Problem {
  readonly code?: string
  readonly detail?: string
  readonly required?: string
  readonly position?: string
  readonly historyFrom?: number
  readonly asOf?: number
}

function advice(status: number): string {
  if (status !== 401 && status !== 403) return ''
  return ' (give all instances the same PEER_KEY, or the same first key in API_KEYS)'
}

function causeOf(error: unknown): string {
  const { message, cause } = error as Error
  return cause instanceof Error && cause.message !== '' ? cause.message : message
}

function parametersOf({ timeoutMs, ...scope }: RowsScope & Optional<AsOf & Waiting>) {
  const parameters = new URLSearchParams(scope.key)
  if (timeoutMs !== undefined) parameters.set('timeout', String(Math.round(timeoutMs)))
  for (const name of ['prefix', 'from', 'to', 'asOf'] as const) {
    if (scope[name] !== undefined) parameters.set(name, String(scope[name]))
  }
  return parameters
}

/**
 * What the instances of a group show each other: PEER_KEY, or what follows from the first API
 * key without telling it. Undefined where there is neither.
 */
export function peerSecret(peerKey: string, keys: readonly ApiKey[]): string | undefined {
  if (peerKey !== '') return peerKey
  const [first] = keys
  if (first === undefined) return undefined
  return createHmac('sha256', first.digest).update('millrace peers').digest('hex')
}

/** The same settings, with the key of the other instances let in as a reader. */
export function withPeers(auth: AuthSettings, secret: string | undefined): AuthSettings {
  if (secret === undefined) return auth
  const digest = hash('sha256', secret, 'buffer')
  return { ...auth, peers: { name: 'peers', role: 'reader', digest } }
}

/** The peers of a running service. */
export function openPeers(
  self: Peer,
  secret: string | undefined,
  { auth, logger }: { auth: AuthSettings; logger: Pick<Logger, 'warn'> },
): HttpPeers {
  if (secret === undefined && auth.tokens !== undefined) {
    logger.warn('the other instances ask for a key that this one does not have: set PEER_KEY')
  }
  return new HttpPeers({
    self,
    secret,
    id: randomUUID(),
    schedule: effects.schedule,
    random: Math.random,
    onRefused: sentence => logger.warn(sentence),
  })
}

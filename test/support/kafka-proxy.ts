/**
 * A TCP proxy that knows Kafka's frames: it reads API key, version and correlation id of every
 * request, matches the replies, and does to chosen ones what a bad network would.
 *
 *     frame   = size:int32 (request | reply)
 *     request = apiKey:int16 apiVersion:int16 correlationId:int32 ...
 *     reply   = correlationId:int32 ...
 *
 * It stands before brokers on 127.0.0.1 that know nothing of it: in the replies that tell clients
 * where brokers are, it puts its own ports in place of theirs. Each direction of a connection
 * keeps its order: what waits holds up what is behind it, as TCP does.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export const API = {
  produce: 0,
  fetch: 1,
  metadata: 3,
  offsetFetch: 9,
  findCoordinator: 10,
  createTopics: 19,
  deleteTopics: 20,
  initProducerId: 22,
  addPartitionsToTxn: 24,
  endTxn: 26,
  writeTxnMarkers: 27,
  txnOffsetCommit: 28,
  describeCluster: 60,
  streamsGroupHeartbeat: 88,
} as const

export type ApiName = keyof typeof API

export interface ProxiedMessage {
  readonly direction: 'request' | 'reply'
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
  /** What follows the correlation id. */
  readonly body: Buffer
  /** Index of the broker. */
  readonly broker: number
}

/**
 * - `drop`: it never arrives; what is behind it does.
 * - `cut`: it never arrives, and the connection is gone.
 * - `duplicate` (requests): it arrives twice; the second reply goes nowhere.
 * - `hold`: it waits for `release`. A held request arrives even if its client has gone by then.
 * - `delayMs`: it waits so long.
 * - `rewrite`: its body is what the function returns.
 */
export type Fault =
  | 'drop'
  | 'cut'
  | 'duplicate'
  | 'hold'
  | { readonly delayMs: number }
  | { readonly rewrite: (body: Buffer) => Buffer }

export interface RuleOptions {
  readonly api: ApiName
  readonly on: 'request' | 'reply'
  readonly fault: Fault
  /** The first occurrence that it is for, counted from 1 since the rule stands; default 1. */
  readonly from?: number
  /** How many it is for; default 1. */
  readonly times?: number
  /** Occurrences that count. */
  readonly when?: (message: ProxiedMessage) => boolean
}

/** A rule while it stands. Of several that fit, the oldest one is carried out. */
export class ProxyRule {
  readonly options: RuleOptions
  /** How often it was carried out. */
  hits = 0
  #seen = 0
  #isReleased = false
  readonly #waiting: (() => void)[] = []
  readonly #watchers: (() => void)[] = []

  constructor(options: RuleOptions) {
    this.options = options
  }

  /** Whether it is for this message; counts it. */
  takes(message: ProxiedMessage): boolean {
    const { api, on, from = 1, times = 1, when } = this.options
    if (API[api] !== message.apiKey || on !== message.direction) return false
    if (when !== undefined && !when(message)) return false
    this.#seen++
    if (this.#seen < from || this.hits >= times) return false
    this.hits++
    for (const watcher of this.#watchers.splice(0)) watcher()
    return true
  }

  /** Resolves when it has been carried out, or begun, `hits` times. */
  async hit(hits = 1): Promise<void> {
    while (this.hits < hits) await new Promise<void>(resolve => this.#watchers.push(resolve))
  }

  /** Lets go what is held, and holds nothing from here on. */
  release(): void {
    this.#isReleased = true
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  held(): Promise<void> {
    if (this.#isReleased) return Promise.resolve()
    return new Promise(resolve => this.#waiting.push(resolve))
  }
}

const LINGER_MS = 300

interface Expected {
  readonly apiKey: number
  readonly apiVersion: number
  /** A repetition's reply, which nobody waits for. */
  readonly isSwallowed: boolean
}

/** Both sides of one client's connection. */
class ProxiedConnection {
  readonly #client: Socket
  readonly #upstream: Socket
  readonly #broker: number
  readonly #proxy: KafkaProxy
  /** Kafka answers in order, so the oldest is the next reply's request. */
  readonly #expected: Expected[] = []
  #requests: Promise<void> = Promise.resolve()
  #replies: Promise<void> = Promise.resolve()
  isFrozen = false

  constructor(client: Socket, target: string, broker: number, proxy: KafkaProxy) {
    this.#client = client
    this.#broker = broker
    this.#proxy = proxy
    this.isFrozen = proxy.isFrozen
    const [host, port] = target.split(':')
    this.#upstream = connect({ host, port: Number(port), noDelay: true })
    client.setNoDelay(true)
    onFrames(client, frame => {
      this.#requests = this.#requests.then(() => this.#request(frame))
    })
    onFrames(this.#upstream, frame => {
      this.#replies = this.#replies.then(() => this.#reply(frame))
    })
    client.once('close', () => void this.#requests.then(() => this.#leave()))
    this.#upstream.once('close', () => {
      if (!this.isFrozen) client.destroy()
    })
  }

  cut(): void {
    this.#client.destroy()
    this.#upstream.destroy()
  }

  /** A broker may drop a request when its end of connection comes with it. */
  async #leave(): Promise<void> {
    await sleep(LINGER_MS)
    this.#upstream.end()
  }

  async #request(frame: Buffer): Promise<void> {
    if (this.isFrozen) return
    const message: ProxiedMessage = {
      direction: 'request',
      apiKey: frame.readInt16BE(4),
      apiVersion: frame.readInt16BE(6),
      correlationId: frame.readInt32BE(8),
      body: frame.subarray(12),
      broker: this.#broker,
    }
    this.#proxy.count(message)
    const { apiKey, apiVersion } = message
    const bytes = await this.#suffer(message, frame)
    if (bytes === undefined) return
    for (const [i, one] of bytes.entries()) {
      this.#expected.push({ apiKey, apiVersion, isSwallowed: i > 0 })
      this.#upstream.write(one)
    }
  }

  async #reply(frame: Buffer): Promise<void> {
    if (this.isFrozen) return
    const expected = this.#expected.shift()
    if (expected === undefined || expected.isSwallowed) return
    const message: ProxiedMessage = {
      direction: 'reply',
      ...expected,
      correlationId: frame.readInt32BE(4),
      body: frame.subarray(8),
      broker: this.#broker,
    }
    if (NAMING_BROKERS.has(message.apiKey)) this.#proxy.rename(frame)
    const bytes = await this.#suffer(message, frame)
    for (const one of bytes ?? []) this.#client.write(one)
  }

  /** What is to go on instead of the frame; undefined when nothing is. */
  async #suffer(message: ProxiedMessage, frame: Buffer): Promise<readonly Buffer[] | undefined> {
    const rule = this.#proxy.ruleFor(message)
    if (rule === undefined) return [frame]
    const { fault } = rule.options
    if (fault === 'drop') return undefined
    if (fault === 'cut') {
      this.cut()
      return undefined
    }
    if (fault === 'duplicate') return [frame, frame]
    if (fault === 'hold') await rule.held()
    else if ('delayMs' in fault) await sleep(fault.delayMs)
    else return [withBody(frame, message, fault.rewrite(message.body))]
    return this.isFrozen ? undefined : [frame]
  }
}

const NAMING_BROKERS: ReadonlySet<number> = new Set([
  API.metadata,
  API.findCoordinator,
  API.describeCluster,
])

export class KafkaProxy {
  /** Where clients connect, as `bootstrap` of the brokers. */
  readonly bootstrap: string
  #targets: readonly string[]
  readonly #servers: readonly Server[]
  readonly #rules: ProxyRule[] = []
  readonly #connections = new Set<ProxiedConnection>()
  readonly #counts = new Map<number, number>()
  #isFrozen = false

  private constructor(targets: readonly string[], servers: readonly Server[]) {
    this.#targets = targets
    this.#servers = servers
    this.bootstrap = servers.map(server => `127.0.0.1:${portOf(server)}`).join()
    for (const [broker, server] of servers.entries()) {
      server.on('connection', client => this.#accept(client, broker))
    }
  }

  /** Before the brokers at `127.0.0.1:PORT`, comma separated. */
  static async start(bootstrap: string): Promise<KafkaProxy> {
    const targets = bootstrap.split(',')
    const servers = targets.map(() => createServer())
    for (const server of servers) {
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
    }
    return new KafkaProxy(targets, servers)
  }

  get isFrozen(): boolean {
    return this.#isFrozen
  }

  /** Stands before other brokers from here on; connections that there are stay. */
  retarget(bootstrap: string): void {
    this.#targets = bootstrap.split(',')
  }

  rule(options: RuleOptions): ProxyRule {
    const rule = new ProxyRule(options)
    this.#rules.push(rule)
    return rule
  }

  /** It is carried out no more; what it holds stays held. */
  remove(rule: ProxyRule): void {
    this.#rules.splice(this.#rules.indexOf(rule), 1)
  }

  /** Removes all rules; what they hold goes on. */
  clear(): void {
    for (const rule of this.#rules.splice(0)) rule.release()
  }

  /** Requests of this kind that have come from clients so far. */
  requests(api: ApiName): number {
    return this.#counts.get(API[api]) ?? 0
  }

  /** Cuts every connection; clients may come back at once. */
  cut(): void {
    for (const connection of this.#connections) connection.cut()
  }

  /** Half-open: what is connected, or connects from here on, gets nothing through, for ever. */
  freeze(): void {
    this.#isFrozen = true
    for (const connection of this.#connections) connection.isFrozen = true
  }

  /** New connections work again. */
  thaw(): void {
    this.#isFrozen = false
  }

  async close(): Promise<void> {
    this.clear()
    for (const server of this.#servers) server.close()
    this.cut()
    await Promise.all(this.#servers.map(server => once(server, 'close')))
  }

  count({ apiKey }: ProxiedMessage): void {
    this.#counts.set(apiKey, (this.#counts.get(apiKey) ?? 0) + 1)
  }

  ruleFor(message: ProxiedMessage): ProxyRule | undefined {
    return this.#rules.find(rule => rule.takes(message))
  }

  /** Puts the proxy's ports for the brokers': a host is followed by its port in every version. */
  rename(frame: Buffer): void {
    for (const [i, target] of this.#targets.entries()) {
      const [host, port] = target.split(':') as [string, string]
      const wanted = Buffer.concat([Buffer.from(host), Buffer.alloc(4)])
      wanted.writeInt32BE(Number(port), host.length)
      for (let at = frame.indexOf(wanted); at >= 0; at = frame.indexOf(wanted, at + 1)) {
        frame.writeInt32BE(portOf(this.#servers[i]!), at + host.length)
      }
    }
  }

  #accept(client: Socket, broker: number): void {
    const connection = new ProxiedConnection(client, this.#targets[broker]!, broker, this)
    this.#connections.add(connection)
    client.once('close', () => this.#connections.delete(connection))
  }
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port
}

/** Calls back with each whole frame, its size in front. */
function onFrames(socket: Socket, take: (frame: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  socket.on('error', () => {})
  socket.on('data', chunk => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= 4) {
      const end = 4 + rest.readInt32BE(0)
      if (rest.length < end) break
      take(Buffer.from(rest.subarray(0, end)))
      rest = rest.subarray(end)
    }
  })
}

function withBody(frame: Buffer, message: ProxiedMessage, body: Buffer): Buffer {
  const header = frame.subarray(0, message.direction === 'request' ? 12 : 8)
  const bytes = Buffer.concat([header, body])
  bytes.writeInt32BE(bytes.length - 4, 0)
  return bytes
}

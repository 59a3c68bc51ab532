/**
 * TCP connections to brokers: one for each (broker, lane), opened when needed and again after a
 * pause when lost. A broker serves the requests of a connection in order, so what may wait there
 * (a long poll) has a lane of its own.
 */
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import { Connection, protocolAPIsById } from '@platformatic/kafka'
import { logError, MillraceError } from '../errors.ts'
import type { LogEnvironment } from '../port.ts'
import { kafkaError } from './errors.ts'
import { Backoff, pause } from './pause.ts'
import { librarySasl, type SaslOptions } from './sasl.ts'
import type { KafkaApi } from './wire.ts'

export interface BrokerAddress {
  readonly host: string
  readonly port: number
}

export interface ConnectionSettings {
  readonly clientId: string
  readonly environment: LogEnvironment
  /** Node's TLS options; absent: plain TCP. */
  readonly tls?: TlsOptions
  readonly sasl?: SaslOptions
  readonly connectTimeoutMs: number
  /** How long an answer may take before the connection counts as dead. */
  readonly requestTimeoutMs: (lane: string) => number
}

/** A connection, until it is lost or its session nears its end. */
interface Opened {
  readonly connection: Connection
  inFlight: number
  /** Takes no more requests, and closes after the last answer. */
  isRetired: boolean
  /** The next request opens another one. */
  readonly forget: () => void
}

/** What share of a session a connection is used for. */
const SESSION_SHARE = 0.8

interface Retry {
  readonly backoff: Backoff
  /** By the environment's clock; before it no new connection is tried. */
  notBeforeMs: number
}

export class Connections {
  readonly #settings: ConnectionSettings
  readonly #open = new Map<string, Promise<Opened>>()
  readonly #retries = new Map<string, Retry>()
  readonly #closing = new AbortController()

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
  }

  get closed(): boolean {
    return this.#closing.signal.aborted
  }

  /**
   * Sends one request. Any rejection leaves it open whether the broker acted on it, unless the
   * error's `details.sent` is false. Codes in the answer are the caller's.
   */
  async call<Args extends readonly unknown[], Result>(
    address: BrokerAddress,
    lane: string,
    api: KafkaApi<Args, Result>,
    args: Args,
  ): Promise<Result> {
    const opened = await this.#connection(address, lane, api.key)
    opened.inFlight++
    return new Promise((resolve, reject) => {
      api(opened.connection, ...args, (error, result) => {
        opened.inFlight--
        // The library closes a connection on which an answer is overdue, but not at once.
        if (error !== null && !hasResponse(error)) retire(opened)
        else closeUnused(opened)
        if (error === null) resolve(result as Result)
        else if (hasResponse<Result>(error)) resolve(error.response)
        else reject(this.#failure(error, address, api.key, true))
      })
    })
  }

  async close(): Promise<void> {
    this.#closing.abort()
    const open = [...this.#open.values()]
    this.#open.clear()
    await Promise.allSettled(open.map(async opened => (await opened).connection.close()))
  }

  async #connection(address: BrokerAddress, lane: string, apiKey: number): Promise<Opened> {
    if (this.closed) throw logError('LOG_CLOSED')
    const key = `${nameOf(address)}/${lane}`
    let opening = this.#open.get(key)
    if (opening === undefined) {
      opening = this.#connect(address, lane, () => this.#forget(key, opening))
      this.#open.set(key, opening)
    }
    try {
      return await opening
    } catch (error) {
      this.#forget(key, opening)
      if (this.closed) throw logError('LOG_CLOSED')
      throw this.#failure(error as Error, address, apiKey, false)
    }
  }

  #forget(key: string, opening: Promise<Opened> | undefined): void {
    if (this.#open.get(key) === opening) this.#open.delete(key)
  }

  async #connect(address: BrokerAddress, lane: string, forget: () => void): Promise<Opened> {
    const { environment, clientId, tls, sasl, connectTimeoutMs, requestTimeoutMs } = this.#settings
    const retry = this.#retryOf(address)
    const waitMs = retry.notBeforeMs - environment.clock()
    if (waitMs > 0) await pause(environment, waitMs, this.#closing.signal)
    if (this.closed) throw logError('LOG_CLOSED')
    let sessionMs = 0
    const onSession = (lifetimeMs: number) => {
      sessionMs = lifetimeMs
    }
    const connection = new Connection(clientId, {
      tls,
      sasl: sasl && librarySasl(sasl, onSession),
      connectTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs(lane),
    })
    // An 'error' event without a listener would end the process; requests get theirs anyway.
    connection.on('error', () => {})
    connection.on('close', forget)
    try {
      await connection.connect(address.host, address.port)
    } catch (error) {
      retry.notBeforeMs = environment.clock() + retry.backoff.nextMs()
      throw error
    }
    retry.backoff.reset()
    const opened = { connection, inFlight: 0, isRetired: false, forget }
    if (sessionMs > 0) this.#retireAfter(opened, sessionMs * SESSION_SHARE)
    return opened
  }

  #retireAfter(opened: Opened, delayMs: number): void {
    const cancel = this.#settings.environment.schedule(() => retire(opened), delayMs)
    opened.connection.on('close', cancel)
  }

  #retryOf(address: BrokerAddress): Retry {
    const name = nameOf(address)
    let retry = this.#retries.get(name)
    if (retry === undefined) {
      retry = { backoff: new Backoff(this.#settings.environment), notBeforeMs: 0 }
      this.#retries.set(name, retry)
    }
    return retry
  }

  #failure(error: Error, address: BrokerAddress, apiKey: number, sent: boolean): MillraceError {
    if (error instanceof MillraceError) return error
    const request = apiName(apiKey)
    const reason = reasonOf(error)
    const details = { broker: nameOf(address), request, reason, sent }
    if (isRefusal(error)) return kafkaError('KAFKA_AUTHENTICATION', details, { cause: error })
    // Only a parser's own error reaches here from an answer that did arrive.
    const isAnswer = sent && (error as { code?: string }).code?.startsWith('PLT_KFK_') !== true
    return kafkaError(isAnswer ? 'KAFKA_RESPONSE' : 'KAFKA_UNREACHABLE', details, { cause: error })
  }
}

function retire(opened: Opened): void {
  opened.forget()
  opened.isRetired = true
  closeUnused(opened)
}

function closeUnused({ connection, inFlight, isRetired }: Opened): void {
  if (isRetired && inFlight === 0) connection.close().catch(() => {})
}

export function nameOf({ host, port }: BrokerAddress): string {
  return `${host}:${port}`
}

export function apiName(key: number): string {
  return (protocolAPIsById as Readonly<Record<number, string>>)[key] ?? `request ${key}`
}

/** The library's parsers throw on an error code, with the whole answer beside it. */
function hasResponse<Result>(error: Error): error is Error & { response: Result } {
  return 'response' in error && error.response !== undefined
}

function causesOf(error: Error): readonly Error[] {
  const causes = [error]
  for (let next = error.cause; next instanceof Error; next = next.cause) causes.push(next)
  return causes
}

function reasonOf(error: Error): string {
  return causesOf(error)
    .map(cause => cause.message.replace(/\.$/, ''))
    .join(': ')
}

/** Credentials, certificate or protocol are wrong: trying again cannot help. */
function isRefusal(error: Error): boolean {
  const codes = causesOf(error).map(cause => (cause as { code?: string }).code ?? '')
  // A broker that goes down in the middle of a handshake.
  if (codes.includes('ECONNRESET')) return false
  const refusal = /^PLT_KFK_(AUTHENTICATION|USER)$|CERT|^ERR_(TLS|SSL)|LEAF_SIGNATURE/
  return codes.some(code => refusal.test(code))
}

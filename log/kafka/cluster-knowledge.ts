/** What is known of a cluster, shared by all views of it, and how it is reached. */
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { LogEnvironment } from '../port.ts'
import type { ApiVersions } from './cluster-apis.ts'
import { type BrokerAddress, Connections } from './connections.ts'
import type { SaslOptions } from './sasl.ts'

export const REQUEST_TIMEOUT_MS = 15_000
const CONNECT_TIMEOUT_MS = 5_000
const HEARTBEAT_TIMEOUT_MS = 5_000

export interface ClusterOptions {
  /** `host:port`, at least one. */
  readonly bootstrap: readonly string[]
  readonly environment: LogEnvironment
  /** Shows in the brokers' logs and quotas; default `millrace`. */
  readonly clientId?: string
  /** Node's TLS options; absent: plain TCP. */
  readonly tls?: TlsOptions
  readonly sasl?: SaslOptions
  readonly connectTimeoutMs?: number
  /** An answer that takes longer is lost, and its connection with it; default 15 s. */
  readonly requestTimeoutMs?: number
  /** The same where a late answer is worth nothing; default 5 s. */
  readonly heartbeatTimeoutMs?: number
  /** Topics are asked for again after this; default 60 s. */
  readonly metadataMaxAgeMs?: number
}

export interface Knowledge {
  readonly connections: Connections
  readonly bootstrap: readonly BrokerAddress[]
  readonly coordinators: Map<string, number>
  brokers: ReadonlyMap<number, BrokerAddress>
  versions: ApiVersions | undefined
  clusterId: string
  controller: number
  /** Where the next request to any broker begins. */
  turn: number
}

export function nothingKnown(options: ClusterOptions): Knowledge {
  return {
    connections: connectionsOf(options),
    bootstrap: options.bootstrap.map(parseAddress),
    coordinators: new Map(),
    brokers: new Map(),
    versions: undefined,
    clusterId: '',
    controller: -1,
    turn: 0,
  }
}

function connectionsOf(options: ClusterOptions): Connections {
  const { environment, requestTimeoutMs = REQUEST_TIMEOUT_MS } = options
  const { heartbeatTimeoutMs = HEARTBEAT_TIMEOUT_MS } = options
  return new Connections({
    clientId: options.clientId ?? 'millrace',
    environment,
    tls: options.tls,
    sasl: options.sasl,
    connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    requestTimeoutMs: lane => (lane === 'heartbeat' ? heartbeatTimeoutMs : requestTimeoutMs),
  })
}

/** `host:port`, also `[::1]:9092`; the port is 9092 when absent. */
function parseAddress(text: string): BrokerAddress {
  const { hostname, port } = new URL(`kafka://${text}`)
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port || 9092) }
}

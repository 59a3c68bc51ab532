/**
 * Messages of the live protocol `millrace.v1`, JSON text frames over the WebSocket `/v1/live`;
 * `/v1/stream/{view}` sends the same server messages as SSE events. Version 1.
 *
 *   client                                server
 *   connection_init ───────────────────▶
 *                   ◀─────────────────── connection_ack
 *   subscribe id ──────────────────────▶
 *                   ◀─────────────────── snapshot id (one or more)
 *                   ◀─────────────────── up-to-date id
 *                   ◀─────────────────── delta id …
 *   complete id ───────────────────────▶            (or complete / error id from the server)
 *
 * A `subscribe` with `resume` is answered by the missed deltas, or by `must-refetch` (drop
 * your copy) and a snapshot. Rows of a snapshot are one cut, that of `position`. A delta holds
 * the latest state of every row that changed since the position before it.
 */
import Type, { type Static } from 'typebox'
import { instanceScope } from './instance-scope.ts'

export const liveSubprotocol = 'millrace.v1'

/** Close codes: 4xxx as in graphql-transport-ws, 1xxx of RFC 6455. */
export const liveClose = {
  goingAway: 1001,
  /** The credentials that were accepted have ended: connect again with new ones. */
  sessionEnded: 1008,
  tryAgainLater: 1013,
  badMessage: 4400,
  unauthorized: 4401,
  forbidden: 4403,
  initTimeout: 4408,
  duplicateId: 4409,
  tooManyInits: 4429,
} as const

const id = Type.String({ minLength: 1, maxLength: 128 })
const closed = { additionalProperties: false }

/** Exact key fields, `prefix` of the first one, windows whose start is in `[from, to)`. */
const filter = Type.Record(
  Type.String({ maxLength: 128 }),
  Type.Union([Type.String({ maxLength: 1024 }), Type.Number()]),
)

/** One of both: an API key or a token (JWT). Without either, the upgrade's header counts. */
const secret = Type.String({ maxLength: 8192 })

export const connectionInit = Type.Object(
  {
    type: Type.Literal('connection_init'),
    payload: Type.Optional(
      Type.Object({ apiKey: Type.Optional(secret), token: Type.Optional(secret) }, closed),
    ),
  },
  closed,
)

export const subscribe = Type.Object(
  {
    type: Type.Literal('subscribe'),
    id,
    view: Type.String({ minLength: 1, maxLength: 128 }),
    filter: Type.Optional(filter),
    /** Position of the last up-to-date or delta message that was applied. */
    resume: Type.Optional(Type.String({ minLength: 1, maxLength: 16_384 })),
    /** Internal: changes of what runs on this instance alone, without rows. */
    scope: Type.Optional(Type.Literal(instanceScope)),
  },
  closed,
)

export const clientComplete = Type.Object({ type: Type.Literal('complete'), id }, closed)

const payload = Type.Optional(Type.Unknown())
export const clientPing = Type.Object({ type: Type.Literal('ping'), payload }, closed)
export const clientPong = Type.Object({ type: Type.Literal('pong'), payload }, closed)

export const clientMessage = Type.Union([
  connectionInit,
  subscribe,
  clientComplete,
  clientPing,
  clientPong,
])

export type ClientMessage = Static<typeof clientMessage>
export type SubscribeMessage = Static<typeof subscribe>
export type LiveFilter = Readonly<Record<string, string | number>>

export type LiveRow = Readonly<Record<string, unknown>>

/** `delete` rows hold the identifying fields only. */
export interface LiveChange {
  readonly op: 'upsert' | 'delete'
  readonly row: LiveRow
}

export interface AckMessage {
  readonly type: 'connection_ack'
  readonly payload: { readonly version: string; readonly heartbeatMs: number }
}

export interface SnapshotMessage {
  readonly type: 'snapshot'
  readonly id: string
  readonly view: string
  readonly position: string
  /** The fields that identify a row. */
  readonly key: readonly string[]
  readonly rows: readonly LiveRow[]
}

export interface UpToDateMessage {
  readonly type: 'up-to-date'
  readonly id: string
  readonly view: string
  readonly position: string
  /** With the scope of an instance: the partitions that deltas speak of. */
  readonly partitions?: readonly number[]
}

export interface DeltaMessage {
  readonly type: 'delta'
  readonly id: string
  readonly view: string
  readonly position: string
  readonly changes: readonly LiveChange[]
}

export interface MustRefetchMessage {
  readonly type: 'must-refetch'
  readonly id: string
  readonly view: string
}

export interface ErrorMessage {
  readonly type: 'error'
  readonly id: string
  readonly payload: { readonly code: string; readonly detail: string }
}

export interface CompleteMessage {
  readonly type: 'complete'
  readonly id: string
}

export interface PingMessage {
  readonly type: 'ping' | 'pong'
  readonly payload?: unknown
}

export type ServerMessage =
  | AckMessage
  | SnapshotMessage
  | UpToDateMessage
  | DeltaMessage
  | MustRefetchMessage
  | ErrorMessage
  | CompleteMessage
  | PingMessage

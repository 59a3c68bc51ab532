/** How reads of views run: they wait for a position, have bounds, and end when nobody waits. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { partitionsHeader } from '../contracts/instance-scope.ts'
import type { RowsQuery, Waiting } from '../streams/views.ts'
import { type ServerContext, tokenOf } from './context.ts'
import { apiError } from './errors.ts'

/** The partitions that another instance asks for, rising; undefined where a client asks. */
export function partitionsOf({ headers }: FastifyRequest): number[] | undefined {
  const text = headers[partitionsHeader]
  if (text === undefined) return undefined
  const isList = typeof text === 'string' && /^\d{1,6}(,\d{1,6})*$/.test(text)
  const partitions = isList ? text.split(',').map(Number) : []
  const isRising = partitions.every((partition, i) => i === 0 || partition > partitions[i - 1]!)
  if (partitions.length > 0 && isRising) return partitions
  throw apiError('REQUEST_MALFORMED', { reason: `${partitionsHeader} must be rising numbers` })
}

/** Runs a read that is told when its client leaves, and ended when `onStop` says so. */
async function whileAsked<T>(
  reply: FastifyReply,
  run: (signal: AbortSignal) => Promise<T>,
  onStop?: Set<() => void>,
): Promise<T> {
  const abort = new AbortController()
  const { signal } = abort
  const left = () => abort.abort(apiError('REQUEST_ABORTED'))
  const stop = () => abort.abort(apiError('SHUTTING_DOWN'))
  reply.raw.once('close', left)
  onStop?.add(stop)
  const stopped = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason))
  })
  try {
    return await Promise.race([run(signal), stopped])
  } finally {
    reply.raw.off('close', left)
    onStop?.delete(stop)
  }
}

export interface Read {
  readonly context: ServerContext
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly waitMs: number
}

/**
 * Waits until what is asked covers the token that the request carries, where it carries one, and
 * returns what the read itself has to wait for: the same, as tasks may have moved meanwhile.
 */
export async function awaitRead(
  { context, request, reply, waitMs }: Read,
  ready: (waiting: Waiting) => Promise<unknown>,
): Promise<Waiting> {
  const covering = tokenOf(request)
  if (covering === undefined) return {}
  const endMs = context.clock() + waitMs
  const wait = (signal: AbortSignal) => ready({ covering, timeoutMs: waitMs, signal })
  await whileAsked(reply, wait, context.onClose)
  return { covering, timeoutMs: Math.max(endMs - context.clock(), 0) }
}

/** Runs a short read that waits by itself. */
export function readOne<T>(
  { context, request, reply, waitMs }: Read,
  run: (waiting: Waiting) => Promise<T>,
): Promise<T> {
  const covering = tokenOf(request)
  if (covering === undefined) return whileAsked(reply, signal => run({ signal }))
  const wait = (signal: AbortSignal) => run({ covering, timeoutMs: waitMs, signal })
  return whileAsked(reply, wait, context.onClose)
}

type Bounds = Required<Pick<RowsQuery, 'signal' | 'enough'>>

/**
 * Runs a query of rows beside few others, and for so long. Those that other instances send are
 * counted apart: two instances that wait for each other must not keep each other from answering.
 */
export async function readMany<T>(
  { context, reply }: Read,
  counter: 'queriesActive' | 'peerQueriesActive',
  run: (bounds: Bounds) => Promise<T>,
): Promise<T> {
  const { metrics, limits, clock } = context
  if (metrics[counter] >= limits.queriesMax) throw apiError('OVERLOADED', { what: 'queries' })
  const endMs = clock() + limits.queryMsMax
  metrics[counter]++
  try {
    return await whileAsked(reply, signal => run({ signal, enough: () => clock() >= endMs }))
  } finally {
    metrics[counter]--
  }
}

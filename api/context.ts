/** What every route of one server shares. */
import type { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { streamsError } from '../streams/errors.ts'
import type { ViewDeclaration, ViewService } from '../streams/views.ts'
import type { AuthSettings } from './auth.ts'
import { apiError } from './errors.ts'
import type { Limits, Schedule } from './limits.ts'
import type { ServerMetrics } from './metrics.ts'
import type { FeedHolders } from './session.ts'

export interface ServerContext {
  readonly views: ViewService
  readonly auth: AuthSettings
  readonly limits: Limits
  readonly clock: () => number
  readonly schedule: Schedule
  readonly metrics: ServerMetrics
  readonly holders: FeedHolders
  readonly version: string
  /** Run once when the server begins to close; remove what has ended by itself. */
  readonly onClose: Set<() => void>
}

export const positionHeader = 'millrace-position'

/** The token that a request carries. Throws POSITION_INVALID. */
export function tokenOf(request: FastifyRequest): string | undefined {
  const token = request.headers[positionHeader]
  if (token === undefined) return undefined
  if (typeof token !== 'string' || token === '') throw streamsError('POSITION_INVALID')
  return token
}

export function hasTooManyHeaders(request: IncomingMessage, { limits }: ServerContext): boolean {
  return request.rawHeaders.length > 2 * limits.headersMax
}

export function viewNamed(views: ViewService, name: string): ViewDeclaration {
  const view = views.views().find(declared => declared.name === name)
  if (view === undefined) throw streamsError('VIEW_UNKNOWN', { view: name.slice(0, 128) })
  return view
}

/** Waits until this instance covers the token that the request carries, if it carries one. */
export async function awaitPosition(
  context: ServerContext,
  request: FastifyRequest,
  waitMs: number,
): Promise<void> {
  const token = tokenOf(request)
  if (token === undefined || (await covered(context, token, waitMs))) return
  throw streamsError('POSITION_TIMEOUT', {
    timeoutMs: waitMs,
    required: token,
    position: context.views.position(),
  })
}

/** `waitFor`, ended early by the server's close. */
async function covered(context: ServerContext, token: string, waitMs: number): Promise<boolean> {
  const waiting = context.views.waitFor(token, waitMs)
  let stop = ignore
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(apiError('SHUTTING_DOWN'))
  })
  context.onClose.add(stop)
  try {
    return await Promise.race([waiting, stopped])
  } finally {
    context.onClose.delete(stop)
  }
}

function ignore(): void {}

export function sendJson(reply: FastifyReply, body: unknown, position?: string): FastifyReply {
  if (position !== undefined) reply.header(positionHeader, position)
  return reply
    .header('cache-control', 'no-store')
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(body))
}

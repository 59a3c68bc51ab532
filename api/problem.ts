/** Errors as RFC 9457 problem details. Nothing of an error leaves but what is put here. */
import type { FastifyReply } from 'fastify'
import { commandBytesMax } from '../contracts/order-commands.ts'
import { MillraceError } from '../streams/errors.ts'
import { apiError } from './errors.ts'

export const problemType = 'application/problem+json; charset=utf-8'

export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly [extension: string]: unknown
}

/** Extension members that may leave the server, taken from the error's details. */
const published = [
  'parameter',
  'required',
  'position',
  'accepted',
  'rejected',
  'rejectedCount',
  'partition',
  'owner',
  'historyFrom',
  'asOf',
]

/** The problem document of any error; an unknown one becomes `INTERNAL` without its text. */
export function problemOf(error: unknown): Problem {
  const known = knownError(error)
  const extensions: Record<string, unknown> = {}
  for (const name of published) {
    if (known.details[name] !== undefined) extensions[name] = known.details[name]
  }
  return {
    type: `urn:millrace:error:${known.code}`,
    title: titleOf(known.code),
    status: known.status,
    code: known.code,
    detail: known.message,
    ...extensions,
  }
}

/** Answers with the problem; `extensions` are further members of the document. */
export function sendProblem(
  reply: FastifyReply,
  error: unknown,
  extensions: Readonly<Record<string, unknown>> = {},
): FastifyReply {
  const problem = problemOf(error)
  if (problem.status === 503 || problem.status === 429) {
    if (!reply.hasHeader('retry-after')) reply.header('retry-after', '1')
  }
  if (problem.status === 401) reply.header('www-authenticate', challengeOf(problem.code))
  const instance = `urn:millrace:request:${reply.request.id}`
  const body = { instance, ...extensions, ...problem }
  return reply
    .code(problem.status)
    .header('cache-control', 'no-store')
    .type(problemType)
    .send(JSON.stringify(body))
}

/** RFC 6750: a client that showed a token is told that it is the token. */
function challengeOf(code: string): string {
  const challenge = 'Bearer realm="millrace"'
  return code.startsWith('TOKEN_') ? `${challenge}, error="invalid_token"` : challenge
}

function knownError(error: unknown): MillraceError {
  if (error instanceof MillraceError) {
    // A 5xx that is not "try again" speaks of the server's inside.
    return error.status >= 500 && error.status !== 503 ? apiError('INTERNAL') : error
  }
  return fastifyError(error) ?? apiError('INTERNAL')
}

function fastifyError(error: unknown): MillraceError | undefined {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE' || statusCode === 415) {
    return apiError('MEDIA_TYPE_REFUSED', { expected: 'application/x-ndjson' })
  }
  if (code === 'FST_ERR_BAD_URL') {
    return apiError('REQUEST_MALFORMED', { reason: 'the path has a broken percent-encoding' })
  }
  if (statusCode === 404) return apiError('ROUTE_UNKNOWN', { path: 'this path' })
  // Fastify itself reads the bodies of commands alone.
  if (statusCode === 413) return apiError('BODY_TOO_LARGE', { bytesMax: commandBytesMax })
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return apiError('REQUEST_MALFORMED', { reason: 'the server could not read it' })
  }
  return undefined
}

function titleOf(code: string): string {
  const words = code.toLowerCase().replaceAll('_', ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}

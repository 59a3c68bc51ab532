/** Registration of routes: one method each, 405 for the others, a role each. */
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import type { Role } from './auth.ts'
import { apiError } from './errors.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Role that the route needs; absent: anyone may. */
    role?: Role
  }
}

export type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>

export interface RouteSettings {
  readonly role?: Role | undefined
  /** False for answers that never end. */
  readonly head?: boolean
}

const otherMethods: readonly HTTPMethods[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

export function readRoute(
  app: FastifyInstance,
  url: string,
  handler: Handler,
  settings: RouteSettings = { role: 'reader' },
): void {
  const head = settings.head ?? true
  const config = settings.role === undefined ? {} : { role: settings.role }
  app.route({ method: 'GET', url, handler, config, exposeHeadRoute: head })
  refuseMethods(app, url, head ? ['GET', 'HEAD'] : ['GET'])
}

export function writeRoute(
  app: FastifyInstance,
  url: string,
  handler: Handler,
  role: Role = 'writer',
): void {
  app.route({ method: 'POST', url, handler, config: { role } })
  refuseMethods(app, url, ['POST'])
}

function refuseMethods(app: FastifyInstance, url: string, allowed: readonly HTTPMethods[]): void {
  const allow = allowed.join(', ')
  app.route({
    method: otherMethods.filter(method => !allowed.includes(method)),
    url,
    // Before any body is looked at.
    onRequest: async (request, reply) => {
      reply.header('allow', allow)
      throw apiError('METHOD_REFUSED', { method: request.method, allow })
    },
    handler: async () => undefined,
  })
}

/** The raw text after `?`: only we decode it. */
export function searchOf(request: FastifyRequest): string {
  const url = request.raw.url ?? ''
  const mark = url.indexOf('?')
  return mark < 0 ? '' : url.slice(mark + 1)
}

/** Health, metrics, descriptions of the service. */
import type { FastifyInstance } from 'fastify'
import { asyncApi, type EventFlow } from './asyncapi.ts'
import { type ServerContext, sendJson } from './context.ts'
import { type DeadLetters, letterSamples, registerDeadLetterRoutes } from './dead-letter-routes.ts'
import { apiError } from './errors.ts'
import { openMetrics, openMetricsType, serverSamples } from './metrics.ts'
import { openApi } from './openapi.ts'
import { parseSearch, refuseUnknown } from './parameters.ts'
import { sendProblem } from './problem.ts'
import { readRoute, searchOf } from './routes.ts'

export interface Readiness {
  readonly ready: boolean
  /** Why not, a sentence for people. */
  readonly reason?: string
  /** More for the answer's body: restore progress, for instance. */
  readonly checks?: Readonly<Record<string, unknown>>
}

export interface Operations {
  readonly readiness: () => Readiness
  /** JSON, or a promise of it. */
  readonly topology: () => unknown
  readonly deadLetters: DeadLetters
  /** What the topology does with topics. */
  readonly flow: EventFlow
}

export function registerOperationRoutes(
  app: FastifyInstance,
  context: ServerContext,
  operations: Operations,
): void {
  const anyone = { role: undefined }
  readRoute(app, '/livez', async (_request, reply) => sendJson(reply, { status: 'live' }), anyone)
  registerReadiness(app, context, operations)

  readRoute(app, '/metrics', async (_request, reply) => {
    const samples = [
      ...context.views.metrics(),
      ...serverSamples(context.metrics),
      ...letterSamples(operations.deadLetters),
    ]
    reply.header('cache-control', 'no-store').type(openMetricsType)
    return reply.send(openMetrics(samples))
  })

  readRoute(app, '/openapi.json', async (_request, reply) =>
    sendJson(reply, openApi(context.views.views(), context.version)),
  )

  readRoute(app, '/asyncapi.json', async (_request, reply) =>
    sendJson(reply, asyncApi(context.views.views(), operations.flow, context.version)),
  )

  readRoute(app, '/v1/topology', async (request, reply) => {
    refuseUnknown(parseSearch(searchOf(request)), [])
    return sendJson(reply, await operations.topology())
  })

  registerDeadLetterRoutes(app, context, operations.deadLetters)
}

function registerReadiness(
  app: FastifyInstance,
  context: ServerContext,
  operations: Operations,
): void {
  const handler = async (...[, reply]: Parameters<Parameters<typeof readRoute>[2]>) => {
    const { ready, reason = 'it is starting', checks = {} } = operations.readiness()
    const body = { ...checks, tasks: context.views.tasks() }
    if (ready) return sendJson(reply, { status: 'ready', ...body })
    return sendProblem(reply, apiError('NOT_READY', { reason }), body)
  }
  readRoute(app, '/readyz', handler, { role: undefined })
}

/** `/v1/views`: declarations, rows, and one row. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { TSchema } from 'typebox'
import type { RowsQuery, ViewDeclaration } from '../streams/views.ts'
import {
  awaitPosition,
  positionHeader,
  type ServerContext,
  sendJson,
  viewNamed,
} from './context.ts'
import { apiError } from './errors.ts'
import { parseSearch, refuseAsOf, refuseUnknown, rowsRequestOf, waitMsOf } from './parameters.ts'
import { readRoute, searchOf } from './routes.ts'

export function registerViewRoutes(app: FastifyInstance, context: ServerContext): void {
  readRoute(app, '/v1/views', async (request, reply) => {
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, ['timeout'])
    await awaitPosition(context, request, waitMsOf(parameters))
    return sendJson(reply, { views: context.views.views().map(describeView) })
  })

  readRoute(app, '/v1/views/:name', async (request, reply) => {
    const view = viewNamed(context.views, (request.params as { name: string }).name)
    refuseUnknown(parseSearch(searchOf(request)), [])
    return sendJson(reply, describeView(view))
  })

  readRoute(app, '/v1/views/:name/rows', async (request, reply) => {
    const view = viewNamed(context.views, (request.params as { name: string }).name)
    const { query, waitMs } = rowsRequestOf(view, parseSearch(searchOf(request)))
    await awaitPosition(context, request, waitMs)
    const { rows, position, next } = await bounded(context, reply, bounds =>
      context.views.rows(view.name, { ...query, ...bounds }),
    )
    return sendJson(reply, { rows, position, next }, position)
  })

  readRoute(app, '/v1/views/:name/rows/*', async (request, reply) => {
    const { name, '*': key } = request.params as { name: string; '*': string }
    const view = viewNamed(context.views, name)
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, ['asOf', 'timeout'])
    refuseAsOf(parameters)
    const waitMs = waitMsOf(parameters)
    if (view.kind !== 'table') throw apiError('VIEW_NOT_TABLE', { view: name })
    await awaitPosition(context, request, waitMs)
    const { row, position } = await context.views.row(name, key)
    reply.header(positionHeader, position)
    if (row === undefined) throw apiError('ROW_MISSING', { view: name, position })
    return sendJson(reply, { row, position })
  })
}

type Bounds = Required<Pick<RowsQuery, 'signal' | 'enough'>>

/** Runs a query beside few others, for so long, and only while its client is there. */
async function bounded<T>(
  context: ServerContext,
  reply: FastifyReply,
  query: (bounds: Bounds) => Promise<T>,
): Promise<T> {
  const { metrics, limits, clock } = context
  if (metrics.queriesActive >= limits.queriesMax) throw apiError('OVERLOADED', { what: 'queries' })
  const abort = new AbortController()
  const left = () => abort.abort(apiError('REQUEST_ABORTED'))
  const endMs = clock() + limits.queryMsMax
  reply.raw.once('close', left)
  metrics.queriesActive++
  try {
    return await query({ signal: abort.signal, enough: () => clock() >= endMs })
  } finally {
    metrics.queriesActive--
    reply.raw.off('close', left)
  }
}

/** A declaration as clients see it; `schema` is that of a whole row. */
export function describeView(view: ViewDeclaration) {
  return {
    name: view.name,
    kind: view.kind,
    key: view.key.map(field => field.name),
    schema: rowSchema(view),
    units: view.units,
    description: view.description,
  }
}

/** JSON Schema of a flat row: key fields, window fields, value fields. */
export function rowSchema(view: ViewDeclaration) {
  const properties: Record<string, TSchema | object> = {}
  for (const field of view.key) properties[field.name] = { type: field.type }
  if (view.kind !== 'table') {
    const time = { type: 'integer', description: 'epoch ms' }
    properties.windowStart = time
    properties.windowEnd = time
    properties.final = {
      type: 'boolean',
      description: 'true once the window has closed: the row does not change any more',
    }
  }
  const required = [...Object.keys(properties), ...(view.value.required ?? [])]
  Object.assign(properties, view.value.properties)
  // The declaration's own object may hold non-enumerable type marks; JSON drops them.
  return JSON.parse(JSON.stringify({ type: 'object', properties, required })) as object
}

/** The fields that identify a row: key fields, and the window's bounds. */
export function identityOf(view: ViewDeclaration): string[] {
  const names = view.key.map(field => field.name)
  return view.kind === 'table' ? names : [...names, 'windowStart', 'windowEnd']
}

/** `/v1/views`: declarations, rows, and one row. */
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { TSchema } from 'typebox'
import type { PartRowsBody } from '../contracts/instance-scope.ts'
import type { PartQuery, ViewDeclaration } from '../streams/views.ts'
import {
  awaitPosition,
  positionHeader,
  type ServerContext,
  sendJson,
  viewNamed,
} from './context.ts'
import { apiError } from './errors.ts'
import { asOfOf, parseSearch, refuseUnknown, rowsRequestOf, waitMsOf } from './parameters.ts'
import { awaitRead, partitionsOf, type Read, readMany, readOne } from './reading.ts'
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
    const partitions = partitionsOf(request)
    const limitMin = partitions === undefined ? 1 : 0
    const { query, waitMs } = rowsRequestOf(view, parseSearch(searchOf(request)), limitMin)
    const read = { context, request, reply, waitMs }
    if (partitions !== undefined) return sendPartRows(read, view.name, { ...query, partitions })
    const waiting = await awaitRead(read, wait => context.views.ready(view.name, wait))
    const page = await readMany(read, 'queriesActive', bounds =>
      context.views.rows(view.name, { ...query, ...waiting, ...bounds }),
    )
    return sendJson(reply, page, page.position)
  })

  readRoute(app, '/v1/views/:name/rows/*', async (request, reply) => {
    const { name, '*': key } = request.params as { name: string; '*': string }
    const view = viewNamed(context.views, name)
    const parameters = parseSearch(searchOf(request))
    refuseUnknown(parameters, ['asOf', 'timeout'])
    const asOf = asOfOf(view, parameters)
    const partitions = partitionsOf(request)
    if (view.kind !== 'table') throw apiError('VIEW_NOT_TABLE', { view: name })
    const read = { context, request, reply, waitMs: waitMsOf(parameters) }
    const { views } = context
    const { row, position, ...answer } = await readOne(read, waiting =>
      partitions === undefined
        ? views.row(name, key, { ...waiting, ...asOf })
        : views.local.row(name, { ...waiting, ...asOf, key, partitions }),
    )
    reply.header(positionHeader, position)
    if (row === undefined) throw apiError('ROW_MISSING', { view: name, position })
    return sendJson(reply, { row, position, partitions: answer.partitions })
  })
}

/** What another instance asks for: rows of partitions that run here, with their places. */
async function sendPartRows(read: Read, view: string, query: PartQuery): Promise<FastifyReply> {
  const { local } = read.context.views
  const none = { key: {}, limit: 0, partitions: query.partitions }
  const waiting = await awaitRead(read, wait => local.rows(view, { ...none, ...wait }))
  const { rows, position, next } = await readMany(read, 'peerQueriesActive', bounds =>
    local.rows(view, { ...query, ...waiting, ...bounds }),
  )
  const body: PartRowsBody = {
    rows: rows.map(({ row }) => row),
    places: rows.map(({ key, partition }) => [key, partition]),
    position,
    next,
  }
  return sendJson(read.reply, body, position)
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
    // `historyMs` null: all of it.
    ...(view.versioned && { versioned: view.versioned }),
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

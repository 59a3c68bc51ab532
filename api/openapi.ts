/** The OpenAPI 3.1 document, made from the view declarations. */
import type { ViewDeclaration } from '../streams/views.ts'
import { deadLetterPaths, deadLetterSchemas } from './openapi-dead-letters.ts'
import { orderPaths } from './openapi-orders.ts'
import {
  answers,
  cursor,
  type Json,
  limit,
  operation,
  parameter,
  position,
  problemAnswer,
  time,
  timeout,
  tokenHeader,
} from './openapi-parts.ts'
import { searchPaths } from './openapi-search.ts'
import { tokenAlgorithms } from './tokens.ts'
import { rowSchema } from './view-routes.ts'

export function openApi(views: readonly ViewDeclaration[], version: string): Json {
  const paths: Record<string, Json> = { ...fixedPaths() }
  const schemas: Record<string, object> = { ...fixedSchemas, ...deadLetterSchemas }
  for (const view of views) {
    schemas[view.name] = rowSchema(view)
    paths[`/v1/views/${view.name}/rows`] = { get: rowsOperation(view) }
    if (view.kind === 'table') {
      paths[`/v1/views/${view.name}/rows/{key}`] = { get: rowOperation(view) }
    }
    paths[`/v1/stream/${view.name}`] = { get: streamOperation(view) }
  }
  const status = views.find(({ name }) => name === 'order-status')
  if (status !== undefined) {
    const [asOf] = asOfParameter(status)
    const shared = { problem: problemAnswer, timeout, tokenHeader, asOf: asOf! }
    Object.assign(paths, orderPaths(shared))
  }
  if (views.some(({ name }) => name === 'order-search')) Object.assign(paths, searchPaths)
  return {
    openapi: '3.1.0',
    info: { title: 'Millrace', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: '/' }],
    externalDocs: { url: '/asyncapi.json', description: 'Topics, events and the live feed.' },
    security: [{}, { apiKey: [] }, { token: [] }],
    paths,
    components: {
      schemas,
      securitySchemes: {
        apiKey: { type: 'http', scheme: 'bearer', description: 'An API key.' },
        token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: tokenText },
      },
    },
  }
}

const tokenText = `A token of the identity provider, ${tokenAlgorithms.join(', ')}.`

const nextText =
  'Cursor of the next page, null on the last. A page that took long to fill ends early.'

const consistentText =
  'True when all views show one cut of the input at this position; false when the rows come ' +
  'from several instances, each with a cut of its own, and `position` is what all of them cover.'
const partitionNumbers = { type: 'array', items: { type: 'integer' } }
const partitionsText = 'The partitions that the answer covers: all of the view.'

const fixedSchemas: Record<string, object> = {
  Problem: {
    type: 'object',
    required: ['type', 'title', 'status', 'code', 'detail'],
    properties: {
      type: { type: 'string', format: 'uri' },
      title: { type: 'string' },
      status: { type: 'integer' },
      code: { type: 'string', description: 'Stable; docs/ERRORS.md lists them.' },
      detail: { type: 'string' },
      instance: { type: 'string', format: 'uri' },
      parameter: { type: 'string', description: 'The query parameter at fault.' },
      partition: { type: 'integer', description: 'The partition that nobody answers for.' },
      owner: { type: 'string', description: 'Where it should be: host and port.' },
    },
  },
  Rejected: {
    type: 'object',
    required: ['line', 'code', 'detail'],
    properties: {
      line: { type: 'integer', minimum: 1 },
      code: { type: 'string' },
      detail: { type: 'string' },
    },
  },
}

/** What instances of a group ask each other by. */
const partitionsOfInstance = {
  name: 'Millrace-Partitions',
  in: 'header',
  description:
    'Internal, between instances: only these partitions, as far as they run on the instance that ' +
    'is asked; 503 unless all of them do. Rows come with their `places`. May change at any time.',
  schema: { type: 'string', pattern: '^\\d+(,\\d+)*$' },
  'x-internal': true,
}
/** What was is not kept any more. */
const gone = ({ versioned }: ViewDeclaration) => (versioned === undefined ? [] : [410])

/** Of views that are versioned. */
function asOfParameter({ versioned }: ViewDeclaration): Json[] {
  if (versioned === undefined) return []
  const kept =
    versioned.historyMs === Number.POSITIVE_INFINITY
      ? 'All of it is kept.'
      : `${versioned.historyMs} ms of event time are kept; 410 for what was before.`
  const what = 'Event time, epoch ms or ISO 8601: the rows are what the events up to it come to.'
  return [parameter('asOf', `${what} ${kept}`, time)]
}

function filterParameters(view: ViewDeclaration): Json[] {
  const filters = view.key.map(field => parameter(field.name, 'Exact value.', { type: field.type }))
  if (view.key[0]?.type === 'string') {
    filters.push(parameter('prefix', `Prefix of ${view.key[0].name}.`, { type: 'string' }))
  }
  if (view.kind === 'table') return filters
  const accepts = 'epoch ms or ISO 8601'
  filters.push(parameter('from', `First window start, ${accepts}.`, time))
  filters.push(parameter('to', `End of the window starts, exclusive, ${accepts}.`, time))
  return filters
}

function rowsOperation(view: ViewDeclaration): Json {
  const page = {
    type: 'object',
    required: ['rows', 'position', 'next'],
    properties: {
      rows: { type: 'array', items: { $ref: `#/components/schemas/${view.name}` } },
      position,
      consistent: { type: 'boolean', description: consistentText },
      partitions: { ...partitionNumbers, description: partitionsText },
      next: { type: ['string', 'null'], description: nextText },
    },
  }
  return operation(`${view.name}.rows`, view.description, {
    tags: ['views'],
    parameters: [
      ...filterParameters(view),
      ...asOfParameter(view),
      limit,
      cursor,
      timeout,
      tokenHeader,
      partitionsOfInstance,
    ],
    responses: answers(page, 'A page of rows in view order.', [
      400,
      401,
      409,
      ...gone(view),
      429,
      503,
    ]),
  })
}

function rowOperation(view: ViewDeclaration): Json {
  const row = {
    type: 'object',
    required: ['row', 'position'],
    properties: {
      row: { $ref: `#/components/schemas/${view.name}` },
      position,
      partitions: { ...partitionNumbers, description: 'The partitions that were looked into.' },
    },
  }
  const name = view.key.map(field => field.name).join('/')
  const key = { name: 'key', in: 'path', required: true, description: name }
  return operation(`${view.name}.row`, `One row: ${view.description}`, {
    tags: ['views'],
    parameters: [
      { ...key, schema: { type: 'string' } },
      ...asOfParameter(view),
      timeout,
      tokenHeader,
      partitionsOfInstance,
    ],
    responses: answers(row, 'The row.', [400, 401, 404, 409, ...gone(view), 429, 503]),
  })
}

function streamOperation(view: ViewDeclaration): Json {
  return operation(`${view.name}.stream`, `Live: ${view.description}`, {
    tags: ['live'],
    parameters: filterParameters(view),
    responses: {
      200: {
        description: 'Events snapshot, up-to-date, delta, must-refetch.',
        content: { 'text/event-stream': { schema: { type: 'string' } } },
      },
      400: problemAnswer,
      401: problemAnswer,
    },
  })
}

function fixedPaths(): Record<string, Json> {
  const any = { type: 'object' }
  const get = (id: string, summary: string, errors: readonly number[] = [401]) => ({
    get: operation(id, summary, {
      tags: ['operations'],
      responses: answers(any, summary, errors),
    }),
  })
  const rejected = { type: 'array', items: { $ref: '#/components/schemas/Rejected' } }
  const appended = {
    type: 'object',
    required: ['accepted', 'rejected', 'position'],
    properties: { accepted: { type: 'integer' }, rejected, position },
  }
  return {
    '/v1/views': get('views', 'Declarations of all views.'),
    '/v1/topology': get('topology', 'The topologies of the applications that run here.'),
    ...deadLetterPaths(),
    '/openapi.json': get('openApi', 'This document.'),
    '/asyncapi.json': get('asyncApi', 'Topics, events and the live feed, as AsyncAPI 3.'),
    '/livez': get('livez', 'The process answers.', []),
    '/readyz': get('readyz', 'All tasks run.', [503]),
    '/v1/events': {
      post: operation('appendEvents', 'Append events, one JSON document a line.', {
        tags: ['events'],
        parameters: [parameter('atomic', 'All lines or none.', { type: 'boolean' })],
        requestBody: {
          required: true,
          content: { 'application/x-ndjson': { schema: { type: 'string' } } },
        },
        responses: answers(appended, 'At least one line was kept.', [400, 401, 403, 413, 415, 503]),
      }),
    },
  }
}

/** What several operations of the OpenAPI document are made of. */

export type Json = Readonly<Record<string, unknown>>

export const problem = { $ref: '#/components/schemas/Problem' }
export const position = { type: 'string', description: 'Opaque consistency token.' }

export const tokenHeader = {
  name: 'Millrace-Position',
  in: 'header',
  description: 'Wait until the view covers this token.',
  schema: { type: 'string' },
}
export const timeout = parameter('timeout', 'How long to wait for the token, ms.', {
  type: 'integer',
  minimum: 0,
  maximum: 60_000,
  default: 30_000,
})
export const limit = parameter('limit', 'Rows a page.', {
  type: 'integer',
  minimum: 1,
  maximum: 1000,
  default: 100,
})
export const application = parameter('application', 'Of one application alone.', { type: 'string' })
export const cursor = parameter('cursor', '`next` of the page before.', { type: 'string' })

export const time = { anyOf: [{ type: 'integer', minimum: 0 }, { type: 'string' }] }

export function parameter(name: string, description: string, schema: Json): Json {
  return { name, in: 'query', description, schema }
}

export function answers(schema: object, description: string, errors: readonly number[]): Json {
  const responses: Record<string, Json> = {
    200: {
      description,
      headers: { 'Millrace-Position': { schema: position } },
      content: { 'application/json': { schema } },
    },
  }
  for (const status of errors) responses[status] = problemAnswer
  return responses
}

export const problemAnswer: Json = {
  description: 'A problem (RFC 9457).',
  content: { 'application/problem+json': { schema: problem } },
}

export function operation(operationId: string, summary: string, rest: Json): Json {
  return { operationId, summary, ...rest }
}

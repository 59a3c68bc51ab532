/** Orders in the OpenAPI document: commands, and what has become of an order. */
type Json = Readonly<Record<string, unknown>>

const text = { type: 'string' }
const version = { type: 'integer', description: 'Events that led here.' }
const order = { name: 'id', in: 'path', required: true, schema: text, description: 'The order.' }
const item = {
  type: 'object',
  required: ['sku', 'category', 'quantity', 'unitPriceMinor'],
  additionalProperties: false,
  properties: {
    sku: text,
    category: text,
    quantity: { type: 'integer', minimum: 1 },
    unitPriceMinor: { type: 'integer', minimum: 0, description: 'Minor currency units.' },
  },
}
const items = { type: 'array', minItems: 1, items: item }

const place = {
  required: ['customerId', 'region', 'currency', 'items'],
  properties: {
    customerId: text,
    region: text,
    currency: { type: 'string', pattern: '^[A-Z]{3}$', description: 'ISO 4217.' },
    items,
    totalMinor: { type: 'integer', description: 'The sum of the items unless given.' },
    channel: { type: ['string', 'null'] },
  },
}

const idempotencyKey = {
  name: 'Idempotency-Key',
  in: 'header',
  description:
    'For a week the same key of the same user on the same path gives the same answer; another ' +
    'command under it is a 422.',
  schema: { type: 'string', pattern: '^[\\x21-\\x7e]{1,255}$' },
}
const ifMatch = {
  name: 'If-Match',
  in: 'header',
  description: 'The ETag of the order: 412 unless it is its version.',
  schema: text,
}
const etag = { ETag: { schema: { type: 'string' }, description: 'The version, in quotes.' } }

const decided = {
  type: 'object',
  required: ['orderId', 'version', 'status', 'command', 'event', 'decidedAt'],
  properties: {
    orderId: text,
    version,
    status: { type: 'string', description: 'Of the order after the command.' },
    command: { type: 'string', description: 'Id of the command: cause of its event.' },
    event: { type: 'object', properties: { id: text, type: text } },
    decidedAt: { type: 'integer', description: 'epoch ms' },
  },
}

const told = {
  type: 'object',
  required: ['orderId', 'version', 'status', 'events', 'position'],
  properties: {
    orderId: text,
    version,
    status: text,
    events: {
      type: 'array',
      items: {
        type: 'object',
        properties: {
          id: { type: 'string', description: 'ce_id' },
          type: text,
          time: { type: 'integer', description: 'epoch ms' },
          actor: { type: ['string', 'null'] },
          correlationId: { type: ['string', 'null'] },
          causationId: { type: ['string', 'null'] },
          chain: {
            type: 'array',
            items: text,
            description: 'Ids of all that led to it, the first cause first.',
          },
          topic: text,
          partition: { type: 'integer' },
          offset: { type: 'integer' },
          value: { type: 'object', description: 'The event itself.' },
        },
      },
    },
    position: text,
  },
}

const refused = [400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503]

export interface OrderDocument {
  readonly problem: Json
  readonly timeout: Json
  readonly asOf: Json
  readonly tokenHeader: Json
}

export function orderPaths({ problem, timeout, asOf, tokenHeader }: OrderDocument): Json {
  const responses = (status: number, schema: object, errors: readonly number[]): Json => ({
    [status]: {
      description: status === 201 ? 'The order is placed.' : 'Done.',
      headers: { ...etag, 'Millrace-Position': { schema: text } },
      content: { 'application/json': { schema } },
    },
    ...Object.fromEntries(errors.map(error => [error, problem])),
  })
  const command = (operationId: string, summary: string, body: Json, rest: Json): Json => ({
    post: {
      operationId,
      summary,
      tags: ['orders'],
      requestBody: {
        required: true,
        content: {
          'application/json': { schema: { type: 'object', additionalProperties: false, ...body } },
        },
      },
      ...rest,
    },
  })
  const read = (operationId: string, summary: string, schema: object): Json => ({
    get: {
      operationId,
      summary,
      tags: ['orders'],
      parameters: [order, asOf, timeout, tokenHeader],
      responses: responses(200, schema, [400, 401, 404, 409, 429, 503]),
    },
  })
  const known = { parameters: [order, ifMatch, idempotencyKey, timeout, tokenHeader] }
  return {
    '/v1/orders': command('placeOrder', 'Place an order.', place, {
      parameters: [idempotencyKey, timeout, tokenHeader],
      responses: responses(201, decided, refused),
    }),
    '/v1/orders/{id}/items': command(
      'addItems',
      'Add items to an order that is not paid for.',
      { required: ['items'], properties: { items } },
      { ...known, responses: responses(200, decided, refused) },
    ),
    '/v1/orders/{id}/cancel': command(
      'cancelOrder',
      'Cancel an order that is not fulfilled.',
      { required: ['reason'], properties: { reason: text } },
      { ...known, responses: responses(200, decided, refused) },
    ),
    '/v1/orders/{id}': read('order', 'An order, now or as of any time.', {
      type: 'object',
      description: 'As in the view order-status, without its events.',
      required: ['orderId', 'status', 'version'],
      properties: { orderId: text, status: text, version },
    }),
    '/v1/orders/{id}/events': read('orderEvents', 'What led there, with its causes.', told),
  }
}

/** The search for orders in the OpenAPI document. */
import {
  answers,
  cursor,
  type Json,
  limit,
  operation,
  parameter,
  position,
  timeout,
  tokenHeader,
} from './openapi-parts.ts'

const words =
  'Words; each has to be, or to begin, a term of the order: its id, customer, region, status, ' +
  'products or tracking number, whole and in their parts, in any case.'

const found = {
  type: 'object',
  required: ['orders', 'truncated', 'next', 'position'],
  properties: {
    orders: {
      type: 'array',
      items: { $ref: '#/components/schemas/order-search' },
      description: 'Those with more whole words first, then the newest, then by id.',
    },
    truncated: { type: 'boolean', description: 'More match than were ranked.' },
    next: { type: ['string', 'null'], description: 'Cursor of the next page.' },
    position,
  },
}

export const searchPaths: Json = {
  '/v1/search/orders': {
    get: operation('searchOrders', 'Orders that match all words.', {
      tags: ['orders'],
      parameters: [
        { ...parameter('q', words, { type: 'string' }), required: true },
        limit,
        cursor,
        timeout,
        tokenHeader,
      ],
      responses: answers(found, 'A page of orders.', [400, 401, 404, 429, 503]),
    }),
  },
}

/**
 * `/v1/orders`: commands, and what has become of an order. Commands go through the log
 * (`order-command.ts`); orders are read from the view `order-status`.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { commandBytesMax } from '../contracts/order-commands.ts'
import type { ViewRow } from '../streams/views.ts'
import { positionHeader, type ServerContext, sendJson, viewNamed } from './context.ts'
import { apiError } from './errors.ts'
import { ask, etagOf, type OrderPorts } from './order-command.ts'
import { asOfOf, parseSearch, refuseUnknown, waitMsOf } from './parameters.ts'
import { readOne } from './reading.ts'
import { type Handler, readRoute, searchOf, writeRoute } from './routes.ts'

const view = 'order-status'

interface Event {
  readonly id: string
  readonly causationId: string | null
}

export async function registerOrderRoutes(
  root: FastifyInstance,
  context: ServerContext,
  ports: OrderPorts,
): Promise<void> {
  // In a scope of its own: its bodies are JSON, and short.
  await root.register(async app => {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer', bodyLimit: commandBytesMax },
      (_request, body, done) => done(null, body),
    )
    app.addContentTypeParser('*', (_request, _payload, done) =>
      done(apiError('MEDIA_TYPE_REFUSED', { expected: 'application/json' })),
    )
    const command =
      (type: Parameters<typeof ask>[1]): Handler =>
      (request, reply) => {
        const parameters = parseSearch(searchOf(request))
        refuseUnknown(parameters, ['timeout'])
        const asked = { context, ports, request, reply, waitMs: waitMsOf(parameters) }
        return ask(asked, type, type === 'PlaceOrder' ? undefined : idOf(request))
      }
    writeRoute(app, '/v1/orders', command('PlaceOrder'))
    writeRoute(app, '/v1/orders/:id/items', command('AddItems'))
    writeRoute(app, '/v1/orders/:id/cancel', command('CancelOrder'))
    readRoute(app, '/v1/orders/:id', async (request, reply) => {
      const { row, position, isNow } = await orderOf(context, request, reply)
      const { events: _, ...order } = row
      if (isNow) reply.header('etag', etagOf(order.version as number))
      return sendJson(reply, order, position)
    })
    readRoute(app, '/v1/orders/:id/events', async (request, reply) => {
      const { row, position } = await orderOf(context, request, reply)
      const { orderId, version, status } = row
      const events = withChains(row.events as readonly Event[])
      return sendJson(reply, { orderId, version, status, events, position }, position)
    })
  })
}

const idOf = (request: FastifyRequest) => (request.params as { id: string }).id

async function orderOf(context: ServerContext, ...[request, reply]: Parameters<Handler>) {
  const id = idOf(request)
  const parameters = parseSearch(searchOf(request))
  refuseUnknown(parameters, ['asOf', 'timeout'])
  const asOf = asOfOf(viewNamed(context.views, view), parameters)
  const read = { context, request, reply, waitMs: waitMsOf(parameters) }
  const { row, position } = await readOne(read, waiting =>
    context.views.row(view, id, { ...waiting, ...asOf }),
  )
  reply.header(positionHeader, position)
  if (row === undefined) throw apiError('ORDER_UNKNOWN', { order: id.slice(0, 128) })
  return { row: row as ViewRow, position, isNow: asOf.asOf === undefined }
}

/** Each event with the ids that led to it, the first cause first; what is not an event ends it. */
function withChains(events: readonly Event[]) {
  const byId = new Map(events.map(event => [event.id, event]))
  return events.map(event => {
    const chain: string[] = []
    for (let cause = event.causationId; cause !== null && !chain.includes(cause); ) {
      chain.unshift(cause)
      cause = byId.get(cause)?.causationId ?? null
    }
    return { ...event, chain }
  })
}

import { Parser } from '@asyncapi/parser'
import Schema from 'typebox/schema'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { allApplications } from '../../cli/applications.ts'
import { eventFlow } from '../../cli/event-flow.ts'
import { inputPartitions, inputTopics } from '../../contracts/topics.ts'
import { analyticsTopology } from '../../processors/analytics/analytics.ts'
import { planTopology } from '../../streams/plan.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'
import { FakeViews } from '../support/fake-views.ts'
import { LiveSocket } from '../support/live-socket.ts'

const servers: Server[] = []

/** The document of the real topology and its ten views. */
async function analytics(): Promise<Server> {
  const topology = analyticsTopology({ retentionMs: Number.POSITIVE_INFINITY })
  planTopology(topology, new Map(inputTopics.map(name => [name, inputPartitions])))
  const fake = new FakeViews(topology.views.map(({ declaration }) => declaration))
  const { server } = await fakeServer({ fake, flow: eventFlow([topology]) })
  servers.push(server)
  return server
}

let body: string
let document: {
  asyncapi: string
  channels: Record<string, { address: string; messages: Record<string, unknown> }>
  operations: Record<string, { action: string; channel: { $ref: string } }>
  components: { schemas: Record<string, object>; messages: Record<string, { payload: object }> }
}

beforeAll(async () => {
  body = (await (await analytics()).inject('/asyncapi.json')).body
  document = JSON.parse(body)
})

afterAll(async () => {
  for (const server of servers) await server.close()
})

async function faults(text: string): Promise<string[]> {
  const { diagnostics } = await new Parser().parse(text)
  return diagnostics
    .filter(({ severity }) => severity === 0)
    .map(({ message, path }) => `${path.join('.')}: ${message}`)
}

describe('the document', () => {
  test('is valid AsyncAPI 3', async () => {
    expect(document.asyncapi).toBe('3.0.0')
    expect(await faults(body)).toEqual([])
  })

  test('would be found invalid with a mistake', async () => {
    expect(await faults(body.replace('"action":"receive"', '"action":"listen"'))).not.toEqual([])
    expect(await faults(body.replaceAll('#/components/messages/', '#/nowhere/'))).not.toEqual([])
  })

  test('is the same whenever it is asked for', async () => {
    expect((await (await analytics()).inject('/asyncapi.json')).body).toBe(body)
  })

  test('says what the processors read and write, and what goes over the live feed', () => {
    const shown = Object.entries(document.operations).map(
      ([name, { action, channel }]) => `${name}: ${action} ${channel.$ref.split('/').at(-1)}`,
    )
    expect(shown).toEqual([
      'analytics.receive.orders: receive orders',
      'analytics.receive.payments: receive payments',
      'analytics.receive.inventory: receive inventory',
      'analytics.receive.fulfilment: receive fulfilment',
      'analytics.receive.stock: receive stock',
      'analytics.send.analytics-dead-letters: send analytics-dead-letters',
      'events.send.orders: send orders',
      'events.send.payments: send payments',
      'events.send.inventory: send inventory',
      'events.send.fulfilment: send fulfilment',
      'events.send.stock: send stock',
      'events.send.risk: send risk',
      'events.send.notifications: send notifications',
      'events.send.customers: send customers',
      'events.send.products: send products',
      'live.receive: receive live',
      'live.send: send live',
      'stream.send: send stream',
    ])
    expect(Object.keys(document.channels.payments!.messages)).toEqual([
      'PaymentAuthorized',
      'PaymentDeclined',
      'PaymentRefunded',
    ])
    expect(document.channels.stock).toMatchObject({
      description: 'The topic stock, keyed by sku; record timestamps are event time.',
      messages: { StockReceived: {} },
    })
    expect(document.components.messages.StockReceived).toMatchObject({
      bindings: { kafka: { key: { description: 'sku' } } },
    })
    expect(document.channels.live!.address).toBe('/v1/live')
    expect(Object.keys(document.components.schemas)).toContain('row.customer-profile')
  })

  test('with all applications says of each event its versions, producers and consumers', async () => {
    const flow = eventFlow(allApplications({ viewRetention: Number.POSITIVE_INFINITY }))
    const { server } = await fakeServer({ flow })
    servers.push(server)
    const { body } = await server.inject('/asyncapi.json')
    expect(await faults(body)).toEqual([])
    const { components, operations } = JSON.parse(body)
    const cancelled = components.messages.OrderCancelled
    expect(cancelled['x-producers']).toEqual(['ordering', 'order'])
    expect(cancelled['x-consumers']).toContain('notification')
    expect(cancelled['x-consumers']).not.toContain('inventory')
    expect(cancelled['x-avro-versions']).toMatchObject([
      { version: 1, id: 2 },
      { version: 2, id: 19, schema: { name: 'OrderCancelled' } },
    ])
    const said = ({ messages }: { messages: { $ref: string }[] }) =>
      messages.map(({ $ref }) => $ref.split('/').at(-1))
    expect(said(operations['order.send.orders'])).toEqual(['OrderCancelled'])
    expect(said(operations['notification.receive.fulfilment'])).toEqual(['OrderShipped'])
    expect(said(operations['analytics.receive.orders'])).toContain('OrderItemsAdded')
  })

  test('is linked from OpenAPI, and links to it', async () => {
    const openApi = (await servers[0]!.inject('/openapi.json')).json()
    expect(openApi.externalDocs.url).toBe('/asyncapi.json')
    expect(openApi.paths['/asyncapi.json']).toBeDefined()
    expect(JSON.parse(body).info.description).toContain('/openapi.json')
  })
})

test('every message that a socket gets is as the document says', async () => {
  const { server, views } = await fakeServer({ limits: { publishIntervalMs: 1 } })
  servers.push(server)
  const { components } = (await server.inject('/asyncapi.json')).json()
  views.put('order-volume', volumeRow('eu', 1, 1))
  const live = await LiveSocket.connected(await server.listen({ host: '127.0.0.1', port: 0 }))
  live.send({ type: 'subscribe', id: 's', view: 'order-volume' })
  await live.until(() => live.types().includes('up-to-date'))
  views.put('order-volume', volumeRow('eu', 1, 2), volumeRow('us', 1, 1))
  await live.until(() => live.types().includes('delta'))
  views.reset()
  live.send({ type: 'subscribe', id: 'e', view: 'nothing' })
  live.send({ type: 'ping', payload: { at: 1 } })
  const seen = () => new Set(live.types())
  await live.until(() => seen().size === 7)
  for (const message of live.messages) {
    const { payload } = components.messages[`live.server.${message.type}`]
    const whole = { ...payload, components }
    expect([message.type, Schema.Check(whole, message)]).toEqual([message.type, true])
    expect(Schema.Check(whole, { ...message, surprise: 1 })).toBe(false)
  }
  live.close()
})

test('with another topology and other views it is valid too', async () => {
  const made = await fakeServer()
  servers.push(made.server)
  expect(await faults((await made.server.inject('/asyncapi.json')).body)).toEqual([])
})

/** The live feed in the AsyncAPI document: the WebSocket channel and the event streams. */
import type { JsonSchema } from '../contracts/event-json-schema.ts'
import {
  clientComplete,
  clientPing,
  clientPong,
  connectionInit,
  liveSubprotocol,
  subscribe,
} from '../contracts/live.ts'
import { serverMessages } from '../contracts/live-schemas.ts'
import type { ViewDeclaration } from '../streams/views.ts'
import { tokenAlgorithms } from './tokens.ts'
import { rowSchema } from './view-routes.ts'

type Parts = Readonly<Record<string, JsonSchema>>

const clientMessages = {
  connection_init: connectionInit,
  subscribe,
  complete: clientComplete,
  ping: clientPing,
  pong: clientPong,
} as const

const feedMessages = ['snapshot', 'up-to-date', 'delta', 'must-refetch'] as const

/** Message types both ways share, so that names say whose they are. */
const nameOf = (side: 'client' | 'server', type: string) => `live.${side}.${type}`
const rowName = (view: ViewDeclaration) => `row.${view.name}`

export function liveParts(views: readonly ViewDeclaration[]) {
  return {
    servers,
    channels: channelsOf(views),
    operations,
    schemas: Object.fromEntries(views.map(view => [rowName(view), rowSchema(view)])),
    messages: messagesOf(views),
    securitySchemes,
  }
}

const host = {
  host: '{address}',
  variables: { address: { default: '127.0.0.1:8080', description: 'Host and port.' } },
  security: [
    { $ref: '#/components/securitySchemes/apiKey' },
    { $ref: '#/components/securitySchemes/token' },
  ],
}

const servers: Parts = {
  live: { ...host, protocol: 'ws', description: 'The live protocol.' },
  http: { ...host, protocol: 'http', description: 'Event streams.' },
}

const securitySchemes: Parts = {
  apiKey: { type: 'http', scheme: 'bearer', description: 'An API key.' },
  token: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: `A token of the identity provider, ${tokenAlgorithms.join(', ')}.`,
  },
}

function channelsOf(views: readonly ViewDeclaration[]): Parts {
  const names = [
    ...Object.keys(clientMessages).map(type => nameOf('client', type)),
    ...Object.keys(serverMessages).map(type => nameOf('server', type)),
  ]
  return {
    live: {
      address: '/v1/live',
      title: 'The live protocol',
      description: `WebSocket, subprotocol ${liveSubprotocol}, JSON text frames.`,
      servers: [{ $ref: '#/servers/live' }],
      messages: referencesOf(names),
      bindings: { ws: { method: 'GET', bindingVersion: '0.1.0' } },
    },
    stream: {
      address: '/v1/stream/{view}',
      title: 'One view as server-sent events',
      servers: [{ $ref: '#/servers/http' }],
      parameters: { view: { description: 'Its name.', enum: views.map(({ name }) => name) } },
      messages: referencesOf(feedMessages.map(type => nameOf('server', type))),
    },
  }
}

function referencesOf(names: readonly string[]): JsonSchema {
  return Object.fromEntries(names.map(name => [name, { $ref: `#/components/messages/${name}` }]))
}

function operation(action: string, channel: string, names: readonly string[], summary: string) {
  return {
    action,
    channel: { $ref: `#/channels/${channel}` },
    summary,
    messages: names.map(name => ({ $ref: `#/channels/${channel}/messages/${name}` })),
  }
}

const operations: Parts = {
  'live.receive': operation(
    'receive',
    'live',
    Object.keys(clientMessages).map(type => nameOf('client', type)),
    'What clients say.',
  ),
  'live.send': operation(
    'send',
    'live',
    Object.keys(serverMessages).map(type => nameOf('server', type)),
    'Snapshot rows, then every change of the views subscribed to.',
  ),
  'stream.send': operation(
    'send',
    'stream',
    feedMessages.map(type => nameOf('server', type)),
    'The same for one view.',
  ),
}

function messagesOf(views: readonly ViewDeclaration[]): Parts {
  const messages: Record<string, JsonSchema> = {}
  for (const [type, schema] of Object.entries(clientMessages)) {
    messages[nameOf('client', type)] = { name: type, payload: plain(schema) }
  }
  const rows = { anyOf: views.map(view => ({ $ref: `#/components/schemas/${rowName(view)}` })) }
  for (const [type, schema] of Object.entries(serverMessages)) {
    const payload = plain(schema) as { properties: Record<string, { items?: object }> }
    if (type === 'snapshot' && views.length > 0) payload.properties.rows!.items = rows
    messages[nameOf('server', type)] = { name: type, payload }
  }
  return messages
}

/** Without what only the library reads. */
function plain(schema: object): JsonSchema {
  return JSON.parse(JSON.stringify(schema)) as JsonSchema
}

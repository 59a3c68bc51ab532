/**
 * The AsyncAPI 3 document: the topics with their events, what the processors read and write,
 * and the live feed. Made from the topology, the contracts and the view declarations alone, so
 * that the same service always tells the same.
 */
import { eventCodec } from '../contracts/event-codec.ts'
import { eventJsonSchema, type JsonSchema } from '../contracts/event-json-schema.ts'
import type { EventType } from '../contracts/events.ts'
import { eventSchemas } from '../contracts/schemas.ts'
import { eventTopics, isInputTopic, keyFieldOf, timeFields } from '../contracts/topics.ts'
import type { ViewDeclaration } from '../streams/views.ts'
import { liveParts } from './asyncapi-live.ts'

/** What an application does with topics. */
export interface ApplicationFlow {
  /** Its name, also its consumer group. */
  readonly application: string
  readonly reads: readonly TopicUse[]
  /** Without dead letters. */
  readonly writes: readonly TopicUse[]
  readonly deadLetters: string
}

export interface TopicUse {
  readonly topic: string
  /** Names of the messages read or written; those of the topic unless given. */
  readonly messages?: readonly string[]
}

/** What all applications here do with topics. */
export interface EventFlow {
  readonly applications: readonly ApplicationFlow[]
  /** Topics that events may be appended to. */
  readonly inputs: readonly string[]
  /** Where the topics are: a broker, or a log that nobody connects to. */
  readonly log: { readonly protocol: string; readonly host: string; readonly description: string }
}

type Parts = Readonly<Record<string, JsonSchema>>

const eventTypes = Object.keys(eventSchemas) as EventType[]

export function asyncApi(
  views: readonly ViewDeclaration[],
  flow: EventFlow,
  version: string,
): JsonSchema {
  const live = liveParts(views)
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Millrace',
      version,
      description:
        'Real-time analytics over orders and payments. Requests and answers are in /openapi.json.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    servers: { log: flow.log, ...live.servers },
    channels: { ...topicChannels(flow), ...live.channels },
    operations: { ...topicOperations(flow), ...live.operations },
    components: {
      schemas: { EventHeaders: eventHeaders, ...payloads(), ...live.schemas },
      messages: { ...eventMessages(flow), DeadLetter: deadLetter, ...live.messages },
      securitySchemes: live.securitySchemes,
    },
  }
}

function topicsOf({ inputs, applications }: EventFlow): string[] {
  const used = applications.flatMap(({ reads, writes, deadLetters }) => [
    ...[...reads, ...writes].map(({ topic }) => topic),
    deadLetters,
  ])
  return [...new Set([...inputs, ...used])]
}

function holdsDeadLetters({ applications }: EventFlow, topic: string): boolean {
  return applications.some(({ deadLetters }) => deadLetters === topic)
}

/** The messages of a topic; one that carries no events of ours has none to tell. */
function messagesOf(flow: EventFlow, topic: string): string[] {
  if (holdsDeadLetters(flow, topic)) return ['DeadLetter']
  return isInputTopic(topic) ? eventTypes.filter(type => eventTopics[type] === topic) : []
}

function usedMessages(flow: EventFlow, { topic, messages }: TopicUse): string[] {
  const all = messagesOf(flow, topic)
  return messages === undefined ? all : all.filter(name => messages.includes(name))
}

/** One use for each topic, of all that is used of it. */
function joined(uses: readonly TopicUse[]): TopicUse[] {
  return [...new Set(uses.map(({ topic }) => topic))].map(topic => {
    const its = uses.filter(use => use.topic === topic)
    const messages = its.flatMap(use => use.messages ?? [])
    return its.every(use => use.messages) ? { topic, messages } : { topic }
  })
}

function keyed(topic: string): string {
  return isInputTopic(topic) ? `, keyed by ${keyFieldOf(topic)}` : ''
}

function topicChannels(flow: EventFlow): Parts {
  const channels: Record<string, JsonSchema> = {}
  for (const topic of topicsOf(flow)) {
    const messages = messagesOf(flow, topic).map(name => [name, reference('messages', name)])
    channels[topic] = {
      address: topic,
      description: holdsDeadLetters(flow, topic)
        ? 'Records that could not be used, with their place and the reason.'
        : `The topic ${topic}${keyed(topic)}; record timestamps are event time.`,
      servers: [{ $ref: '#/servers/log' }],
      messages: Object.fromEntries(messages),
      bindings: { kafka: { topic, bindingVersion: '0.5.0' } },
    }
  }
  return channels
}

function topicOperations(flow: EventFlow): Parts {
  const operations: Record<string, JsonSchema> = {}
  const add = (who: string, action: 'send' | 'receive', use: TopicUse, summary: string) => {
    const { topic } = use
    const name = `${who}.${action}.${topic}`
    const messages = usedMessages(flow, use).map(message => ({
      $ref: `#/channels/${topic}/messages/${message}`,
    }))
    operations[name] = { action, channel: { $ref: `#/channels/${topic}` }, summary, messages }
  }
  for (const { application, reads, writes, deadLetters } of flow.applications) {
    for (const use of joined(reads)) {
      add(application, 'receive', use, `What ${application} processes.`)
    }
    for (const use of joined(writes)) {
      add(application, 'send', use, `What ${application} results in.`)
    }
    add(application, 'send', { topic: deadLetters }, 'What could not be processed.')
  }
  for (const topic of flow.inputs) {
    add('events', 'send', { topic }, 'What POST /v1/events appends.')
  }
  return operations
}

function reference(kind: 'messages' | 'schemas', name: string) {
  return { $ref: `#/components/${kind}/${name}` }
}

const text = { type: 'string' }

const eventHeaders: JsonSchema = {
  type: 'object',
  description: 'Record headers, UTF-8: CloudEvents attributes, and where the event came from.',
  required: ['ce_id', 'ce_type', 'ce_source', 'ce_time', 'ce_specversion'],
  properties: {
    ce_id: { ...text, description: 'Identifies the event: a second record with it is dropped.' },
    ce_type: { ...text, description: 'Name of the message.' },
    ce_source: text,
    ce_time: { ...text, format: 'date-time' },
    ce_specversion: { const: '1.0' },
    traceparent: text,
    correlationid: text,
    causationid: text,
    actor: text,
  },
}

function payloads(): Parts {
  return Object.fromEntries(eventTypes.map(type => [type, eventJsonSchema(type)]))
}

function eventMessages(flow: EventFlow): Parts {
  return Object.fromEntries(eventTypes.map(type => [type, eventMessage(flow, type)]))
}

/** Every version that may stand in the topic. */
function versionsOf(type: EventType) {
  const versions = eventCodec.schemas.versions(type)
  return versions.map(({ id, schema }, at) => ({ version: at + 1, id, schema }))
}

/** Applications that write events of the type. Whoever may append events can do so, too. */
export function producersOf(flow: EventFlow, type: EventType): string[] {
  return users(flow, type, ({ writes }) => writes)
}

export function consumersOf(flow: EventFlow, type: EventType): string[] {
  return users(flow, type, ({ reads }) => reads)
}

function users(
  flow: EventFlow,
  type: EventType,
  usesOf: (application: ApplicationFlow) => readonly TopicUse[],
): string[] {
  const uses = ({ topic, messages }: TopicUse) =>
    topic === eventTopics[type] && messages?.includes(type) !== false
  return flow.applications.filter(one => usesOf(one).some(uses)).map(one => one.application)
}

function eventMessage(flow: EventFlow, type: EventType): JsonSchema {
  const { id, schema } = eventCodec.schemas.current(type)
  return {
    name: type,
    title: type,
    contentType: 'application/vnd.confluent.avro',
    description: `Event time is ${timeFields[type]}. On the wire: 0x00, schema id, Avro binary.`,
    headers: reference('schemas', 'EventHeaders'),
    payload: reference('schemas', type),
    bindings: {
      kafka: {
        key: { ...text, description: keyFieldOf(eventTopics[type]) },
        schemaIdLocation: 'payload',
        schemaIdPayloadEncoding: 'confluent',
        bindingVersion: '0.5.0',
      },
    },
    'x-avro-schema-id': id,
    'x-avro-schema': schema,
    'x-avro-versions': versionsOf(type),
    'x-producers': producersOf(flow, type),
    'x-consumers': consumersOf(flow, type),
  }
}

const deadLetter: JsonSchema = {
  name: 'DeadLetter',
  title: 'A record that could not be used',
  contentType: 'application/octet-stream',
  headers: {
    type: 'object',
    required: ['dl_reason', 'dl_detail', 'dl_step', 'dl_topic', 'dl_partition', 'dl_offset'],
    properties: {
      dl_reason: { ...text, description: 'late, null-key, poison, duplicate, overflow.' },
      dl_detail: text,
      dl_step: { ...text, description: 'Name of the step that put it aside.' },
      dl_topic: { ...text, description: 'Where it came from.' },
      dl_partition: text,
      dl_offset: text,
    },
  },
  payload: { description: 'The bytes of the record, as they were.' },
}

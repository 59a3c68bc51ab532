/**
 * The AsyncAPI 3 document: the topics with their events, what the processors read and write,
 * and the live feed. Made from the topology, the contracts and the view declarations alone, so
 * that the same service always tells the same.
 */
import { eventJsonSchema, type JsonSchema } from '../contracts/event-json-schema.ts'
import type { EventType } from '../contracts/events.ts'
import { eventSchemas, fixedSchemas } from '../contracts/schemas.ts'
import { eventTopics, isInputTopic, timeFields } from '../contracts/topics.ts'
import type { ViewDeclaration } from '../streams/views.ts'
import { liveParts } from './asyncapi-live.ts'

/** What a topology does with topics. */
export interface EventFlow {
  /** The topology's name, also its consumer group. */
  readonly application: string
  readonly reads: readonly string[]
  /** Without dead letters. */
  readonly writes: readonly string[]
  readonly deadLetters: string
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
      messages: { ...eventMessages(), DeadLetter: deadLetter, ...live.messages },
      securitySchemes: live.securitySchemes,
    },
  }
}

function topicsOf({ inputs, reads, writes, deadLetters }: EventFlow): string[] {
  return [...new Set([...inputs, ...reads, ...writes, deadLetters])]
}

/** The messages of a topic; one that carries no events of ours has none to tell. */
function messagesOf(flow: EventFlow, topic: string): string[] {
  if (topic === flow.deadLetters) return ['DeadLetter']
  return isInputTopic(topic) ? eventTypes.filter(type => eventTopics[type] === topic) : []
}

function topicChannels(flow: EventFlow): Parts {
  const channels: Record<string, JsonSchema> = {}
  for (const topic of topicsOf(flow)) {
    const messages = messagesOf(flow, topic).map(name => [name, reference('messages', name)])
    channels[topic] = {
      address: topic,
      description:
        topic === flow.deadLetters
          ? 'Records that could not be used, with their place and the reason.'
          : `The topic ${topic}, keyed by orderId; record timestamps are event time.`,
      servers: [{ $ref: '#/servers/log' }],
      messages: Object.fromEntries(messages),
      bindings: { kafka: { topic, bindingVersion: '0.5.0' } },
    }
  }
  return channels
}

function topicOperations(flow: EventFlow): Parts {
  const { application, reads, writes, deadLetters, inputs } = flow
  const operations: Record<string, JsonSchema> = {}
  const add = (name: string, action: 'send' | 'receive', topic: string, summary: string) => {
    operations[name] = {
      action,
      channel: { $ref: `#/channels/${topic}` },
      summary,
      messages: messagesOf(flow, topic).map(message => ({
        $ref: `#/channels/${topic}/messages/${message}`,
      })),
    }
  }
  for (const topic of reads) {
    add(`${application}.receive.${topic}`, 'receive', topic, `What ${application} processes.`)
  }
  for (const topic of writes) {
    add(`${application}.send.${topic}`, 'send', topic, `What ${application} results in.`)
  }
  add(`${application}.send.${deadLetters}`, 'send', deadLetters, 'What could not be processed.')
  for (const topic of inputs) {
    add(`events.send.${topic}`, 'send', topic, 'What POST /v1/events appends.')
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

function eventMessages(): Parts {
  return Object.fromEntries(eventTypes.map(type => [type, eventMessage(type)]))
}

function eventMessage(type: EventType): JsonSchema {
  const { id, schema } = fixedSchemas.current(type)
  return {
    name: type,
    title: type,
    contentType: 'application/vnd.confluent.avro',
    description: `Event time is ${timeFields[type]}. On the wire: 0x00, schema id, Avro binary.`,
    headers: reference('schemas', 'EventHeaders'),
    payload: reference('schemas', type),
    bindings: {
      kafka: {
        key: { ...text, description: 'orderId' },
        schemaIdLocation: 'payload',
        schemaIdPayloadEncoding: 'confluent',
        bindingVersion: '0.5.0',
      },
    },
    'x-avro-schema-id': id,
    'x-avro-schema': schema,
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

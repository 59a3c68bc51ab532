/**
 * Avro events beside a schema registry (Apicurio, with Confluent's API) and a deserializer of
 * others: the registry client of the kafkajs project.
 */
import { SchemaRegistry, SchemaType } from '@kafkajs/confluent-schema-registry'
import { Kafka, logLevel, Partitioners } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EventCodec } from '../../../contracts/event-codec.ts'
import type { BusinessEvent, EventType } from '../../../contracts/events.ts'
import {
  type EventSchema,
  fixedSchemas,
  type SchemaDirectory,
  schemaHistory,
} from '../../../contracts/schemas.ts'
import { json, Topology, textKey, type ValueSerde } from '../../../streams/index.ts'
import { type Application, startApplication } from '../../support/kafka/application.ts'
import { readCommitted } from '../../support/kafka/read-committed.ts'
import { type RegistryUnderTest, startRegistry } from '../../support/kafka/registry.ts'
import {
  describeOnKafka,
  kafkaIsMissing,
  ownName,
  START_MS_MAX,
  sharedRegistry,
} from '../../support/kafka/shared.ts'
import { makeBatch } from '../batches.ts'
import { openLog } from './environment.ts'
import { readByMillrace } from './interop.ts'

function clientOf(url: string): SchemaRegistry {
  return new SchemaRegistry({ host: url })
}

/** Registers every version of the events' schemas, in the order of the fixed ids. */
async function register(registry: SchemaRegistry, subject: (type: EventType) => string) {
  const rows: EventSchema[] = []
  for (const { type, schema } of schemaHistory) {
    const document = { type: SchemaType.AVRO, schema: JSON.stringify(schema) } as const
    const { id } = await registry.register(document, { subject: subject(type) })
    rows.push({ id, type, schema })
  }
  return rows
}

function directoryOf(rows: readonly EventSchema[]): SchemaDirectory {
  return {
    byId: id => rows.find(one => one.id === id),
    current: type => rows.findLast(one => one.type === type)!,
    versions: type => rows.filter(one => one.type === type),
  }
}

const atMs = Date.UTC(2026, 0, 5, 12)
const payment = {
  paymentId: 'p-1',
  orderId: 'o-žluťoučký-🐎',
  amountMinor: 2 ** 40 + 1,
  currency: 'EUR',
  method: 'card',
}
const events: readonly BusinessEvent[] = [
  {
    type: 'OrderCreated',
    orderId: 'o-1',
    customerId: 'c-1',
    region: 'eu-west',
    currency: 'EUR',
    items: [
      { sku: 'a', category: 'fruit', quantity: 3, unitPriceMinor: 199 },
      { sku: 'b', category: 'bread', quantity: 1, unitPriceMinor: 0 },
    ],
    totalMinor: 597,
    createdAt: atMs,
    channel: 'app',
  },
  { type: 'PaymentAuthorized', ...payment, authorizedAt: atMs + 1 },
  { type: 'PaymentDeclined', ...payment, reason: 'no funds', declinedAt: atMs + 2 },
  { type: 'OrderCancelled', orderId: 'o-1', reason: 'no', cancelledAt: 1, cancelledBy: null },
]

function withoutType({ type: _, ...fields }: BusinessEvent): Readonly<Record<string, unknown>> {
  return fields
}

describeOnKafka('events with the ids of a registry', kafka => {
  const application = ownName('registry')
  const input = `${application}-in`
  const output = `${application}-out`
  let registry: SchemaRegistry
  let schemas: SchemaDirectory
  let codec: EventCodec
  let running: Application | undefined

  beforeAll(async () => {
    registry = clientOf(await sharedRegistry())
    schemas = directoryOf(await register(registry, type => `${output}-${type}`))
    codec = new EventCodec(schemas)
  }, START_MS_MAX)
  afterAll(() => running?.stop())

  const avro: ValueSerde<BusinessEvent> = {
    encode: event => codec.encode(event),
    decode: (bytes, start, end) => codec.decode(bytes, start, end),
  }

  test('an output topic is read by a deserializer that asks the registry', async () => {
    const topology = new Topology(application)
    topology
      .stream(input, { key: textKey(), value: json<BusinessEvent>() })
      .to(output, { key: textKey(), value: avro })
    running = await startApplication({ bootstrap: kafka.bootstrap, topology })
    const { log } = running
    const transaction = log.begin()
    const records = events.map((event, i) => ({
      key: `k-${i}`,
      value: JSON.stringify(event),
      timestampMs: atMs,
    }))
    transaction.append({ topic: input, partition: 0 }, makeBatch(records))
    await transaction.commit()
    const written = async () =>
      (await readCommitted(kafka.bootstrap, [output]))
        .get(output)!
        .toSorted((a, b) => (String(a.key) < String(b.key) ? -1 : 1))
    await expect.poll(async () => (await written()).length).toBe(events.length)
    for (const [i, { value }] of (await written()).entries()) {
      const event = events[i]!
      expect([value![0], value!.readUInt32BE(1)]).toEqual([0, schemas.current(event.type).id])
      expect({ ...(await registry.decode(value!)) }).toEqual(withoutType(event))
    }
  })

  test('what a serializer of others wrote is read, key, value and time', async () => {
    const topic = ownName('registry-foreign')
    const log = await openLog(kafka.bootstrap)
    try {
      await log.createTopic(topic, 1)
      const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
      const producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
      await producer.connect()
      const encoded = events.map(event =>
        registry.encode(schemas.current(event.type).id, withoutType(event)),
      )
      const messages = (await Promise.all(encoded)).map(value => ({ key: 'k', value }))
      await producer.send({ topic, messages })
      await producer.disconnect()
      const { records } = await readByMillrace(log, topic)
      const values = records.flat().map(({ value }) => codec.decode(value!, 0, value!.length))
      expect(values).toEqual(events)
    } finally {
      await log.close()
    }
  })
})

describe.skipIf(kafkaIsMissing !== undefined)('events with the fixed ids', () => {
  let registry: RegistryUnderTest

  beforeAll(async () => {
    registry = await startRegistry()
  }, START_MS_MAX)
  afterAll(() => registry?.stop())

  test('are those of an empty registry that is given the schemas in their order', async () => {
    const client = clientOf(registry.url)
    const rows = await register(client, type => type)
    expect(rows.map(({ id }) => id)).toEqual(schemaHistory.map(({ id }) => id))
    const codec = new EventCodec(fixedSchemas)
    for (const event of events) {
      expect({ ...(await client.decode(codec.encode(event))) }).toEqual(withoutType(event))
    }
  })
})

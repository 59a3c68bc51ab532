/** The registry of the embedded log: what is in its topic is there after a restart. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { SchemaTopic, schemaTopic } from '../../cli/schema-topic.ts'
import { connectSchemas } from '../../cli/schemas.ts'
import { parseAvro } from '../../contracts/avro-schema.ts'
import { EventCodec, encodeEvent, eventCodec } from '../../contracts/event-codec.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { RegistryDirectory, registerEvents, subjectOf } from '../../contracts/schema-registry.ts'
import { eventSchemas, fixedSchemas, schemaHistory } from '../../contracts/schemas.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'

const logger = { info() {}, warn() {} }
const event: BusinessEvent = { type: 'OrderShipped', orderId: 'o', tracking: 't', shippedAt: 1 }

let log: EmbeddedLog

beforeEach(async () => {
  log = await openEmbeddedLog(new MemoryDatabase(), effects)
})
afterEach(async () => {
  eventCodec.use(fixedSchemas)
  await log.close()
})

const records = async () =>
  (await log.offsets([{ topic: schemaTopic, partition: 0 }]))[0]!.endOffset

test('its first ids are the fixed ones: what was written with those is read', async () => {
  const bytes = schemaHistory.map(({ id }) => id)
  const before = encodeEvent(event)
  await connectSchemas(log, { logger })
  const { schemas } = eventCodec
  expect(bytes.map(id => schemas.byId(id))).toEqual(
    schemaHistory.map(({ id, type, schema }) => ({ id, type, schema })),
  )
  expect(encodeEvent(event)).toEqual(before)
  expect(eventCodec.decode(before, 0, before.length)).toEqual(event)
})

test('another start finds all of it there and writes nothing', async () => {
  await connectSchemas(log, { logger })
  const first = await records()
  const subjects = new Set(schemaHistory.map(({ schema }) => subjectOf(schema)))
  expect(first).toBe(schemaHistory.length + subjects.size)
  await connectSchemas(log, { logger })
  expect(await records()).toBe(first)
  await connectSchemas(log, { logger, compatibility: () => 'FULL' })
  expect(await records()).toBe(first + subjects.size)
})

test('a later version gets the next id, and this one reads what it wrote', async () => {
  await connectSchemas(log, { logger })
  const { OrderShipped } = eventSchemas
  const carrier = { name: 'carrier', type: ['null', 'string'], default: null } as const
  const later = { ...OrderShipped, fields: [...OrderShipped.fields, carrier] }
  const topic = await SchemaTopic.open(log, effects.clock)
  const id = await topic.register(subjectOf(later), parseAvro(later))
  await topic.flush()
  expect(id).toBe(schemaHistory.length + 1)
  const rows = [{ id, type: 'OrderShipped' as const, schema: later }]
  const written = new EventCodec(
    new RegistryDirectory({ registry: topic, rows, clock: effects.clock }),
  ).encode(event)
  await connectSchemas(log, { logger })
  expect(() => eventCodec.decode(written, 0, written.length)).toThrow('looked up: id')
  await expect.poll(() => eventCodec.decode(written, 0, written.length)).toEqual(event)
})

test('an incompatible version is refused, with the reason', async () => {
  await connectSchemas(log, { logger })
  const topic = await SchemaTopic.open(log, effects.clock)
  const { OrderShipped } = eventSchemas
  const schema = { ...OrderShipped, fields: [{ name: 'weight', type: 'int' as const }] }
  const history = [{ type: 'OrderShipped' as const, version: 2, schema }]
  await expect(registerEvents(topic, { history })).rejects.toThrow(
    'millrace.fulfilment.OrderShipped: not BACKWARD compatible with version 1: OrderShipped lacks weight',
  )
})

/**
 * The service beside a real schema registry: what producers of a later version write is read, what
 * nobody can read is put aside with its reason, and a registry that is down only holds up.
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { SchemaRegistry, SchemaType } from '@kafkajs/confluent-schema-registry'
import { Kafka, logLevel, Partitioners, type Producer } from 'kafkajs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AvroRecord } from '../../contracts/avro-schema.ts'
import { subjectOf } from '../../contracts/schema-registry.ts'
import { eventSchemas, schemaHistory } from '../../contracts/schemas.ts'
import { type KafkaUnderTest, startKafka, steady } from '../support/kafka/kafka.ts'
import { type RegistryUnderTest, startRegistry } from '../support/kafka/registry.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { ServiceProcess, scratchFolder } from '../support/service-process.ts'

/** Stands before a server, and can be taken away: connections are then refused and cut. */
class Door {
  readonly #port: number
  readonly #open = new Set<Socket>()
  #server: Server | undefined
  port = 0

  constructor(port: number) {
    this.#port = port
  }

  async up(): Promise<void> {
    const server = createServer(client => {
      const target = connect(this.#port, '127.0.0.1')
      for (const [from, to] of [
        [client, target],
        [target, client],
      ] as const) {
        this.#open.add(from)
        from.pipe(to)
        from.on('error', () => to.destroy())
        from.on('close', () => {
          this.#open.delete(from)
          to.destroy()
        })
      }
    })
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async down(): Promise<void> {
    this.#server?.close()
    for (const socket of this.#open) socket.destroy()
    if (this.#server !== undefined) await once(this.#server, 'close')
    this.#server = undefined
  }
}

const atMs = Date.now() - 3_600_000
/** How long the registry is away while events are read. */
const OUTAGE_MS = 30_000
const subject = 'millrace.orders.OrderCreated'

/** OrderCreated as a producer of a later version has it: with fields that are new to us. */
function later(...names: string[]): AvroRecord {
  const fields = names.map(name => ({ name, type: ['null', 'string'] as const, default: null }))
  return { ...eventSchemas.OrderCreated, fields: [...eventSchemas.OrderCreated.fields, ...fields] }
}

const order = (orderId: string, more: object = {}) => ({
  orderId,
  customerId: `c-${orderId}`,
  region: 'eu',
  currency: 'EUR',
  items: [],
  totalMinor: 500,
  createdAt: atMs,
  channel: 'app',
  ...more,
})

describe.skipIf(kafkaIsMissing !== undefined)('a service with a schema registry', () => {
  const closing: (() => Promise<unknown>)[] = []
  let kafka: KafkaUnderTest
  let registry: RegistryUnderTest
  let foreign: SchemaRegistry
  let producer: Producer
  let door: Door
  let service: ServiceProcess
  let folder: string
  let counted = 0

  const settings = () => ({
    MILLRACE_BROKERS: kafka.bootstrap,
    REGISTRY_URL: `http://127.0.0.1:${door.port}${new URL(registry.url).pathname}`,
    SERVICES: 'off',
    LEAVE_ON_STOP: 'on',
    LOG_LEVEL: 'warn',
  })

  async function start(environment: NodeJS.ProcessEnv = {}): Promise<ServiceProcess> {
    const started = await ServiceProcess.start(join(folder, 'data'), ['--no-demo'], {
      ...settings(),
      ...environment,
    })
    closing.push(() => started.kill())
    while (!(await fetch(`${started.url}/readyz`)).ok) await sleep(50)
    return started
  }

  /** The id that the registry gives a schema; asked directly, whatever the service can reach. */
  async function idOf(schema: AvroRecord): Promise<number> {
    const document = { type: SchemaType.AVRO, schema: JSON.stringify(schema) } as const
    return (await foreign.register(document, { subject })).id
  }

  async function send(id: number, value: { orderId: string }, partition: number): Promise<void> {
    await sendBytes(await foreign.encode(id, value), value.orderId, partition)
  }

  async function sendBytes(value: Buffer, key: string, partition: number): Promise<void> {
    const timestamp = String(atMs)
    await producer.send({ topic: 'orders', messages: [{ key, value, partition, timestamp }] })
  }

  async function post(orderId: string): Promise<string> {
    const value = order(orderId)
    const line = { topic: 'orders', type: 'OrderCreated', key: orderId, timestamp: atMs, value }
    return service.post([JSON.stringify(line)])
  }

  async function orders(): Promise<number> {
    const path = '/v1/views/order-volume/rows?limit=1000'
    const { rows } = await service.get<{ rows: { orders: number }[] }>(path)
    return rows.reduce((sum, row) => sum + row.orders, 0)
  }

  async function letters(): Promise<readonly Record<string, unknown>[]> {
    const path = '/v1/dead-letters'
    return (await service.get<{ deadLetters: Record<string, unknown>[] }>(path)).deadLetters
  }

  beforeAll(async () => {
    const scratch = await scratchFolder()
    closing.push(scratch.remove)
    folder = scratch.path
    kafka = await startKafka({ config: steady })
    closing.push(() => kafka.destroy())
    registry = await startRegistry()
    closing.push(() => registry.stop())
    door = new Door(Number(new URL(registry.url).port))
    closing.push(() => door.down())
    await door.up()
    foreign = new SchemaRegistry({ host: registry.url })
    const client = new Kafka({ brokers: [kafka.bootstrap], logLevel: logLevel.NOTHING })
    producer = client.producer({ createPartitioner: Partitioners.DefaultPartitioner })
    closing.push(() => producer.disconnect())
    service = await start()
    await producer.connect()
  }, START_MS_MAX)

  afterAll(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  test('registers every version, BACKWARD, with the ids in their order', async () => {
    const ask = async (path: string) => (await (await fetch(registry.url + path)).json()) as unknown
    expect(await ask(`/config/${subject}`)).toEqual({ compatibilityLevel: 'BACKWARD' })
    expect(await ask(`/subjects/${subject}/versions`)).toEqual([1, 2])
    const subjects = new Set(schemaHistory.map(({ schema }) => subjectOf(schema)))
    expect(new Set((await ask('/subjects')) as string[])).toEqual(subjects)
    for (const { id, schema } of schemaHistory) {
      expect(await ask(`/schemas/ids/${id}`)).toMatchObject({ schema: JSON.stringify(schema) })
    }
  })

  test('orders of the first version, of ours and of a later one count alike', async () => {
    await send(await idOf(schemaHistory[0]!.schema), order('first'), 0)
    await post('ours')
    await send(await idOf(later('giftWrap')), order('later', { giftWrap: 'red' }), 1)
    counted += 3
    await expect.poll(orders, { timeout: 20_000 }).toBe(counted)
    expect(await letters()).toEqual([])
  })

  test('an id that the registry does not have is a dead letter that says so', async () => {
    const value = await foreign.encode(await idOf(later('giftWrap')), order('unknown'))
    value.writeUInt32BE(424_242, 1)
    await sendBytes(value, 'unknown', 0)
    await expect.poll(async () => (await letters()).length, { timeout: 20_000 }).toBe(1)
    const [letter] = await letters()
    expect(letter).toMatchObject({ reason: 'poison', topic: 'orders', partition: 0 })
    expect(String(letter!.detail)).toContain('id 424242: the registry has no schema of that id')
  })

  test('while the registry is down the partition waits, others go on, and nothing is lost', async () => {
    const id = await idOf(later('giftWrap', 'giftCard'))
    await door.down()
    const downMs = Date.now()
    for (let i = 0; i < 5; i++) await send(id, order(`held-${i}`), 2)
    const ours = await idOf(eventSchemas.OrderCreated)
    // What is known needs no registry; what is behind the held records waits with them.
    await send(ours, order('free'), 3)
    await send(ours, order('behind'), 2)
    await expect.poll(orders, { timeout: 20_000 }).toBe(counted + 1)
    await expect
      .poll(() => service.stderr, { timeout: 20_000 })
      .toContain('the schema registry cannot be asked')
    await sleep(Math.max(downMs + OUTAGE_MS - Date.now(), 0))
    expect(await orders()).toBe(counted + 1)
    expect((await letters()).length).toBe(1)
    expect((await fetch(`${service.url}/readyz`)).ok).toBe(true)
    await door.up()
    counted += 7
    await expect.poll(orders, { timeout: 30_000 }).toBe(counted)
    expect((await letters()).length).toBe(1)
  })

  test('the rule can be chosen, for all subjects and for some', async () => {
    await service.stop()
    const rules = 'FORWARD_TRANSITIVE,OrderCreated:FULL,millrace.payments.PaymentDeclined:NONE'
    service = await start({ SCHEMA_COMPATIBILITY: rules })
    const ruleOf = async (name: string) => {
      return (await fetch(`${registry.url}/config/${name}`)).json() as Promise<unknown>
    }
    expect(await ruleOf(subject)).toEqual({ compatibilityLevel: 'FULL' })
    const other = 'millrace.payments.PaymentAuthorized'
    expect(await ruleOf(other)).toEqual({ compatibilityLevel: 'FORWARD_TRANSITIVE' })
    await service.stop()
    service = await start()
    expect(await ruleOf(other)).toEqual({ compatibilityLevel: 'BACKWARD' })
    expect(await orders()).toBe(counted)
  })

  test('a service that starts while the registry is down waits for it', async () => {
    await service.stop()
    await door.down()
    const starting = start()
    await sleep(3000)
    await door.up()
    service = await starting
    // What stands in its state was written with ids that it has to look up anew.
    await post('again')
    counted += 1
    await expect.poll(orders, { timeout: 30_000 }).toBe(counted)
  })

  test('an incompatible schema refuses the start, with what the registry says', async () => {
    await service.stop()
    const other = 'millrace.stock.StockReceived'
    await fetch(`${registry.url}/subjects/${other}`, { method: 'DELETE' })
    const document = { ...eventSchemas.StockReceived, fields: [{ name: 'sku', type: 'string' }] }
    await foreign.register(
      { type: SchemaType.AVRO, schema: JSON.stringify(document) },
      { subject: other },
    )
    const failed = await start().catch((error: Error) => error.message)
    expect(failed).toContain(`does not fit what the registry has: ${other}: `)
    expect(failed).toMatch(/quantity.*choose another SCHEMA_COMPATIBILITY/)
    expect(failed).not.toContain('.ts:')
  })
})

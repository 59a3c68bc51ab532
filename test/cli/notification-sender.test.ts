/** Messages of shipped orders: the event is thin, and the sender fetches the rest over HTTP. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { remote } from '../../cli/connection.ts'
import { effects } from '../../cli/effects.ts'
import { NotificationSender, notificationTopic, openOutbox } from '../../cli/notification-sender.ts'
import { type OrderOf, shippedOrders } from '../../cli/shipped-orders.ts'
import { EventCodec } from '../../contracts/event-codec.ts'
import { RegistryDirectory, type SchemaRegistry } from '../../contracts/schema-registry.ts'
import { eventSchemas, schemaHistory } from '../../contracts/schemas.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { mug, placed } from '../support/orders-client.ts'
import { OrdersService } from '../support/orders-service.ts'
import { scratchFolder } from '../support/service-process.ts'

let service: OrdersService
const closing: (() => Promise<unknown>)[] = []
beforeAll(async () => {
  service = await OrdersService.open()
})
afterAll(async () => {
  for (const close of closing.splice(0)) await close()
  await service.close()
})

async function post(topic: string, type: string, value: { readonly [field: string]: unknown }) {
  const { orderId: key, ...rest } = value
  const timestamp = Object.entries(rest).find(([name]) => name.endsWith('At'))![1]
  const response = await fetch(`${service.address}/v1/events`, {
    method: 'POST',
    headers: { authorization: 'Bearer write', 'content-type': 'application/x-ndjson' },
    body: JSON.stringify({ topic, type, key, timestamp, value }),
  })
  expect(response.status).toBe(200)
}

const notification = (orderId: string, template: string) =>
  post('notifications', 'NotificationRequested', {
    notificationId: `${orderId}.${template}`,
    orderId,
    customerId: 'ann',
    channel: 'email',
    template,
    requestedAt: Date.now(),
  })

interface Sent {
  readonly notificationId: string
  readonly order?: unknown
}

/** Sends all that was asked for, and gives what is in the file. */
async function sender(orderOf: OrderOf, codec?: EventCodec) {
  const folder = await scratchFolder()
  const errors: unknown[] = []
  const running = new NotificationSender({
    log: service.log,
    channels: await openOutbox(folder.path),
    orderOf,
    ...(codec && { codec }),
    schedule: effects.schedule,
    maySend: () => true,
    onError: error => errors.push(error),
  })
  running.start()
  const stop = () => running.stop()
  closing.push(async () => {
    await stop().catch(() => {})
    await folder.remove()
  })
  const sent = async (): Promise<Sent[]> => {
    const text = await readFile(join(folder.path, 'email.ndjson'), 'utf8')
    return text.split('\n').flatMap(line => (line === '' ? [] : [JSON.parse(line) as Sent]))
  }
  return { sent, errors, stop }
}

const asking = (address: string) => {
  const { schedule } = effects
  return shippedOrders({ connection: remote(address, 'read'), url: address, schedule })
}

test('the order of a shipped parcel is fetched, once the service knows of the parcel', async () => {
  const { body } = await service.client.post('/v1/orders', placed)
  const orderId = String(body.orderId)
  const at = Date.now()
  await notification(orderId, 'order-received')
  await notification(orderId, 'order-shipped')
  const { sent, errors, stop } = await sender(asking(service.address))
  // The message was asked for before the service has heard of the parcel.
  await new Promise(resolve => setTimeout(resolve, 700))
  expect(await sent()).toEqual([])
  await post('fulfilment', 'OrderFulfilled', { orderId, carrier: 'post', fulfilledAt: at })
  await post('fulfilment', 'OrderShipped', { orderId, tracking: 'T1', shippedAt: at })
  await expect.poll(sent, { timeout: 15_000 }).toHaveLength(2)
  const [received, shipped] = await sent()
  expect(received).not.toHaveProperty('order')
  expect(shipped).toMatchObject({
    notificationId: `${orderId}.order-shipped`,
    template: 'order-shipped',
    order: { tracking: 'T1', carrier: 'post', currency: 'EUR', totalMinor: 1000, items: [mug] },
  })
  expect(errors).toEqual([])
  await stop()
})

test('while the service cannot be asked nothing is sent, and nothing is lost', async () => {
  let away = true
  const orderOf: OrderOf = (...asked) =>
    asking(away ? 'http://127.0.0.1:9' : service.address)(...asked)
  const orderId = 'from-events'
  const shippedAt = Date.now()
  await post('fulfilment', 'OrderShipped', { orderId, tracking: 'T2', shippedAt })
  await notification(orderId, 'order-shipped')
  const { sent, errors, stop } = await sender(orderOf)
  await expect.poll(() => errors.length, { timeout: 15_000 }).toBeGreaterThan(0)
  expect((await sent()).filter(({ notificationId }) => notificationId.startsWith(orderId))).toEqual(
    [],
  )
  away = false
  await expect
    .poll(async () => (await sent()).map(one => one.order), { timeout: 15_000 })
    .toContainEqual({ tracking: 'T2', carrier: null, currency: null, totalMinor: null, items: [] })
  await stop()
})

test('a stop does not wait for a parcel that nobody knows of', async () => {
  await notification('nobody', 'order-shipped')
  let asked = 0
  const { schedule } = effects
  const connection = {
    ...remote(service.address, 'read'),
    get: async () => {
      asked++
      return { status: 404, body: {} }
    },
  }
  const { sent, stop } = await sender(shippedOrders({ connection, url: '', schedule }))
  await expect.poll(() => asked, { timeout: 15_000 }).toBeGreaterThan(1)
  await stop()
  expect(asked).toBeLessThan(10)
  expect((await sent()).map(({ notificationId }) => notificationId)).not.toContain('nobody')
})

test('an order that nobody can ask for holds up no message', async () => {
  const orderId = 'x'.repeat(17_000)
  await notification(orderId, 'order-shipped')
  await notification('after-it', 'order-received')
  const { sent, stop } = await sender(asking(service.address))
  await expect.poll(async () => (await sent()).at(-1)?.notificationId).toContain('after-it')
  const long = (await sent()).find(({ notificationId }) => notificationId.startsWith(orderId))
  expect(long).not.toHaveProperty('order')
  await stop()
})

test('a message whose schema is still being looked up is waited for, and sent once', async () => {
  const id = 4711
  const registry: SchemaRegistry = {
    schemaOf: async () => {
      await new Promise(resolve => setTimeout(resolve, 200))
      return { format: 'AVRO', text: JSON.stringify(eventSchemas.NotificationRequested) }
    },
    register: async () => id,
    setCompatibility: async () => {},
  }
  const codec = new EventCodec(
    new RegistryDirectory({ registry, rows: schemaHistory, clock: Date.now }),
  )
  const value = codec.encode({
    type: 'NotificationRequested',
    notificationId: 'of-a-later-version',
    orderId: 'o',
    customerId: 'ann',
    channel: 'email',
    template: 'order-received',
    requestedAt: Date.now(),
  })
  value.writeUInt32BE(id, 1)
  const builder = new RecordBatchBuilder()
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  builder.append(Date.now(), whole(Buffer.from('o')), whole(value), [])
  const transaction = service.log.begin()
  transaction.append({ topic: notificationTopic, partition: 0 }, builder.finish())
  await transaction.commit()
  const { sent, stop } = await sender(asking(service.address), codec)
  const found = async () =>
    (await sent()).filter(({ notificationId }) => notificationId === 'of-a-later-version')
  await expect.poll(found).toHaveLength(1)
  await stop()
})

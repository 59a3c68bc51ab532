/** Commands to orders at the running service: killed, asked again, seen from the console. */
import { afterEach, expect, test } from 'vitest'
import { mug, OrdersClient, placed, seen } from '../support/orders-client.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function scratch(): Promise<string> {
  const folder = await scratchFolder()
  closing.push(folder.remove)
  return folder.path
}

async function start(dataDir: string, services: string): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, ['--no-demo'], { SERVICES: services })
  closing.push(() => service.kill())
  return service
}

test('a command survives kill -9: asked again it gets the same answer, and is done once', async () => {
  const dataDir = await scratch()
  const texts: string[] = []
  let orderId = ''
  for (let run = 0; run < 3; run++) {
    const service = await start(dataDir, 'ordering')
    const client = new OrdersClient(service.url)
    const order = await client.post('/v1/orders', placed, { 'Idempotency-Key': 'once' })
    expect(order.status).toBe(201)
    texts.push(order.text)
    orderId = String(order.body.orderId)
    const path = `/v1/orders/${orderId}`
    const added = await client.post(
      `${path}/items`,
      { items: [mug] },
      { 'Idempotency-Key': `add-${run}`, 'If-Match': `"${run + 1}"` },
    )
    expect(added.body).toMatchObject({ version: run + 2, status: 'pending' })
    const { body } = await client.get(path, seen(added))
    expect(body).toMatchObject({ version: run + 2, totalMinor: 1000 * (run + 2) })
    if (run === 2) {
      const flags = ['query', 'order-status', `orderId=${orderId}`, '--json', '--as-of']
      const asOf = async (timeMs: number) => {
        const { output } = await millrace([...flags, String(timeMs)], { DATA_DIR: dataDir })
        return (JSON.parse(output) as { rows: { version: number }[] }).rows[0]?.version
      }
      const placedAt = Number(order.body.decidedAt)
      expect([await asOf(placedAt - 1), await asOf(placedAt)]).toEqual([undefined, 1])
      expect(await asOf(Number(added.body.decidedAt))).toBe(4)
    }
    await service.kill()
  }
  expect(new Set(texts).size).toBe(1)
})

test('an order placed by a command goes its way, and each event tells what it follows from', async () => {
  const service = await start(await scratch(), 'on')
  const client = new OrdersClient(service.url)
  const stock = { sku: 'mug', quantity: 100, receivedAt: Date.now() - 1000 }
  const { receivedAt: timestamp } = stock
  const line = { topic: 'stock', type: 'StockReceived', key: 'mug', timestamp, value: stock }
  await service.post([JSON.stringify(line)])
  type Told = {
    id: string
    type: string
    causationId: string
    correlationId: string
    chain: string[]
  }
  // Whichever customer pays first: that takes some seconds in the world of the demo.
  const orders = await Promise.all(
    Array.from({ length: 20 }, () => client.post('/v1/orders', placed)),
  )
  let events: Told[] = []
  let command: unknown
  for (let tries = 0; events.length < 3 && tries < 100; tries++) {
    await new Promise(resolve => setTimeout(resolve, 200))
    for (const order of orders) {
      const path = `/v1/orders/${order.body.orderId}/events`
      const told = (await client.get(path, seen(order))).body.events as Told[]
      if (told.length > events.length) [events, command] = [told, order.body.command]
    }
  }
  expect(events.length).toBeGreaterThanOrEqual(3)
  expect(events[0]).toMatchObject({ type: 'OrderCreated', chain: [command] })
  for (const [i, { chain, causationId, correlationId }] of events.entries()) {
    // The same story, and from event to event back to the command.
    expect(correlationId).toBe(command)
    expect([chain[0], chain.at(-1)]).toEqual([command, causationId])
    const before = events.slice(0, i).map(({ id }) => id)
    for (const cause of chain.slice(1)) expect(before).toContain(cause)
  }
})

test('where ordering does not run, a command says how to start it', async () => {
  const service = await start(await scratch(), 'off')
  const { status, body } = await new OrdersClient(service.url).post('/v1/orders', placed)
  expect([status, body.code]).toEqual([503, 'COMMANDS_NOT_SERVED'])
  expect(body.detail).toContain('SERVICES')
})

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'
import type { FakeViews } from '../support/fake-views.ts'
import { LiveSocket } from '../support/live-socket.ts'

const servers: Server[] = []
const sockets: { destroy(): void }[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  for (const server of servers.splice(0)) await server.close()
})

async function listening(limits: NonNullable<Parameters<typeof fakeServer>[0]>['limits']) {
  const made = await fakeServer({ limits: { publishIntervalMs: 2, idlePositionMs: 20, ...limits } })
  servers.push(made.server)
  const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
  const metric = async (name: string) => {
    const { body } = await made.server.inject({ url: '/metrics' })
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1])
  }
  return { ...made, address, metric }
}

/** A client that shakes hands, subscribes, and never reads again. */
async function deafSocket(address: string): Promise<Socket> {
  const { port } = new URL(address)
  const socket = connect({ port: Number(port), host: '127.0.0.1' })
  sockets.push(socket)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(
    `GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\n` +
      'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: millrace.v1\r\n' +
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await once(socket, 'data')
  socket.write(frame('{"type":"connection_init"}'))
  socket.write(frame('{"type":"subscribe","id":"s","view":"order-volume"}'))
  await once(socket, 'data')
  socket.pause()
  return socket
}

/** A masked text frame with the mask 0. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
}

const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** Changes a thousand rows, again and again. */
async function churn(views: FakeViews, until: () => Promise<boolean>): Promise<number> {
  let rounds = 0
  while (!(await until())) {
    rounds++
    if (rounds > 1500) throw new Error('churned for too long')
    views.put('order-volume', ...Array.from({ length: 1000 }, (_, i) => volumeRow('eu', i, rounds)))
    await wait(3)
  }
  return rounds
}

describe('a client that does not read', () => {
  test('is closed at its byte budget; others get every update and memory stays flat', async () => {
    const { address, views, metric } = await listening({ clientBytesMax: 1024 * 1024 })
    const reader = await LiveSocket.connected(address)
    sockets.push({ destroy: () => reader.close() })
    reader.send({ type: 'subscribe', id: 's', view: 'order-volume' })
    const deaf = await Promise.all(Array.from({ length: 50 }, () => deafSocket(address)))
    await expect.poll(() => metric('live_sockets')).toBe(51)
    const before = process.memoryUsage().rss
    let peak = before
    await churn(views, async () => {
      peak = Math.max(peak, process.memoryUsage().rss)
      reader.messages.length = 0
      return (await metric('live_slow_clients_closed_total')) === deaf.length
    })
    // Fifty clients, each behind by many MB; the frames they lack are in no buffer of theirs.
    expect(peak - before).toBeLessThan(256 * 1024 * 1024)
    await expect.poll(() => metric('live_sockets')).toBe(1)
    expect(reader.closed).toBeUndefined()
    views.put('order-volume', volumeRow('us', 1, 42))
    await reader.until(() => JSON.stringify(reader.messages.at(-1) ?? {}).includes('"us"'))
  })

  test('is closed when it has taken nothing for too long', async () => {
    const { address, views, metric } = await listening({
      clientBytesMax: 1e12,
      clientStallMs: 200,
      closeGraceMs: 50,
    })
    await deafSocket(address)
    await churn(views, async () => (await metric('live_conflations_total')) > 0)
    await expect.poll(() => metric('live_slow_clients_closed_total')).toBe(1)
    await expect.poll(() => metric('live_sockets')).toBe(0)
  })
})

test('a client that pauses gets the last state of each row it missed, once, and goes on', async () => {
  const { address, views, metric } = await listening({ clientBytesMax: 1e12 })
  const slow = await LiveSocket.connected(address)
  sockets.push({ destroy: () => slow.close() })
  slow.send({ type: 'subscribe', id: 's', view: 'order-volume' })
  await slow.until(() => slow.types().includes('up-to-date'))
  slow.socket.pause()
  await churn(views, async () => (await metric('live_conflations_total')) > 0)
  for (let round = 1; round <= 200; round++) {
    views.put('order-volume', volumeRow('us', 1, round), volumeRow('us', 2, round))
    await wait(1)
  }
  slow.socket.resume()
  await slow.until(() => slow.rows('s').get('us,EUR,120000,180000')?.orders === 200)
  const seen = slow
    .deltas()
    .flatMap(delta => delta.changes.filter(({ row }) => row.region === 'us'))
  expect(seen.map(({ row }) => row.orders)).toEqual([200, 200])
  expect(slow.rows('s').size).toBe(1002)
  expect(slow.deltas().at(-1)!.position).toBe(views.position())
})

test('one that misses more rows than are kept fetches anew', async () => {
  const { address, views, metric } = await listening({ clientBytesMax: 1e12, resumeRowsMax: 1000 })
  const slow = await LiveSocket.connected(address)
  sockets.push({ destroy: () => slow.close() })
  slow.send({ type: 'subscribe', id: 's', view: 'order-volume' })
  await slow.until(() => slow.types().includes('up-to-date'))
  slow.socket.pause()
  await churn(views, async () => (await metric('live_conflations_total')) > 0)
  views.put('order-volume', ...Array.from({ length: 1500 }, (_, i) => volumeRow('us', i, 1)))
  await wait(20)
  views.put('order-volume', volumeRow('us', 1, 2))
  await wait(20)
  slow.socket.resume()
  await slow.until(() => slow.types('s').includes('must-refetch'))
  await slow.until(() => slow.rows('s').get('us,EUR,60000,120000')?.orders === 2)
  await slow.until(() => slow.rows('s').size === 2500)
  expect(slow.types('s').at(-1)).toMatch(/up-to-date|delta/)
})

test('an event stream that is not read is destroyed at the same budget', async () => {
  const { address, views, metric } = await listening({ clientBytesMax: 1024 * 1024 })
  const { port } = new URL(address)
  const socket = connect({ port: Number(port), host: '127.0.0.1' })
  sockets.push(socket)
  socket.on('error', () => undefined)
  socket.write(`GET /v1/stream/order-volume HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`)
  await once(socket, 'data')
  socket.pause()
  await churn(views, async () => (await metric('live_slow_clients_closed_total')) === 1)
  await expect.poll(() => metric('live_streams')).toBe(0)
})

/** Clients that send what no honest client would: slowly, too much, or against the protocol. */
import { afterEach, describe, expect, test } from 'vitest'
import type { Limits, Server } from '../../api/index.ts'
import { fakeServer, orderLine } from '../support/fake-server.ts'
import { LiveSocket } from '../support/live-socket.ts'
import { closeCode, frame, RawSocket, upgraded, upgradeRequest } from '../support/raw-socket.ts'

const servers: Server[] = []
const raws: RawSocket[] = []

afterEach(async () => {
  for (const raw of raws.splice(0)) raw.destroy()
  for (const server of servers.splice(0)) await server.close()
})

async function listening(limits: Partial<Limits> = {}) {
  const made = await fakeServer({ limits: { timeoutCheckMs: 20, closeGraceMs: 50, ...limits } })
  servers.push(made.server)
  const address = await made.server.listen({ host: '127.0.0.1', port: 0 })
  const raw = (bytes: string | Buffer = '') => {
    const socket = new RawSocket(address)
    socket.send(bytes)
    raws.push(socket)
    return socket
  }
  const live = async () => {
    const socket = await upgraded(address)
    raws.push(socket)
    return socket
  }
  /** Requests of others are answered as ever. */
  const serves = async () => {
    const response = await fetch(`${address}/v1/views`)
    expect(response.status).toBe(200)
    await response.body?.cancel()
  }
  const metric = async (name: string) => {
    const { body } = await made.server.inject({ url: '/metrics' })
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(body)?.[1])
  }
  return { ...made, address, raw, live, serves, metric }
}

describe('slowly', () => {
  test('headers that never end are cut off, a hundred of them too', async () => {
    const { raw, serves } = await listening({ headersTimeoutMs: 1000 })
    const slow = Array.from({ length: 100 }, () => raw('GET / HTTP/1.1\r\nHost: localhost\r\n'))
    const dripping = slow.map((socket, index) => socket.drip(() => `X-${index}: 1\r\n`, 30))
    await serves()
    await Promise.all(dripping)
    for (const { received } of slow) expect(received).toMatch(/^HTTP\/1.1 408 .*REQUEST_TIMEOUT/s)
    await serves()
  })

  test('a body that never ends is cut off, and appends nothing of its last line', async () => {
    const { raw, serves, appended } = await listening({
      headersTimeoutMs: 1000,
      requestTimeoutMs: 1200,
    })
    const line = orderLine('o-1', Date.now() - 1000)
    const slow = raw(
      'POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n' +
        `Content-Length: 1000000\r\n\r\n${line.slice(0, -1)}`,
    )
    await slow.drip(() => ' ', 30)
    expect(slow.received).toMatch(/^HTTP\/1.1 4/)
    expect(appended.flat()).toEqual([])
    await serves()
  })

  test('a connection that asks nothing is closed', async () => {
    const { raw, serves } = await listening({ headersTimeoutMs: 1000 })
    await raw().closed
    await serves()
  })
})

describe('too much', () => {
  const get = (rest: string) => `GET /v1/views${rest} HTTP/1.1\r\nHost: localhost\r\n`

  test('2,000 headers are refused, however short; the usual number is not', async () => {
    const { raw, serves } = await listening()
    const fields = (count: number) =>
      Array.from({ length: count }, (_, index) => `${index.toString(36)}:\r\n`).join('')
    const many = raw(`${get('')}${fields(2000)}\r\n`)
    await many.closed
    expect(many.received).toMatch(/^HTTP\/1.1 431 .*HEADERS_TOO_LARGE/s)
    const few = raw(`${get('')}${fields(98)}Connection: close\r\n\r\n`)
    await few.closed
    expect(few.received).toMatch(/^HTTP\/1.1 200 /)
    await serves()
  })

  test('an upgrade with 2,000 headers is refused, too', async () => {
    const { raw, address, metric } = await listening()
    const fields = Array.from({ length: 2000 }, (_, index) => `${index.toString(36)}:\r\n`).join('')
    const socket = raw(upgradeRequest(address, fields))
    await socket.closed
    expect(socket.received).toMatch(/^HTTP\/1.1 431 .*HEADERS_TOO_LARGE/s)
    await expect.poll(() => metric('live_sockets')).toBe(0)
  })

  test.each([
    ['a URL of 1 MB', `/${'x'.repeat(1_000_000)}`],
    ['a query of 1 MB', `?prefix=${'%41'.repeat(333_333)}`],
  ])('%s is refused before it is looked at', async (_, rest) => {
    const { raw, serves } = await listening()
    const socket = raw(`${get(rest)}\r\n`)
    await socket.closed
    expect(socket.received).toMatch(/^HTTP\/1.1 431 .*HEADERS_TOO_LARGE/s)
    await serves()
  })

  test('a header of 1 MB is refused', async () => {
    const { raw, serves } = await listening()
    const socket = raw(`${get('')}X: ${'x'.repeat(1_000_000)}\r\n\r\n`)
    await socket.closed
    expect(socket.received).toMatch(/^HTTP\/1.1 431 .*HEADERS_TOO_LARGE/s)
    await serves()
  })

  test('connections beyond the bound are closed at once, and free ones serve again', async () => {
    const { raw, serves } = await listening({ connectionsMax: 20 })
    const held = Array.from({ length: 20 }, () => raw('GET / HTTP/1.1\r\n'))
    await expect.poll(() => held.every(({ socket }) => !socket.connecting)).toBe(true)
    const beyond = Array.from({ length: 50 }, () => raw('GET / HTTP/1.1\r\n'))
    await Promise.all(beyond.map(({ closed }) => closed))
    for (const socket of held) socket.destroy()
    await expect
      .poll(() =>
        serves().then(
          () => true,
          () => false,
        ),
      )
      .toBe(true)
  })
})

describe('frames against RFC 6455', () => {
  const text = 0x81
  const init = frame({ head: text, payload: Buffer.from('{"type":"connection_init"}') })

  test.each<[string, number, Buffer[]]>([
    ['a reserved bit (as of a compressed bomb)', 1002, [frame({ head: 0xc1, payload: init })]],
    ['another reserved bit', 1002, [frame({ head: 0x91 })]],
    ['an unknown opcode', 1002, [frame({ head: 0x83 })]],
    ['no mask', 1002, [frame({ head: text, payload: Buffer.from('{}'), masked: false })]],
    ['a length of 2^63', 1009, [frame({ head: text, length: 2n ** 63n })]],
    ['a length of 2^53', 1009, [frame({ head: text, length: 2n ** 53n })]],
    ['a length over the bound', 1009, [frame({ head: text, length: 70_000n })]],
    ['a continuation of nothing', 1002, [frame({ head: 0x80 })]],
    ['a message within a message', 1002, [frame({ head: 0x01 }), frame({ head: text })]],
    ['a fragmented ping', 1002, [frame({ head: 0x09 })]],
    ['a ping of 126 bytes', 1002, [frame({ head: 0x89, payload: Buffer.alloc(126) })]],
    ['a close of one byte', 1002, [frame({ head: 0x88, payload: Buffer.of(3) })]],
    [
      'a close with a code nobody may send',
      1002,
      [frame({ head: 0x88, payload: Buffer.of(3, 236) })],
    ],
    ['text that is not UTF-8', 1007, [frame({ head: text, payload: Buffer.of(0xff, 0xfe) })]],
    ['an overlong zero', 1007, [frame({ head: text, payload: Buffer.of(0xc0, 0x80) })]],
    ['a lone surrogate', 1007, [frame({ head: text, payload: Buffer.of(0xed, 0xa0, 0x80) })]],
  ])('%s closes with %i', async (_, code, frames) => {
    const { live, metric, serves } = await listening()
    const socket = await live()
    socket.send(init)
    for (const bytes of frames) socket.send(bytes)
    await socket.closed
    expect(closeCode(socket.received)).toBe(code)
    await expect.poll(() => metric('live_sockets')).toBe(0)
    await serves()
  })

  test('binary is no message', async () => {
    const { live } = await listening()
    const socket = await live()
    socket.send(frame({ head: 0x82, payload: Buffer.from('{"type":"connection_init"}') }))
    await socket.closed
    expect(closeCode(socket.received)).toBe(4400)
  })

  test.each([
    ['empty fragments without end', Buffer.alloc(0)],
    ['fragments without end', Buffer.alloc(2048, 'x')],
  ])('%s close it, whatever they add up to', async (_, payload) => {
    const { live, metric, serves } = await listening()
    const socket = await live()
    socket.send(frame({ head: 0x01, payload: Buffer.from('{') }))
    let sent = 0
    const more = () => {
      sent++
      return frame({ head: 0x00, payload }).toString('latin1')
    }
    let open = true
    void socket.closed.then(() => (open = false))
    while (open) {
      for (let index = 0; index < 20; index++) socket.send(Buffer.from(more(), 'latin1'))
      await new Promise(resolve => setImmediate(resolve))
    }
    expect([1008, 1009]).toContain(closeCode(socket.received))
    expect(sent).toBeLessThan(10_000)
    await expect.poll(() => metric('live_sockets')).toBe(0)
    await serves()
  })

  test('a flood of pings or pongs is too many messages', async () => {
    for (const head of [0x89, 0x8a]) {
      const { live, metric } = await listening({ messagesPerSecondMax: 50 })
      const socket = await live()
      socket.send(init)
      for (let index = 0; index < 200; index++) socket.send(frame({ head }))
      await socket.closed
      expect(closeCode(socket.received)).toBe(1013)
      await expect.poll(() => metric('live_sockets')).toBe(0)
    }
  })

  test('bytes at random never end the server', async () => {
    const { address, live, metric, serves } = await listening()
    let state = 7
    const next = () => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) >>> 16
    const witness = await LiveSocket.connected(address)
    for (let round = 0; round < 100; round++) {
      const socket = await live()
      socket.send(init)
      socket.send(Buffer.from(Array.from({ length: 200 }, () => next() & 0xff)))
      setTimeout(() => socket.destroy(), 20)
    }
    await Promise.all(raws.map(({ closed }) => closed))
    await expect.poll(() => metric('live_sockets')).toBe(1)
    witness.send({ type: 'ping' })
    await witness.until(() => witness.types().includes('pong'))
    witness.close()
    await serves()
  })
})

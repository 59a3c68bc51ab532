import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { API, type ApiName, KafkaProxy } from './kafka-proxy.ts'

/** Answers each request with its correlation id and `re` its body; keeps what came. */
let server: Server
let arrived: string[]
let proxy: KafkaProxy
let client: Client

class Client {
  readonly replies: string[] = []
  readonly closed: Promise<unknown>
  readonly #socket: Socket

  constructor(address: string) {
    const [host, port] = address.split(':')
    this.#socket = connect(Number(port), host)
    this.#socket.on('error', () => {})
    this.closed = once(this.#socket, 'close')
    onFrames(this.#socket, frame => {
      this.replies.push(`${frame.readInt32BE(0)} ${frame.toString('latin1', 4)}`)
    })
  }

  send(api: ApiName, correlationId: number, body: string): void {
    const frame = Buffer.alloc(12 + body.length)
    frame.writeInt32BE(frame.length - 4, 0)
    frame.writeInt16BE(API[api], 4)
    frame.writeInt16BE(5, 6)
    frame.writeInt32BE(correlationId, 8)
    frame.write(body, 12, 'latin1')
    this.#socket.write(frame)
  }

  async reply(count: number): Promise<readonly string[]> {
    while (this.replies.length < count) await sleep(2)
    return this.replies
  }

  close(): void {
    this.#socket.destroy()
  }
}

function onFrames(socket: Socket, take: (frame: Buffer) => void): void {
  let rest = Buffer.alloc(0)
  socket.on('data', chunk => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
      const size = rest.readInt32BE(0)
      take(rest.subarray(4, 4 + size))
      rest = rest.subarray(4 + size)
    }
  })
}

function answer(socket: Socket, request: Buffer): void {
  const body = request.toString('latin1', 8)
  arrived.push(body)
  const reply = Buffer.alloc(11 + body.length)
  reply.writeInt32BE(reply.length - 4, 0)
  reply.writeInt32BE(request.readInt32BE(4), 4)
  reply.write(`re ${body}`, 8, 'latin1')
  socket.write(reply)
}

beforeEach(async () => {
  arrived = []
  server = createServer(socket => {
    socket.on('error', () => {})
    onFrames(socket, request => answer(socket, request))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy = await KafkaProxy.start(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  client = new Client(proxy.bootstrap)
})
afterEach(async () => {
  client.close()
  await proxy.close()
  server.close()
})

test('what no rule is for goes through, in order', async () => {
  for (let i = 0; i < 100; i++) client.send('produce', i, `body ${i}`)
  const replies = await client.reply(100)
  expect(replies).toEqual(Array.from({ length: 100 }, (_, i) => `${i} re body ${i}`))
  expect(proxy.requests('produce')).toBe(100)
})

test('a request that is dropped does not arrive, those behind it do', async () => {
  proxy.rule({ api: 'endTxn', on: 'request', fault: 'drop', from: 2 })
  client.send('endTxn', 1, 'a')
  client.send('endTxn', 2, 'b')
  client.send('endTxn', 3, 'c')
  expect(await client.reply(2)).toEqual(['1 re a', '3 re c'])
  expect(arrived).toEqual(['a', 'c'])
})

test('a reply that is dropped was an answer to a request that arrived', async () => {
  proxy.rule({ api: 'endTxn', on: 'reply', fault: 'drop' })
  client.send('endTxn', 1, 'a')
  client.send('produce', 2, 'b')
  expect(await client.reply(1)).toEqual(['2 re b'])
  expect(arrived).toEqual(['a', 'b'])
})

test('a duplicated request arrives twice and is answered once', async () => {
  const rule = proxy.rule({ api: 'produce', on: 'request', fault: 'duplicate' })
  client.send('produce', 1, 'a')
  client.send('produce', 2, 'b')
  expect(await client.reply(2)).toEqual(['1 re a', '2 re b'])
  expect(arrived).toEqual(['a', 'a', 'b'])
  expect(rule.hits).toBe(1)
})

test('a cut takes the connection, before the request or before the reply', async () => {
  proxy.rule({ api: 'produce', on: 'request', fault: 'cut' })
  client.send('produce', 1, 'a')
  await client.closed
  expect(arrived).toEqual([])
  client = new Client(proxy.bootstrap)
  proxy.rule({ api: 'produce', on: 'reply', fault: 'cut' })
  client.send('produce', 2, 'b')
  await client.closed
  expect(arrived).toEqual(['b'])
  expect(client.replies).toEqual([])
})

test('what is held waits for its release, and holds up what is behind it', async () => {
  const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
  client.send('endTxn', 1, 'a')
  client.send('produce', 2, 'b')
  await rule.hit()
  const other = new Client(proxy.bootstrap)
  other.send('produce', 3, 'c')
  await other.reply(1)
  other.close()
  expect(arrived).toEqual(['c'])
  rule.release()
  expect(await client.reply(2)).toEqual(['1 re a', '2 re b'])
})

test('a held request arrives though its client has gone', async () => {
  const rule = proxy.rule({ api: 'endTxn', on: 'request', fault: 'hold' })
  client.send('endTxn', 1, 'late')
  await rule.hit()
  client.close()
  await sleep(20)
  expect(arrived).toEqual([])
  rule.release()
  while (arrived.length === 0) await sleep(2)
  expect(arrived).toEqual(['late'])
})

test('delays, rewritten bodies, predicates and counts', async () => {
  proxy.rule({ api: 'produce', on: 'request', fault: { delayMs: 10 }, times: 2 })
  const rewrite = (body: Buffer) => Buffer.from(`<${body.toString()}, longer>`)
  const when = ({ body }: { body: Buffer }) => body.toString().startsWith('re b')
  proxy.rule({ api: 'produce', on: 'reply', fault: { rewrite }, when, from: 2, times: 2 })
  for (const [i, body] of ['b1', 'a', 'b2', 'b3', 'b4'].entries()) client.send('produce', i, body)
  expect(await client.reply(5)).toEqual([
    '0 re b1',
    '1 re a',
    '2 <re b2, longer>',
    '3 <re b3, longer>',
    '4 re b4',
  ])
})

test('half-open connections stay silent for ever, later ones do not', async () => {
  client.send('produce', 1, 'a')
  await client.reply(1)
  proxy.freeze()
  client.send('produce', 2, 'b')
  const during = new Client(proxy.bootstrap)
  during.send('produce', 3, 'c')
  await sleep(20)
  proxy.thaw()
  const after = new Client(proxy.bootstrap)
  after.send('produce', 4, 'd')
  expect(await after.reply(1)).toEqual(['4 re d'])
  expect([client.replies, during.replies, arrived]).toEqual([['1 re a'], [], ['a', 'd']])
  during.close()
  after.close()
})

test('replies that say where brokers are name the proxy instead', async () => {
  const { port } = server.address() as AddressInfo
  const address = Buffer.alloc(13)
  address.write('127.0.0.1')
  address.writeInt32BE(port, 9)
  const told = (reply: string) => Buffer.from(reply.slice(-4), 'latin1').readInt32BE(0)
  client.send('metadata', 1, address.toString('latin1'))
  client.send('produce', 2, address.toString('latin1'))
  const [metadata, produce] = await client.reply(2)
  expect(told(metadata!)).toBe(Number(proxy.bootstrap.split(':')[1]))
  expect(told(produce!)).toBe(port)
})

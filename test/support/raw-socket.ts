/** A client that sends the bytes it is told to, for what no well-behaved client does. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export class RawSocket {
  readonly socket: Socket
  /** All that came back, one character a byte. */
  received = ''
  readonly closed: Promise<void>

  constructor(address: string) {
    this.socket = connect({ port: Number(new URL(address).port), host: '127.0.0.1' })
    this.socket.setNoDelay(true)
    this.socket.on('error', () => undefined)
    this.socket.on('data', chunk => {
      this.received += chunk.toString('latin1')
    })
    this.closed = new Promise(resolve => this.socket.once('close', () => resolve()))
  }

  send(bytes: string | Buffer): void {
    if (this.socket.writable) this.socket.write(bytes)
  }

  /** Sends a byte now and then until the other side has had enough. */
  async drip(bytes: () => string, everyMs: number): Promise<void> {
    let open = true
    void this.closed.then(() => (open = false))
    while (open) {
      this.send(bytes())
      await Promise.race([this.closed, new Promise(resolve => setTimeout(resolve, everyMs))])
    }
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/** A raw live socket after its upgrade. */
export async function upgraded(address: string): Promise<RawSocket> {
  const raw = new RawSocket(address)
  raw.send(upgradeRequest(address))
  await once(raw.socket, 'data')
  return raw
}

export function upgradeRequest(address: string, headers = ''): string {
  return (
    `GET /v1/live HTTP/1.1\r\nHost: ${new URL(address).host}\r\nConnection: Upgrade\r\n` +
    'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: millrace.v1\r\n' +
    `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`
  )
}

export interface FrameOptions {
  /** The first byte: FIN, reserved bits, opcode. */
  readonly head: number
  readonly payload?: Buffer
  readonly masked?: boolean
  /** The length that the frame claims; that of its payload unless given. */
  readonly length?: bigint
}

/** A frame of a client; masked with 0, which leaves its payload readable. */
export function frame({ head, payload = Buffer.alloc(0), masked = true, length }: FrameOptions) {
  const size = length ?? BigInt(payload.length)
  const bit = masked ? 0x80 : 0
  const mask = masked ? Buffer.alloc(4) : Buffer.alloc(0)
  const start =
    size < 126n
      ? Buffer.of(head, bit | Number(size))
      : size < 65_536n
        ? Buffer.of(head, bit | 126, Number(size >> 8n), Number(size & 0xffn))
        : Buffer.concat([Buffer.of(head, bit | 127), bigBytes(size)])
  return Buffer.concat([start, mask, payload])
}

function bigBytes(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

/** The code in the first close frame of a server among the bytes; undefined without one. */
export function closeCode(received: string): number | undefined {
  const bytes = Buffer.from(received, 'latin1')
  let at = bytes.indexOf('\r\n\r\n') + 4
  while (at + 2 <= bytes.length) {
    const opcode = bytes[at]! & 0x0f
    let length = bytes[at + 1]! & 0x7f
    let start = at + 2
    if (length === 126) {
      length = bytes.readUInt16BE(start)
      start += 2
    }
    if (opcode === 8) return length < 2 ? undefined : bytes.readUInt16BE(start)
    at = start + length
  }
  return undefined
}

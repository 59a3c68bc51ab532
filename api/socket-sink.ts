/**
 * A live socket as its subscriptions see it: all share its account.
 * `ws` frames what it is given without a copy, so a large delta is one buffer for all sockets.
 */
import type { WebSocket } from 'ws'
import { liveClose } from '../contracts/live.ts'
import { ClientAccount, type Connection } from './client-account.ts'
import type { ServerContext } from './context.ts'
import type { Frame } from './subscriber.ts'

/** Below this, one copied frame costs less than two writes. */
const copyBytesMax = 8 * 1024

export class SocketSink {
  readonly account: ClientAccount
  private readonly socket: WebSocket
  private readonly context: ServerContext
  private closing = false

  constructor(socket: WebSocket, context: ServerContext) {
    this.socket = socket
    this.context = context
    const connection: Connection = {
      unsentBytes: () => socket.bufferedAmount,
      closed: () => this.closed,
      dropSlow: () => this.close(liveClose.tryAgainLater, 'too slow'),
    }
    this.account = new ClientAccount(connection, context)
    socket.on('close', () => this.account.wake())
  }

  get closed(): boolean {
    return this.closing || this.socket.readyState !== this.socket.OPEN
  }

  sendFrame(id: string, { type, body }: Frame): void {
    if (this.closed) return
    const head = Buffer.from(`{"type":"${type}","id":${JSON.stringify(id)},`)
    const { taken } = this.account
    if (head.length + body.length <= copyBytesMax) {
      this.socket.send(Buffer.concat([head, body]), { binary: false }, taken)
    } else {
      this.socket.send(head, { binary: false, fin: false })
      this.socket.send(body, { binary: false, fin: true }, taken)
    }
    this.account.sent(head.length + body.length)
  }

  sendMessage(message: object): void {
    if (this.closed) return
    const text = JSON.stringify(message)
    this.socket.send(text, this.account.taken)
    this.account.sent(text.length)
  }

  /** Says goodbye, and drops the connection when the client does not answer in time. */
  close(code: number, reason: string): void {
    if (this.closing) return
    this.closing = true
    this.socket.close(code, reason)
    const cancel = this.context.schedule(
      () => this.socket.terminate(),
      this.context.limits.closeGraceMs,
    )
    this.socket.once('close', cancel)
    this.account.wake()
  }
}

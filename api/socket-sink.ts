/**
 * A live socket as its subscriptions see it: all share its buffer, its pauses and its budget.
 * `ws` frames what it is given without a copy, so a large delta is one buffer for all sockets.
 */
import type { WebSocket } from 'ws'
import { liveClose } from '../contracts/live.ts'
import type { ServerContext } from './context.ts'
import type { Frame } from './subscriber.ts'

/** Below this, one copied frame costs less than two writes. */
const copyBytesMax = 8 * 1024

export class SocketSink {
  private readonly socket: WebSocket
  private readonly context: ServerContext
  private waiting: (() => void)[] = []
  private congestedSince: number | undefined
  private missedBytes = 0
  private closing = false

  constructor(socket: WebSocket, context: ServerContext) {
    this.socket = socket
    this.context = context
    socket.on('close', () => this.wake())
  }

  get closed(): boolean {
    return this.closing || this.socket.readyState !== this.socket.OPEN
  }

  get congested(): boolean {
    return this.socket.bufferedAmount > this.context.limits.conflateBytes
  }

  sendFrame(id: string, { type, body }: Frame): void {
    const head = Buffer.from(`{"type":"${type}","id":${JSON.stringify(id)},`)
    this.count(head.length + body.length)
    if (this.closed) return
    if (head.length + body.length <= copyBytesMax) {
      this.socket.send(Buffer.concat([head, body]), { binary: false }, this.written)
    } else {
      this.socket.send(head, { binary: false, fin: false })
      this.socket.send(body, { binary: false, fin: true }, this.written)
    }
    this.noteCongestion()
  }

  sendMessage(message: object): void {
    if (this.closed) return
    const text = JSON.stringify(message)
    this.count(text.length)
    this.socket.send(text, this.written)
    this.noteCongestion()
  }

  private count(bytes: number): void {
    this.context.metrics.framesSent++
    this.context.metrics.bytesSent += bytes
  }

  private readonly written = (): void => {
    if (this.congestedSince !== undefined) this.congestedSince = this.context.clock()
    if (this.congested) return
    this.congestedSince = undefined
    this.missedBytes = 0
    this.wake()
  }

  private noteCongestion(): void {
    if (this.congested) this.congestedSince ??= this.context.clock()
  }

  private wake(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const resume of waiting) resume()
  }

  drained(): Promise<void> {
    if (this.closed || !this.congested) return Promise.resolve()
    return new Promise(resolve => this.waiting.push(resolve))
  }

  missed(bytes: number): void {
    this.missedBytes += bytes
    if (this.missedBytes > this.context.limits.clientBytesMax) this.closeSlow()
  }

  checkStall(): void {
    if (this.congestedSince === undefined) return
    const stalledMs = this.context.clock() - this.congestedSince
    if (stalledMs > this.context.limits.clientStallMs) this.closeSlow()
  }

  closeSlow(): void {
    if (this.closed) return
    this.context.metrics.slowClientsClosed++
    this.close(liveClose.tryAgainLater, 'too slow')
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
    this.wake()
  }
}

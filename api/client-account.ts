/**
 * The account of one connected client, whatever carries its feed: what waits to be sent, since
 * when it takes nothing, and what it missed meanwhile. It decides when a client gets no more
 * until it has read, and when it is too slow to keep.
 */
import type { ServerContext } from './context.ts'

/** The connection, as far as the account needs it. */
export interface Connection {
  /** Bytes that were handed over and not yet to the system. */
  readonly unsentBytes: () => number
  readonly closed: () => boolean
  /** Ends a connection whose client is too slow. */
  readonly dropSlow: () => void
}

export class ClientAccount {
  private readonly connection: Connection
  private readonly context: ServerContext
  private waiting: (() => void)[] = []
  /** When the client last took something, since it was given too much. */
  private congestedSince: number | undefined
  private missedBytes = 0

  constructor(connection: Connection, context: ServerContext) {
    this.connection = connection
    this.context = context
  }

  get closed(): boolean {
    return this.connection.closed()
  }

  /** So many bytes wait that nothing more should be sent. */
  get congested(): boolean {
    return this.connection.unsentBytes() > this.context.limits.conflateBytes
  }

  /** One message of so many bytes was handed over. */
  sent(bytes: number): void {
    this.context.metrics.framesSent++
    this.context.metrics.bytesSent += bytes
    if (this.congested) this.congestedSince ??= this.context.clock()
  }

  /** To be called when a message has gone to the system. */
  readonly taken = (): void => {
    if (this.congestedSince !== undefined) this.congestedSince = this.context.clock()
    if (this.congested) return
    this.congestedSince = undefined
    this.missedBytes = 0
    this.wake()
  }

  /** To be called when the connection has gone, too: nobody then waits for ever. */
  wake(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const resume of waiting) resume()
  }

  /** Resolves when the client can take more, or has gone. */
  drained(): Promise<void> {
    if (this.closed || !this.congested) return Promise.resolve()
    return new Promise(resolve => this.waiting.push(resolve))
  }

  /** So many bytes were not sent; a client that misses too many is closed. */
  missed(bytes: number): void {
    this.missedBytes += bytes
    if (this.missedBytes > this.context.limits.clientBytesMax) this.closeSlow()
  }

  /** Closes a client that has taken nothing for too long. */
  checkStall(): void {
    if (this.congestedSince === undefined) return
    const stalledMs = this.context.clock() - this.congestedSince
    if (stalledMs > this.context.limits.clientStallMs) this.closeSlow()
  }

  closeSlow(): void {
    if (this.closed) return
    this.context.metrics.slowClientsClosed++
    this.connection.dropSlow()
  }
}

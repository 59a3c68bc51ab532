/** An event stream (SSE) as its subscription sees it: one response that goes on. */
import type { ServerResponse } from 'node:http'
import { ClientAccount, type Connection } from './client-account.ts'
import type { ServerContext } from './context.ts'
import { problemOf } from './problem.ts'
import type { Frame, Sink } from './subscriber.ts'

export class StreamSink implements Sink {
  readonly account: ClientAccount
  private readonly response: ServerResponse
  private readonly view: string
  private readonly context: ServerContext
  private cancelHeartbeat: (() => void) | undefined

  constructor(response: ServerResponse, view: string, context: ServerContext) {
    this.response = response
    this.view = view
    this.context = context
    const connection: Connection = {
      unsentBytes: () => response.writableLength,
      closed: () => response.writableEnded || response.destroyed,
      dropSlow: () => response.destroy(),
    }
    this.account = new ClientAccount(connection, context)
    context.metrics.streamsOpen++
    const end = () => this.finish('')
    context.onClose.add(end)
    response.on('error', () => undefined)
    response.once('close', () => {
      context.metrics.streamsOpen--
      context.onClose.delete(end)
      this.cancelHeartbeat?.()
      this.account.wake()
    })
    response.write('retry: 1000\n\n')
    this.scheduleHeartbeat()
  }

  send({ type, position, body }: Frame): void {
    if (this.account.closed) return
    // A client told to fetch anew must not come back with the position it had.
    const id = type === 'must-refetch' ? 'id:\n' : position === undefined ? '' : `id: ${position}\n`
    const head = `${id}event: ${type}\ndata: {"type":"${type}","id":${JSON.stringify(this.view)},`
    this.response.cork()
    this.response.write(head)
    this.response.write(body)
    this.response.write('\n\n', this.account.taken)
    this.response.uncork()
    this.account.sent(head.length + body.length)
  }

  fail(error: unknown): void {
    const { code, detail } = problemOf(error)
    const data = JSON.stringify({ type: 'error', code, detail })
    if (!this.account.closed) this.finish(`event: error\ndata: ${data}\n\n`)
  }

  /** A client that does not read would hold the connection for ever. */
  private finish(last: string): void {
    this.response.end(last)
    const cancel = this.context.schedule(
      () => this.response.destroy(),
      this.context.limits.closeGraceMs,
    )
    this.response.once('close', cancel)
  }

  private scheduleHeartbeat(): void {
    this.cancelHeartbeat = this.context.schedule(() => {
      if (this.account.closed) return
      if (!this.account.congested) this.response.write(': still here\n\n')
      this.scheduleHeartbeat()
    }, this.context.limits.heartbeatMs)
  }
}

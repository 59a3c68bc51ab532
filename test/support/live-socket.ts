/** A bare client of the live protocol for tests: it notes every message. */
import { once } from 'node:events'
import { type ClientOptions, WebSocket } from 'ws'
import type { ClientMessage, DeltaMessage, ServerMessage } from '../../contracts/live.ts'

export class LiveSocket {
  readonly messages: ServerMessage[] = []
  readonly socket: WebSocket
  closed: { code: number; reason: string } | undefined
  private changed: () => void = () => {}

  constructor(address: string, options: ClientOptions = {}) {
    const url = `${address.replace(/^http/, 'ws')}/v1/live`
    this.socket = new WebSocket(url, 'millrace.v1', options)
    this.socket.on('message', data => {
      this.messages.push(JSON.parse(data.toString()))
      this.changed()
    })
    this.socket.on('close', (code, reason) => {
      this.closed = { code, reason: reason.toString() }
      this.changed()
    })
    this.socket.on('error', () => this.changed())
  }

  static async connected(address: string, options: ClientOptions = {}): Promise<LiveSocket> {
    const live = new LiveSocket(address, options)
    await once(live.socket, 'open')
    live.send({ type: 'connection_init' })
    await live.until(() => live.messages.some(message => message.type === 'connection_ack'))
    return live
  }

  send(message: ClientMessage | string): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  }

  async until(reached: () => boolean, timeoutMs = 30_000): Promise<void> {
    const deadline = Date.now() + timeoutMs
    while (!reached()) {
      if (Date.now() > deadline)
        throw new Error(`not reached: ${JSON.stringify(this.messages).slice(0, 2000)}`)
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, 50)
        this.changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  async closing(): Promise<number> {
    await this.until(() => this.closed !== undefined)
    return this.closed!.code
  }

  types(id?: string): string[] {
    return this.messages
      .filter(message => id === undefined || ('id' in message && message.id === id))
      .map(message => message.type)
  }

  deltas(): DeltaMessage[] {
    return this.messages.filter(message => message.type === 'delta')
  }

  /** The rows that a client holds after all messages, by identity. */
  rows(id: string): Map<string, Readonly<Record<string, unknown>>> {
    const rows = new Map<string, Readonly<Record<string, unknown>>>()
    let key: readonly string[] = []
    for (const message of this.messages) {
      if (!('id' in message) || message.id !== id) continue
      const identity = (row: Readonly<Record<string, unknown>>) => key.map(name => row[name]).join()
      if (message.type === 'must-refetch') rows.clear()
      if (message.type === 'snapshot') {
        key = message.key
        for (const row of message.rows) rows.set(identity(row), row)
      }
      if (message.type !== 'delta') continue
      for (const { op, row } of message.changes) {
        if (op === 'upsert') rows.set(identity(row), row)
        else rows.delete(identity(row))
      }
    }
    return rows
  }

  close(): void {
    this.socket.terminate()
  }
}

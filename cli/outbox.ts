/**
 * Where notifications are sent by default: a file a channel, one JSON object a line.
 *
 * A line is sent when it ends with a newline and is on disk. What a kill has left behind the last
 * newline was never sent: it is cut off when the file is opened, and its notification, whose place
 * in the topic was not committed either, is written anew. A notificationId that the file has is
 * passed over, so that none is sent twice however often it is told.
 */
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { NotificationRequested } from '../contracts/events.ts'
import type { ShippedOrder } from './shipped-orders.ts'

/** What is sent: what was asked for, of a shipped order with what its event leaves out. */
export interface Notification extends NotificationRequested {
  readonly order?: ShippedOrder
}

/** Sends notifications. What was sent before under the same notificationId is not sent again. */
export interface NotificationChannel {
  /** Resolves when all are sent; after a rejection any of them may be told again. */
  send(notifications: readonly Notification[]): Promise<void>
  close(): Promise<void>
}

type FileHandle = Awaited<ReturnType<typeof open>>

/** Copies come within this time of each other, ms of event time. */
const MEMORY_MS = 7 * 24 * 60 * 60 * 1000
const NEWLINE = 0x0a
const READ_BYTES = 1 << 20

export class OutboxFile implements NotificationChannel {
  readonly #file: FileHandle
  /** notificationId -> requestedAt. */
  readonly #sent = new Map<string, number>()
  #latestMs = 0
  /** Bytes that are whole lines on disk. */
  #size = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async open(folder: string, channel: string): Promise<OutboxFile> {
    await mkdir(folder, { recursive: true })
    const outbox = new OutboxFile(await open(join(folder, `${channel}.ndjson`), 'a+'))
    await outbox.#load()
    return outbox
  }

  async #load(): Promise<void> {
    let rest = Buffer.alloc(0)
    for (let position = 0; ; ) {
      const { bytesRead, buffer } = await this.#file.read({
        buffer: Buffer.alloc(READ_BYTES),
        position,
      })
      if (bytesRead === 0) break
      position += bytesRead
      const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)])
      const end = bytes.lastIndexOf(NEWLINE) + 1
      for (const line of bytes.toString('utf8', 0, end).split('\n')) {
        if (line !== '') this.#remember(JSON.parse(line) as NotificationRequested)
      }
      this.#size += end
      rest = bytes.subarray(end)
    }
    await this.#file.truncate(this.#size)
  }

  #remember({ notificationId, requestedAt }: NotificationRequested): void {
    this.#sent.set(notificationId, requestedAt)
    this.#latestMs = Math.max(this.#latestMs, requestedAt)
  }

  async send(notifications: readonly Notification[]): Promise<void> {
    const fresh = new Map<string, Notification>()
    for (const one of notifications) {
      const { notificationId } = one
      if (!this.#sent.has(notificationId) && !fresh.has(notificationId)) {
        fresh.set(notificationId, one)
      }
    }
    if (fresh.size === 0) return
    const lines = [...fresh.values()].map(one => `${JSON.stringify(one)}\n`).join('')
    try {
      await this.#file.appendFile(lines)
      await this.#file.datasync()
    } catch (error) {
      // Part of it may be there: nothing of it was sent.
      await this.#file.truncate(this.#size)
      throw error
    }
    this.#size += Buffer.byteLength(lines)
    for (const one of fresh.values()) this.#remember(one)
    this.#forget()
  }

  #forget(): void {
    for (const [id, requestedAt] of this.#sent) {
      if (requestedAt >= this.#latestMs - MEMORY_MS) break
      this.#sent.delete(id)
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

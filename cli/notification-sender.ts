/**
 * Sends what the notification service has asked for. The place in the topic is committed after
 * the sending, so that a kill tells some of it to the channels again, which know what they sent.
 */
import { SchemaPending } from '../contracts/errors.ts'
import { type EventCodec, eventCodec } from '../contracts/event-codec.ts'
import type { NotificationRequested } from '../contracts/events.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { decodeBatches } from '../log/record-columns.ts'
import { type Notification, type NotificationChannel, OutboxFile } from './outbox.ts'
import type { OrderOf } from './shipped-orders.ts'

export const notificationTopic = 'notifications'
export const senderGroup = 'millrace-notification-sender'
/** Each has a file; what is asked for by another goes to `other`. */
const channelNames = ['email', 'sms', 'push', 'other'] as const
type ChannelName = (typeof channelNames)[number]

const FETCH_BYTES = 1 << 20
const WAIT_MS = 500
const RETRY_MS = 1000
/** Of orders that are asked for at a time. */
const ASKED_MAX = 16
const shippedTemplate = 'order-shipped'

export interface SenderOptions {
  readonly log: EventLog
  readonly channels: Readonly<Record<ChannelName, NotificationChannel>>
  readonly schedule: (task: () => void, delayMs: number) => () => void
  /** Asked of each order that is shipped; without it messages say no more than the event. */
  readonly orderOf?: OrderOf
  /** One instance sends: false while it is another's turn. */
  readonly maySend: () => boolean
  /** Default: the process's. */
  readonly codec?: EventCodec
  readonly onError: (error: unknown) => void
}

/** The file-backed channels, in `folder`. */
export async function openOutbox(folder: string): Promise<SenderOptions['channels']> {
  const file = (name: ChannelName) => OutboxFile.open(folder, name)
  return {
    email: await file('email'),
    sms: await file('sms'),
    push: await file('push'),
    other: await file('other'),
  }
}

export class NotificationSender {
  readonly #options: SenderOptions
  readonly #stop = new AbortController()
  #running: Promise<void> | undefined

  constructor(options: SenderOptions) {
    this.#options = options
  }

  start(): void {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
    for (const channel of Object.values(this.#options.channels)) await channel.close()
  }

  async #run(): Promise<void> {
    const { log, maySend, onError } = this.#options
    const { signal } = this.#stop
    let places: Map<number, number> | undefined
    while (!signal.aborted) {
      try {
        if (!maySend()) {
          places = undefined
          await this.#pause(RETRY_MS)
          continue
        }
        places ??= await this.#places()
        const requests = [...places].map(([partition, offset]) => ({
          ...{ topic: notificationTopic, partition, offset },
          bytesMax: FETCH_BYTES,
        }))
        const responses = await log.fetch(requests, { waitMsMax: WAIT_MS, signal })
        for (const { partition, bytes, nextOffset } of responses) {
          const offset = places.get(partition)!
          if (nextOffset <= offset) continue
          await this.#send(bytes, offset)
          await this.#commit({ topic: notificationTopic, partition }, nextOffset)
          places.set(partition, nextOffset)
        }
      } catch (error) {
        if (signal.aborted) return
        onError(error)
        // What was not committed is told again.
        places = undefined
        await this.#pause(RETRY_MS)
      }
    }
  }

  /** The next offset of each partition. */
  async #places(): Promise<Map<number, number>> {
    const { log } = this.#options
    const description = await log.describeTopic(notificationTopic)
    const targets = Array.from({ length: description?.partitions ?? 0 }, (_, partition) => ({
      topic: notificationTopic,
      partition,
    }))
    const [committed, ranges] = await Promise.all([
      log.committed(senderGroup, targets),
      log.offsets(targets),
    ])
    return new Map(
      targets.map(({ partition }, i) => {
        const { startOffset } = ranges[i]
        return [partition, Math.max(committed[i]?.offset ?? 0, startOffset)]
      }),
    )
  }

  async #send(bytes: Buffer, fromOffset: number): Promise<void> {
    const byChannel = new Map<ChannelName, NotificationRequested[]>()
    for (const columns of decodeBatches(bytes, { fromOffset }).runs) {
      for (let i = 0; i < columns.length; i++) {
        const notification = this.#notificationAt(
          columns.bytes,
          columns.valueStart[i],
          columns.valueEnd[i],
        )
        if (notification === undefined) continue
        const name = channelNames.find(known => known === notification.channel) ?? 'other'
        byChannel.set(name, [...(byChannel.get(name) ?? []), notification])
      }
    }
    for (const [name, notifications] of byChannel) {
      await this.#options.channels[name].send(await this.#whole(notifications))
    }
  }

  /**
   * Undefined for what is no notification. Throws SCHEMA_PENDING while its schema is being looked
   * up: it is there again when it is told again.
   */
  #notificationAt(bytes: Buffer, start: number, end: number) {
    if (start < 0) return undefined
    const { codec = eventCodec } = this.#options
    try {
      const event = codec.decode(bytes, start, end)
      return event.type === 'NotificationRequested' ? event : undefined
    } catch (error) {
      if (error instanceof SchemaPending) throw error
      return undefined
    }
  }

  /** The notifications with what the thin event of a shipped order leaves out. */
  async #whole(notifications: readonly NotificationRequested[]): Promise<Notification[]> {
    const { orderOf } = this.#options
    if (orderOf === undefined) return [...notifications]
    const whole: Notification[] = []
    for (let at = 0; at < notifications.length; at += ASKED_MAX) {
      const asked = notifications.slice(at, at + ASKED_MAX).map(async one => {
        if (one.template !== shippedTemplate) return one
        const order = await orderOf(one.orderId, this.#stop.signal)
        return order === undefined ? one : { ...one, order }
      })
      whole.push(...(await Promise.all(asked)))
    }
    return whole
  }

  async #commit(target: TopicPartition, offset: number): Promise<void> {
    const offsets = [{ ...target, offset, metadata: '' }]
    await this.#options.log.begin().commit({ group: senderGroup, offsets })
  }

  #pause(delayMs: number): Promise<void> {
    const { signal } = this.#stop
    return new Promise(resolve => {
      const cancel = this.#options.schedule(resolve, delayMs)
      const end = () => {
        cancel()
        resolve()
      }
      if (signal.aborted) end()
      else signal.addEventListener('abort', end, { once: true })
    })
  }
}

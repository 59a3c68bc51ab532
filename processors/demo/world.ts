/**
 * The demo world: customers of six regions who order, pay, hesitate, cancel and come back, as a
 * pure function of seed and time. No clock and no randomness of its own.
 *
 * Orders are drawn second by second from the seed, and an order's later events from the order.
 * So a restart needs no saved state: the world that goes on at a moment makes the orders again
 * whose events are still to come. Nothing is emitted twice and nothing is lost at the seam.
 */

import { EventQueue } from './event-queue.ts'
import { saleFactor } from './incidents.ts'
import {
  courseOf,
  type GeneratedEvent,
  isLong,
  longHorizonMs,
  type OrderPlace,
  orderStory,
  shortHorizonMs,
} from './order-story.ts'
import { busyness, regions } from './regions.ts'
import { hashOf, SeededStream } from './seeded-stream.ts'

export interface DemoOptions {
  readonly seed: number
  /** Epoch ms: the first orders come with the next whole second. */
  readonly startMs: number
  /** Events a second, the mean over a week. */
  readonly ratePerSecond: number
  /** Whether the world pays too; off when a payment service does. Default true. */
  readonly payments?: boolean
  /** Epoch ms: go on from here, as a world advanced to this moment would. Default `startMs`. */
  readonly resumeMs?: number
}

/** What a restart needs, as plain JSON. */
export interface DemoSnapshot {
  readonly seed: number
  readonly startMs: number
  readonly ratePerSecond: number
  readonly payments: boolean
  readonly resumeMs: number
}

const slotMs = 1000
/** Events that an order has on average, measured over a week of worlds. */
const eventsPerOrder = { withPayments: 2.285, alone: 1.13 }
/** A customer orders about four times a day at any rate. */
const customersPerRate = 10_000
const fewestCustomers = 20_000
/** Above this rate fewer orders wait for hours, so that pending events stay a few 100,000. */
const fullLongRate = 50

export class DemoWorld {
  private readonly options: DemoSnapshot
  private readonly queue = new EventQueue()
  /** Orders of slots before this one are in the queue or behind. */
  private nextSlot: number
  private nowMs: number
  private readonly ordersPerSlot: number
  private readonly longShare: number
  private readonly customers: number
  private means: readonly number[] = []
  private meansMinute = Number.NaN
  /** Tells this world's ids from those of another seed, start or rate. */
  private readonly mark: string

  constructor(options: DemoOptions) {
    const { seed, startMs, ratePerSecond, payments = true } = options
    const resumeMs = Math.max(startMs, options.resumeMs ?? startMs)
    this.options = { seed, startMs, ratePerSecond, payments, resumeMs }
    const perOrder = payments ? eventsPerOrder.withPayments : eventsPerOrder.alone
    this.ordersPerSlot = ((ratePerSecond / perOrder) * slotMs) / 1000
    this.customers = Math.max(fewestCustomers, Math.round(customersPerRate * ratePerSecond))
    this.longShare = Math.min(1, fullLongRate / ratePerSecond)
    this.mark = hashOf(seed, startMs, ratePerSecond * 1000)
      .toString(36)
      .slice(0, 4)
    this.nowMs = resumeMs
    this.nextSlot = Math.ceil(startMs / slotMs)
    this.recall()
  }

  /** The world that `snapshot` was taken of, at that moment. */
  static restore(snapshot: DemoSnapshot): DemoWorld {
    return new DemoWorld(snapshot)
  }

  snapshot(): DemoSnapshot {
    return { ...this.options, resumeMs: this.nowMs }
  }

  /** Events made but not yet due. */
  get pending(): number {
    return this.queue.size
  }

  /** The events that reach the log from where the world is up to `toMs`, exclusive, in order. */
  advance(toMs: number): GeneratedEvent[] {
    const events: GeneratedEvent[] = []
    for (; this.nextSlot * slotMs < toMs; this.nextSlot += 1) {
      this.drain(this.nextSlot * slotMs, events)
      this.makeSlot(this.nextSlot, false)
    }
    this.drain(toMs, events)
    this.nowMs = Math.max(this.nowMs, toMs)
    return events
  }

  /** Makes again what an uninterrupted world would have pending at `nowMs`. */
  private recall(): void {
    const { nowMs } = this
    const end = Math.ceil(nowMs / slotMs)
    const firstLong = Math.floor((nowMs - longHorizonMs) / slotMs)
    const firstShort = Math.floor((nowMs - shortHorizonMs) / slotMs)
    for (let slot = Math.max(this.nextSlot, firstLong); slot < end; slot += 1) {
      this.makeSlot(slot, slot < firstShort)
    }
    this.nextSlot = Math.max(this.nextSlot, end)
  }

  private drain(beforeMs: number, events: GeneratedEvent[]): void {
    while (this.queue.nextMs < beforeMs) events.push(this.queue.pop())
  }

  private makeSlot(slot: number, longOnly: boolean): void {
    const { seed } = this.options
    const startMs = slot * slotMs
    const slotStream = new SeededStream(seed, slot, 1)
    const means = this.orderMeans(startMs)
    for (let regionIndex = 0; regionIndex < regions.length; regionIndex += 1) {
      const count = slotStream.poisson(means[regionIndex])
      for (let order = 0; order < count; order += 1) {
        const stream = new SeededStream(seed, slot, regionIndex, order)
        const course = courseOf(stream, this.longShare)
        if (longOnly && !isLong(course)) continue
        const number = order * regions.length + regionIndex
        const orderId = `o-${this.mark}-${slot.toString(36)}-${number.toString(36)}`
        const createdAt = startMs + stream.below(slotMs)
        const { customers } = this
        this.enqueue({ seed, orderId, createdAt, regionIndex, customers, stream, course })
      }
    }
  }

  /** Orders of a slot by region, on average: the same throughout a minute. */
  private orderMeans(timeMs: number): readonly number[] {
    const minute = Math.floor(timeMs / 60_000)
    if (minute !== this.meansMinute) {
      const atMs = minute * 60_000
      this.meansMinute = minute
      this.means = regions.map(({ share }, i) => {
        const level = busyness(i, atMs) * saleFactor(this.options.seed, i, atMs)
        return this.ordersPerSlot * share * level
      })
    }
    return this.means
  }

  private enqueue(place: OrderPlace): void {
    for (const event of orderStory(place)) {
      if (event.emittedAtMs < this.nowMs) continue
      if (event.topic === 'payments' && !this.options.payments) continue
      this.queue.push(event)
    }
  }
}

export interface BacklogChunk {
  readonly events: readonly GeneratedEvent[]
  /** Up to when the chunk goes, exclusive. */
  readonly toMs: number
}

/**
 * The world's events from where it is up to `toMs`, in chunks of `chunkMs`: a history for a first
 * start. Take a chunk, append it, take the next; after the last the world goes on from `toMs`.
 */
export function* backlog(
  world: DemoWorld,
  toMs: number,
  chunkMs = 60_000,
): Generator<BacklogChunk> {
  for (let fromMs = world.snapshot().resumeMs; fromMs < toMs; ) {
    fromMs = Math.min(toMs, fromMs + chunkMs)
    yield { events: world.advance(fromMs), toMs: fromMs }
  }
}

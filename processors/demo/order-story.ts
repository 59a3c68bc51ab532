/**
 * The story of one order in the demo world: what the customer buys, how it is paid or not, what
 * is cancelled or refunded, and when each event reaches the log. A pure function of its place.
 */
import type { BusinessEvent, OrderItem } from '../../contracts/events.ts'
import { eventKeyOf, eventTimeOf, eventTopics, type InputTopic } from '../../contracts/topics.ts'
import { type Customer, methodOf, pickCustomer, pickMethod } from './customers.ts'
import { hasOutage, promotedCategory } from './incidents.ts'
import { categoryCount, categorySums, productOf } from './products.ts'
import { regions } from './regions.ts'
import type { SeededStream } from './seeded-stream.ts'

export interface GeneratedEvent {
  /** When the event reaches the log, epoch ms: never before it happened. */
  readonly emittedAtMs: number
  readonly eventTimeMs: number
  readonly topic: InputTopic
  readonly key: string
  readonly event: BusinessEvent
  /** Equal for a duplicate. */
  readonly ceId: string
  /** The second delivery of an event. */
  readonly duplicate: boolean
}

/** Where in the world an order is. */
export interface OrderPlace {
  readonly seed: number
  readonly orderId: string
  readonly createdAt: number
  readonly regionIndex: number
  /** How many customers the world has. */
  readonly customers: number
  /** The order's own random numbers, after the one that chose its course. */
  readonly stream: SeededStream
  readonly course: OrderCourse
  /** The same customer again, where the order follows another. */
  readonly customer?: Customer
}

/** What will become of an order, in broad strokes. */
export type OrderCourse = 'usual' | 'slow-payer' | 'late-refund' | 'unpaid' | 'returned'

const secondMs = 1000
const minuteMs = 60 * secondMs
const hourMs = 60 * minuteMs

/** No event of an order, repeat orders included, reaches the log later than this after it. */
export const longHorizonMs = 22 * hourMs
/** The same for orders of a short course. */
export const shortHorizonMs = 2 * hourMs

/** Courses with events hours later: few, since all of them are pending at any time. */
export function isLong(course: OrderCourse): boolean {
  return course === 'slow-payer' || course === 'late-refund'
}

/** The order's course; `longShare` scales the long ones down in worlds of a high rate. */
export function courseOf(stream: SeededStream, longShare: number): OrderCourse {
  const drawn = stream.next()
  if (drawn < 0.035 * longShare) return 'slow-payer'
  if (drawn < 0.05 * longShare) return 'late-refund'
  if (drawn >= 0.98) return 'returned'
  if (drawn >= 0.95) return 'unpaid'
  return 'usual'
}

/** All events of the order, in the order in which they happen; not that of emission. */
export function orderStory(place: OrderPlace): GeneratedEvent[] {
  const story = new OrderStory(place)
  story.run()
  return story.events
}

const declineReasons = ['insufficient-funds', 'expired-card', 'suspected-fraud', 'limit-exceeded']
const cancelReasons = ['changed-mind', 'found-cheaper', 'ordered-twice', 'delivery-too-slow']
const refundReasons = ['returned', 'damaged', 'not-as-described', 'arrived-late']
/** A delivery later than this is beyond the grace of the views. */
const lateMs = 10 * minuteMs

class OrderStory {
  readonly events: GeneratedEvent[] = []
  private readonly place: OrderPlace
  private readonly stream: SeededStream
  private readonly customer: Customer
  private readonly currency: string
  private totalMinor = 0
  private step = 0
  private attempts = 0

  constructor(place: OrderPlace) {
    this.place = place
    this.stream = place.stream
    this.customer = place.customer ?? pickCustomer(place.regionIndex, place.customers, place.stream)
    this.currency = regions[place.regionIndex].currency
  }

  run(): void {
    const { place, stream } = this
    this.create()
    if (place.course === 'unpaid') {
      if (stream.chance(0.5)) this.cancel(place.createdAt + stream.between(1, 30) * minuteMs)
    } else {
      const waitMs =
        place.course === 'slow-payer'
          ? stream.between(1, 9) * hourMs
          : 2 * secondMs + stream.exponential(25 * secondMs, 10 * minuteMs)
      this.pay(place.createdAt + Math.round(waitMs))
    }
    if (place.customer === undefined && stream.chance(0.08)) this.orderAgain()
  }

  private create(): void {
    const items = this.basket()
    this.totalMinor = items.reduce((sum, item) => sum + item.quantity * item.unitPriceMinor, 0)
    this.emit({
      type: 'OrderCreated',
      orderId: this.place.orderId,
      customerId: this.customer.id,
      region: regions[this.place.regionIndex].name,
      currency: this.currency,
      items,
      totalMinor: this.totalMinor,
      createdAt: this.place.createdAt,
    })
  }

  private basket(): OrderItem[] {
    const { stream, place } = this
    const promoted = promotedCategory(place.seed, place.regionIndex, place.createdAt, categoryCount)
    const items: OrderItem[] = []
    do {
      const mood = stream.next()
      let category = stream.pickWeighted(categorySums)
      if (mood < 0.45) category = this.customer.favouriteCategory
      else if (mood < 0.57) category = promoted
      const { sku, category: name, pricesMinor } = productOf(category, stream)
      if (items.some(item => item.sku === sku)) continue
      const quantity = stream.chance(0.82) ? 1 : 2 + Math.floor(stream.exponential(0.7, 8))
      const unitPriceMinor = pricesMinor[place.regionIndex]
      items.push({ sku, category: name, quantity, unitPriceMinor })
    } while (items.length < 6 && stream.chance(0.42))
    return items
  }

  private pay(firstMs: number): void {
    const { stream, customer } = this
    let method = stream.chance(0.9) ? customer.method : pickMethod(stream)
    const attemptsMax = customer.stubborn ? 6 : 3
    const short = customer.stubborn && stream.chance(0.02)
    let timeMs = firstMs
    while (this.attempts < attemptsMax) {
      this.attempts += 1
      if (this.isAuthorized(method, timeMs, short)) {
        this.authorize(method, timeMs)
        return
      }
      this.decline(method, timeMs)
      if (!customer.stubborn && stream.chance(0.25)) return
      timeMs += Math.round(stream.between(15, customer.stubborn ? 60 : 150) * secondMs)
      if (!short && stream.chance(0.3)) method = pickMethod(stream)
    }
  }

  private isAuthorized(method: string, timeMs: number, short: boolean): boolean {
    if (short && this.attempts < 5) return false
    const share = hasOutage(this.place.seed, method, timeMs) ? 0.35 : methodOf(method).authorized
    return this.stream.chance(share)
  }

  private payment(method: string) {
    return {
      paymentId: `p-${this.place.orderId.slice(2)}-${this.attempts}`,
      orderId: this.place.orderId,
      amountMinor: this.totalMinor,
      currency: this.currency,
      method,
    }
  }

  private authorize(method: string, authorizedAt: number): void {
    const { stream, place } = this
    this.emit({ type: 'PaymentAuthorized', ...this.payment(method), authorizedAt })
    if (place.course === 'late-refund') {
      this.refund(method, stream.pick(refundReasons), authorizedAt + stream.between(2, 20) * hourMs)
    }
    if (place.course === 'returned') {
      const cancelledAt = authorizedAt + stream.between(1, 15) * minuteMs
      this.cancel(cancelledAt)
      this.refund(method, 'order-cancelled', cancelledAt + stream.between(5, 90) * secondMs)
    }
  }

  private decline(method: string, declinedAt: number): void {
    const outage = hasOutage(this.place.seed, method, declinedAt)
    const reason = outage ? 'issuer-unavailable' : this.stream.pick(declineReasons)
    this.emit({ type: 'PaymentDeclined', ...this.payment(method), reason, declinedAt })
  }

  private refund(method: string, reason: string, timeMs: number): void {
    const refundedAt = Math.round(timeMs)
    this.emit({ type: 'PaymentRefunded', ...this.payment(method), reason, refundedAt })
  }

  private cancel(timeMs: number): void {
    const { stream, place } = this
    const reason = stream.pick(cancelReasons)
    const cancelledAt = Math.round(timeMs)
    this.emit({ type: 'OrderCancelled', orderId: place.orderId, reason, cancelledAt })
  }

  /** Some customers come back within the half hour, which makes a session of several orders. */
  private orderAgain(): void {
    const { stream, place, customer } = this
    const createdAt = place.createdAt + Math.round(stream.between(2, 25) * minuteMs)
    const orderId = `${place.orderId}-again`
    this.events.push(
      ...orderStory({ ...place, orderId, createdAt, customer, course: 'usual', stream }),
    )
  }

  private emit(event: BusinessEvent): void {
    const { stream, place } = this
    this.step += 1
    const eventTimeMs = eventTimeOf(event)
    const emittedAtMs = eventTimeMs + Math.round(this.deliveryMs())
    const generated = {
      emittedAtMs,
      eventTimeMs,
      topic: eventTopics[event.type],
      key: eventKeyOf(event),
      event,
      ceId: `${place.orderId}.${this.step}`,
      duplicate: false,
    }
    this.events.push(generated)
    if (stream.chance(0.004)) {
      const again = emittedAtMs + Math.round(stream.between(1, 60) * secondMs)
      this.events.push({ ...generated, emittedAtMs: again, duplicate: true })
    }
  }

  /** From happening to the log: mostly a moment, sometimes minutes, seldom beyond the grace. */
  private deliveryMs(): number {
    const { stream } = this
    const drawn = stream.next()
    if (drawn < 0.0008) return lateMs + stream.between(1, 10) * minuteMs
    if (drawn < 0.02) return stream.between(5, 300) * secondMs
    return 20 + stream.exponential(120, 5 * secondMs)
  }
}

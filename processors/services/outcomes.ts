/** What happens to orders in the seeded world: the same order always fares the same. */
import { methodOf, pickMethod } from '../demo/customers.ts'
import { hasOutage } from '../demo/incidents.ts'
import { SeededStream } from '../demo/seeded-stream.ts'

const secondMs = 1000

/** Payments that are tried before the customer gives up. */
export const paymentAttemptsMax = 3
/** A declined payment is declined again more often than a first one. */
const retryFactor = 0.6
const refusedShare = 0.015
const failedShare = 0.02

const declineReasons = ['insufficient-funds', 'expired-card', 'suspected-fraud', 'limit-exceeded']
const failureReasons = ['address-unknown', 'parcel-lost', 'carrier-strike']
export const notificationChannels = ['email', 'sms', 'push']
const carriers = ['northern-post', 'swift-parcel', 'green-courier', 'blue-freight']

/** Random numbers of one matter of one order. */
function streamOf(seed: number, orderId: string, matter: number): SeededStream {
  const codes = Array.from(orderId, letter => letter.codePointAt(0)!)
  return new SeededStream(seed, matter, ...codes)
}

export interface PaymentAttempt {
  readonly method: string
  /** Why it is declined; undefined when it is authorized. */
  readonly declined: string | undefined
}

/** From the order to its first payment, or from a declined one to the next, ms. */
export function paymentDelayMs(seed: number, orderId: string, attempt: number): number {
  const stream = streamOf(seed, orderId, 100 + attempt)
  return Math.round(2 * secondMs + stream.exponential(8 * secondMs, 60 * secondMs))
}

/** The attempt, counted from 1, that is made at this time. */
export function paymentAttempt(
  seed: number,
  orderId: string,
  attempt: number,
  atMs: number,
): PaymentAttempt {
  const stream = streamOf(seed, orderId, 200)
  let method = pickMethod(stream)
  for (let other = 1; other < attempt; other += 1) {
    if (stream.chance(0.3)) method = pickMethod(stream)
  }
  const { authorized } = methodOf(method)
  const outage = hasOutage(seed, method, atMs)
  const share = outage ? 0.35 : attempt === 1 ? authorized : authorized * retryFactor
  const own = streamOf(seed, orderId, 300 + attempt)
  if (own.chance(share)) return { method, declined: undefined }
  return { method, declined: outage ? 'issuer-unavailable' : own.pick(declineReasons) }
}

/** From one step to what answers it at once: a reservation, a refund, ms. */
export function answerDelayMs(seed: number, orderId: string, step: number): number {
  return Math.round(200 + streamOf(seed, orderId, 400 + step).exponential(600, 5 * secondMs))
}

/** Which item turns out to be damaged, by its place; undefined for almost all orders. */
export function damagedItem(seed: number, orderId: string, items: number): number | undefined {
  const stream = streamOf(seed, orderId, 500)
  return items > 0 && stream.chance(refusedShare) ? stream.below(items) : undefined
}

/** From the reservation to the carrier, ms. */
export function packingMs(seed: number, orderId: string): number {
  const stream = streamOf(seed, orderId, 600)
  return Math.round(3 * secondMs + stream.exponential(10 * secondMs, 60 * secondMs))
}

/** How a customer likes to be told. */
export function channelOf(seed: number, customerId: string): string {
  return streamOf(seed, customerId, 800).pick(notificationChannels)
}

export interface Delivery {
  readonly carrier: string
  readonly tracking: string
  /** Why it fails; undefined when it does not. */
  readonly failed: string | undefined
}

export function delivery(seed: number, orderId: string): Delivery {
  const stream = streamOf(seed, orderId, 700)
  const carrier = stream.pick(carriers)
  const failed = stream.chance(failedShare) ? stream.pick(failureReasons) : undefined
  const digits = Array.from({ length: 12 }, () => stream.below(10)).join('')
  return { carrier, tracking: `${carrier.slice(0, 2).toUpperCase()}${digits}`, failed }
}

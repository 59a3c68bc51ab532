/**
 * What the thin event OrderShipped leaves out, asked for where it is needed: a message to the
 * customer. `GET /v1/orders/{id}` may be a moment behind the event, so it is asked again until the
 * order has its parcel.
 */
import type { OrderItem } from '../contracts/events.ts'
import { bodyOf, type Connection } from './connection.ts'

export interface ShippedOrder {
  readonly tracking: string
  readonly carrier: string | null
  readonly currency: string | null
  readonly totalMinor: number | null
  readonly items: readonly OrderItem[]
}

/** Undefined where nobody knows of its parcel. Rejects while nobody can be asked, and on a stop. */
export type OrderOf = (orderId: string, signal: AbortSignal) => Promise<ShippedOrder | undefined>

const TRIES_MAX = 20
const PAUSE_MS = 500
const NOT_FOUND = 404
/** Refusals that say nothing of the order asked for: they pass, or are to be mended. */
const passing = new Set([401, 403, 408, 425, 429])

export interface ShippedOrdersOptions {
  readonly connection: Connection
  /** Its address, for errors. */
  readonly url: string
  readonly schedule: (task: () => void, delayMs: number) => () => void
}

export function shippedOrders({ connection, url, schedule }: ShippedOrdersOptions): OrderOf {
  return async (orderId, signal) => {
    for (let tries = 1; ; tries++) {
      const answer = await connection.get(`/v1/orders/${encodeURIComponent(orderId)}`)
      const { status } = answer
      const known = status !== NOT_FOUND
      // An id that nobody can ask for must not hold up what comes after it.
      if (known && status >= 400 && status < 500 && !passing.has(status)) return undefined
      const order = known ? (bodyOf(answer, url) as unknown as ShippedOrder) : undefined
      if (typeof order?.tracking === 'string') {
        const { tracking, carrier, currency, totalMinor, items } = order
        return { tracking, carrier, currency, totalMinor, items }
      }
      if (tries === TRIES_MAX) return undefined
      await new Promise<void>(resolve => schedule(resolve, PAUSE_MS))
      signal.throwIfAborted()
    }
  }
}

/** What becomes of a command: a pure decision on the order as it is. */
import type { OrderCommand, Refusal } from '../../contracts/order-commands.ts'
import { totalOf } from '../../contracts/order-commands.ts'
import { itemsBytes, itemsBytesMax } from './order-items.ts'
import { isFinal, isOpen, type OrderEvent, type OrderState, orderEventsMax } from './order-state.ts'

export type Decision = { readonly event: OrderEvent } | { readonly refusal: Refusal }

/**
 * The event that the command leads to, at `timeMs` or, where the order's clock is ahead, with its
 * last event: what was decided comes after all that it was decided on.
 */
export function decide(order: OrderState, command: OrderCommand, timeMs: number): Decision {
  const refusal = refusalOf(order, command)
  if (refusal !== undefined) return { refusal }
  const at = Math.max(timeMs, order.updatedAt)
  const { orderId } = order
  switch (command.type) {
    case 'PlaceOrder': {
      const { type: _, ifMatch: __, ...fields } = command
      if (itemsBytes(fields.items) > itemsBytesMax) return { refusal: 'ORDER_FULL' }
      return { event: { type: 'OrderCreated', ...fields, createdAt: at } }
    }
    case 'AddItems': {
      const totalMinor = (order.totalMinor ?? 0) + totalOf(command.items)
      if (!Number.isSafeInteger(totalMinor)) return { refusal: 'ORDER_TOO_LARGE' }
      const { items } = command
      const added = order.events.map(({ event }) =>
        event.type === 'OrderItemsAdded' ? itemsBytes(event.items) : 0,
      )
      const addedBytes = added.reduce((sum, bytes) => sum + bytes, itemsBytes(items))
      if (addedBytes > itemsBytesMax) return { refusal: 'ORDER_FULL' }
      return { event: { type: 'OrderItemsAdded', orderId, items, totalMinor, addedAt: at } }
    }
    case 'CancelOrder': {
      const { reason } = command
      return { event: { type: 'OrderCancelled', orderId, reason, cancelledAt: at } }
    }
  }
}

function refusalOf(order: OrderState, command: OrderCommand): Refusal | undefined {
  const isKnown = order.createdAt !== null
  if (command.type === 'PlaceOrder') return isKnown ? 'ORDER_EXISTS' : undefined
  if (!isKnown) return 'ORDER_UNKNOWN'
  if (command.ifMatch !== null && command.ifMatch !== order.version) return 'ORDER_CHANGED'
  if (order.events.length >= orderEventsMax) return 'ORDER_FULL'
  if (command.type === 'AddItems') return isOpen(order) ? undefined : 'ORDER_CLOSED'
  return isFinal(order) ? 'ORDER_CLOSED' : undefined
}

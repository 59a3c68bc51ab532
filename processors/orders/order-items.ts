/**
 * How much an order may have. Rows of services hold its items, and the topics of rows take about
 * 1 MiB. All judge alike by the events of the topic `orders` alone: what one of them charged, and
 * another had put aside, would never be delivered. So all that is added once that was too much is
 * too much, however little: its total includes what was put aside.
 */
import type { OrderItem } from '../../contracts/events.ts'

/** Of the items that an order is created with, and of all that are added, as JSON. */
export const itemsBytesMax = 64 * 1024

export function itemsBytes(items: readonly OrderItem[]): number {
  return Buffer.byteLength(JSON.stringify(items))
}

/** Throws a RangeError where an order is created with more than it may have. */
export function checkCreated(orderId: string, items: readonly OrderItem[]): void {
  const bytes = itemsBytes(items)
  if (bytes > itemsBytesMax) throw new RangeError(tooMany(orderId, bytes))
}

/** What is said of items that are put aside. */
export function tooMany(orderId: string, bytes: number): string {
  return `the items of order ${orderId} come to ${bytes} bytes, of ${itemsBytesMax}`
}

/**
 * How much an order may have. Rows of services hold its items, and the topics of rows take about
 * 1 MiB. All judge alike by the events of the topic `orders` alone: what one of them charged, and
 * another had put aside, would never be delivered.
 */
import type { OrderItem } from '../../contracts/events.ts'

/** Of the items that an order is created with, and of all that are added, as JSON. */
export const itemsBytesMax = 64 * 1024

const bytesOf = (items: readonly OrderItem[]) => Buffer.byteLength(JSON.stringify(items))

/** Bytes of items and of those before them. Throws a RangeError where these are too many. */
export function itemsBytes(orderId: string, items: readonly OrderItem[], before = 0): number {
  const bytes = before + bytesOf(items)
  if (bytes <= itemsBytesMax) return bytes
  throw new RangeError(`the items of order ${orderId} come to ${bytes} bytes, of ${itemsBytesMax}`)
}

/** Whether items may be added behind others, of which those that were too many do not count. */
export function mayAdd(items: readonly OrderItem[], added: readonly (readonly OrderItem[])[]) {
  let bytes = 0
  for (const before of added) {
    const next = bytes + bytesOf(before)
    if (next <= itemsBytesMax) bytes = next
  }
  return bytes + bytesOf(items) <= itemsBytesMax
}

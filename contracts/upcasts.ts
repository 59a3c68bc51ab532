/**
 * What Avro's resolution cannot express: fields of today's events whose value, in events written
 * before they existed, follows from other fields. A schema's default is one value for all of them.
 */
import type { EventType } from './events.ts'

export interface Upcast {
  /** Fields of the older event that the value is made from. */
  readonly from: readonly string[]
  readonly value: (older: Readonly<Record<string, unknown>>) => unknown
}

/** By the name of the field. */
export type Upcasts = Readonly<Record<string, Upcast>>

/** Only customers cancelled when the first version was written, for one of these reasons. */
const customersReasons: ReadonlySet<unknown> = new Set([
  'changed-mind',
  'found-cheaper',
  'ordered-twice',
  'delivery-too-slow',
])

export const upcasts: Readonly<Partial<Record<EventType, Upcasts>>> = {
  OrderCancelled: {
    cancelledBy: {
      from: ['reason'],
      value: ({ reason }) => (customersReasons.has(reason) ? 'customer' : null),
    },
  },
}

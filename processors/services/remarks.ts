/**
 * Services that only speak of orders to others: to their customers, or about them. What they say
 * names the customer, so it waits for OrderCreated; each remark is made once an order.
 */
import type { BusinessEvent, EventType } from '../../contracts/events.ts'
import { json, type ProcessorRecord, type Stream, type Topology } from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { type Cause, causeOf, type Message, messages, readEvents, send } from './messages.ts'
import { rowOf, timedRow } from './order-rows.ts'

type OrderRecord = ProcessorRecord<string, BusinessEvent>

/** What an event gives rise to say. */
export interface Remark {
  /** What it is: said once an order. */
  readonly about: string
  readonly score?: number
}

/** A remark with the event that it follows from. */
export interface Said extends Remark {
  readonly orderId: string
  readonly customerId: string
  readonly cause: Cause
  readonly atMs: number
}

interface Order {
  readonly customerId?: string
  readonly about: readonly string[]
  readonly waiting: readonly Omit<Said, 'customerId' | 'orderId'>[]
}

export interface RemarkOptions {
  readonly name: string
  readonly types: readonly EventType[]
  readonly keepMs: number
  readonly remarkOf: (record: OrderRecord) => Remark | undefined
  readonly messageOf: (said: Said) => Message
}

const stores = { orders: { key: orderKey, codec: json<Order>() } } as const

export function remarks(topology: Topology, options: RemarkOptions): Stream<string, Message> {
  const { name, types, keepMs, remarkOf, messageOf } = options
  return readEvents(topology, ...types).process<typeof stores, string, Message>({
    name,
    key: orderKey,
    stores,
    wallClock: true,
    results: messages,
    keepsKeys: true,
    create: context => ({
      process: record => {
        const { key } = record
        const rows = context.store('orders')
        const before = rowOf(rows, record, context, keepMs)
        const order = withRemark(before ?? { about: [], waiting: [] }, record, remarkOf(record))
        const { customerId, waiting } = order
        if (customerId === undefined) {
          rows.put(key, order)
          return
        }
        for (const said of waiting) {
          send(context, key, messageOf({ ...said, orderId: key, customerId }))
        }
        rows.put(key, { ...order, waiting: [] })
      },
      onTimer: timer => void timedRow(context.store('orders'), timer),
    }),
  })
}

function withRemark(order: Order, record: OrderRecord, remark: Remark | undefined): Order {
  const { value: event } = record
  const customerId = event.type === 'OrderCreated' ? event.customerId : undefined
  const known = { ...(customerId !== undefined && { customerId }), ...order }
  if (remark === undefined || order.about.includes(remark.about)) return known
  const said = { ...remark, cause: causeOf(record), atMs: record.timeMs }
  return { ...known, about: [...order.about, remark.about], waiting: [...order.waiting, said] }
}

/** Facts of orders: events with what their headers and places in the log say of them. */
import type { BusinessEvent } from '../../contracts/events.ts'
import type { RecordContext } from '../../streams/index.ts'
import { isOrderEvent, type OrderFact } from './order-state.ts'

/** Throws where the event is none of an order's own. */
export function orderFact(event: BusinessEvent, record: RecordContext): OrderFact {
  if (!isOrderEvent(event)) throw new TypeError(`${event.type} is no event of an order`)
  const { topic = '', partition = 0 } = record.origin ?? {}
  const { offset } = record
  const text = (name: string) => record.header(name)?.toString() || null
  return {
    id: text('ce_id') ?? `${topic}/${partition}/${offset}`,
    event,
    actor: text('actor'),
    correlationId: text('correlationid'),
    causationId: text('causationid'),
    topic,
    partition,
    offset,
  }
}

/**
 * Commands to orders and what becomes of them. A command asks, and may be refused; the events that
 * it leads to are what has happened. Commands are JSON records of the topic `order-commands`, keyed
 * by order; the record's `ce_id` is the command's id, its timestamp the time of the asking.
 */
import { shown } from './avro-writer.ts'
import { checkEventFields, type RuleBreach } from './event-rules.ts'
import type { OrderItem } from './events.ts'

export const orderCommandTopic = 'order-commands'
/** The view with what became of each command, for a week. */
export const orderCommandView = 'order-commands'

interface Command {
  readonly orderId: string
  /** The version that the order must have; null: any. */
  readonly ifMatch: number | null
}

export interface PlaceOrder extends Command {
  readonly type: 'PlaceOrder'
  readonly customerId: string
  readonly region: string
  readonly currency: string
  readonly items: readonly OrderItem[]
  readonly totalMinor: number
  readonly channel: string | null
}

export interface AddItems extends Command {
  readonly type: 'AddItems'
  readonly items: readonly OrderItem[]
}

export interface CancelOrder extends Command {
  readonly type: 'CancelOrder'
  readonly reason: string
}

export type OrderCommand = PlaceOrder | AddItems | CancelOrder
export type OrderCommandType = OrderCommand['type']

/** A command as it is in the log. */
export interface OrderCommandRecord {
  readonly id: string
  /** Tells commands of one id apart that ask for different things. */
  readonly fingerprint: string
  readonly command: OrderCommand
}

export const refusals = [
  'ORDER_UNKNOWN',
  'ORDER_EXISTS',
  'ORDER_CHANGED',
  'ORDER_CLOSED',
  'ORDER_FULL',
  'ORDER_TOO_LARGE',
] as const
export type Refusal = (typeof refusals)[number]

/** What became of a command: a row of the view `order-commands`. */
export interface OrderOutcome {
  readonly orderId: string
  readonly type: OrderCommandType
  readonly fingerprint: string
  /** Null where it was done. */
  readonly refusal: Refusal | null
  /** Of the order, after it. */
  readonly version: number
  readonly status: string
  /** `ce_id` and type of the event that it led to; null where it was refused. */
  readonly eventId: string | null
  readonly eventType: string | null
  /** Epoch ms. */
  readonly decidedAt: number
}

/** Bytes of a command's body. */
export const commandBytesMax = 64 * 1024

type Body = Readonly<Record<string, unknown>>
type Parsed = { readonly command: OrderCommand } | { readonly breach: RuleBreach }

const bodyFields: Readonly<Record<OrderCommandType, readonly string[]>> = {
  PlaceOrder: ['customerId', 'region', 'currency', 'items', 'totalMinor', 'channel'],
  AddItems: ['items'],
  CancelOrder: ['reason'],
}

/** A command from the body of a request, or the first rule that the body breaks. */
export function orderCommand(
  type: OrderCommandType,
  body: unknown,
  { orderId, ifMatch }: Command,
): Parsed {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    return invalid('body: expected an object')
  }
  const given = body as Body
  const unknown = Object.keys(given).find(name => !bodyFields[type].includes(name))
  if (unknown !== undefined) {
    const detail = `body: ${type} has no field ${JSON.stringify(unknown.slice(0, 64))}`
    return { breach: { code: 'FIELD_UNKNOWN', detail } }
  }
  const common = { orderId, ifMatch }
  switch (type) {
    case 'PlaceOrder': {
      // Without a total of its own it is that of the items, once those are known to be good.
      const event = { totalMinor: 0, channel: null, ...given, orderId, createdAt: 0 }
      const breach =
        checkEventFields('OrderCreated', event, 'body') ?? checkCurrency(given) ?? checkItems(given)
      if (breach !== undefined) return { breach }
      const { customerId, region, currency, items, channel } = event as unknown as PlaceOrder
      const totalMinor = (given.totalMinor as number | undefined) ?? totalOf(items)
      if (!Number.isSafeInteger(totalMinor)) return tooLarge
      const fields = { customerId, region, currency, items, totalMinor, channel }
      return { command: { type, ...common, ...fields } }
    }
    case 'AddItems': {
      const event = { ...given, orderId, totalMinor: 0, addedAt: 0 }
      const breach = checkEventFields('OrderItemsAdded', event, 'body') ?? checkItems(given)
      if (breach !== undefined) return { breach }
      const { items } = given as unknown as AddItems
      return Number.isSafeInteger(totalOf(items))
        ? { command: { type, ...common, items } }
        : tooLarge
    }
    case 'CancelOrder': {
      const event = { ...given, orderId, cancelledAt: 0 }
      const breach = checkEventFields('OrderCancelled', event, 'body')
      if (breach !== undefined) return { breach }
      return { command: { type, ...common, reason: given.reason as string } }
    }
  }
}

/** An ISO 4217 code; which of them are in use is not judged. */
function checkCurrency({ currency }: Body): RuleBreach | undefined {
  if (/^[A-Z]{3}$/.test(currency as string)) return undefined
  const expected = 'expected three capital letters, such as EUR'
  return { code: 'FIELD_INVALID', detail: `body.currency: ${expected}, got ${shown(currency)}` }
}

function checkItems({ items }: Body): RuleBreach | undefined {
  if ((items as readonly unknown[]).length > 0) return undefined
  return { code: 'FIELD_INVALID', detail: 'body.items: expected at least one item' }
}

const tooLarge: Parsed = {
  breach: { code: 'NUMBER_TOO_LARGE', detail: 'body.items: their sum is above 2^53 - 1' },
}

function invalid(detail: string): Parsed {
  return { breach: { code: 'FIELD_INVALID', detail } }
}

/** Minor units; not a safe integer where it is too large. */
export function totalOf(items: readonly OrderItem[]): number {
  // Each step is checked: what is too large on the way must not come back by rounding.
  let total = 0
  for (const { quantity, unitPriceMinor } of items) {
    total += quantity * unitPriceMinor
    if (!Number.isSafeInteger(total)) return Number.NaN
  }
  return total
}

const types = Object.keys(bodyFields) as OrderCommandType[]

/** Checks what somebody has written to the topic. Throws a TypeError where it is no command. */
export function checkCommandRecord(record: OrderCommandRecord | null, key: string | null): true {
  const wrong = (reason: string): never => {
    throw new TypeError(`this is no command: ${reason}`)
  }
  if (record === null) return wrong('it has no value')
  const { id, fingerprint, command } = record
  if (typeof id !== 'string' || id === '') return wrong('it has no id')
  if (typeof fingerprint !== 'string') return wrong('it has no fingerprint')
  if (!types.includes(command?.type)) return wrong('its type is unknown')
  const { type, orderId, ifMatch, ...body } = command
  if (orderId !== key) return wrong('the key is not its orderId')
  if (ifMatch !== null && !Number.isSafeInteger(ifMatch)) return wrong('ifMatch is no version')
  const parsed = orderCommand(type, body, { orderId, ifMatch })
  return 'breach' in parsed ? wrong(parsed.breach.detail) : true
}

/**
 * The process manager of the orchestrated saga: it alone knows the order of the steps.
 *
 * in     orders, payments, inventory, fulfilment by orderId: what the services answer
 * time   a command is told again by the wall clock when it has no answer
 * state  one row an order, kept for `keepMs`, changelogged; the view `sagas`
 * out    commands to `saga-commands`. A charge or a reservation that is never answered is given up
 *        and the order cancelled; an answer that comes after that is undone. Shipping and what
 *        undoes are told until they are answered
 * late   nothing is late; more items than an order may have are put aside by `overflow`
 */
import { Type } from 'typebox'
import type { BusinessEvent } from '../../contracts/events.ts'
import { eventTimeOf } from '../../contracts/topics.ts'
import {
  json,
  type ProcessorContext,
  type ProcessorRecord,
  type Timer,
  Topology,
} from '../../streams/index.ts'
import { orderKey } from '../analytics/event-streams.ts'
import { checkCreated } from '../orders/order-items.ts'
import { type Command, commandSerde, commandTopic } from './commands.ts'
import { cancelledReason } from './fulfilment.ts'
import { type Cause, causedHeaders, causeOf, isFrom, readEvents } from './messages.ts'
import { rowOf, timedRow } from './order-rows.ts'
import { paymentAttemptsMax } from './outcomes.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'orchestrator'
type Name = Command['name']

interface Told extends Command, Cause {
  readonly attempt: number
  /** When it is told again; absent once it is answered. */
  readonly wallMs?: number
}

interface Saga {
  readonly told: Readonly<Partial<Record<Name, Told>>>
  readonly answered: readonly Name[]
  readonly declined: readonly string[]
  readonly isCancelled?: boolean
  readonly isPaid?: boolean
  /** Why the order is given up, as an event for those that undo. */
  readonly givenUp?: BusinessEvent
}

/** A command on its way, and its headers. */
interface Sent {
  readonly command: Command
  readonly headers: Readonly<Record<string, string>>
}

const stores = { orders: { key: orderKey, codec: json<Saga>() } } as const
type Context = ProcessorContext<string, typeof stores, string, Sent>
type OrderRecord = ProcessorRecord<string, BusinessEvent>

const addressees: Readonly<Record<Name, Command['to']>> = {
  charge: 'payment',
  refund: 'payment',
  reserve: 'inventory',
  release: 'inventory',
  dispatch: 'inventory',
  ship: 'fulfilment',
  cancel: 'order',
}

/** What ends a command, by the type of the event. */
const answers: Readonly<Partial<Record<BusinessEvent['type'], Name>>> = {
  PaymentAuthorized: 'charge',
  PaymentRefunded: 'refund',
  InventoryReserved: 'reserve',
  InventoryRejected: 'reserve',
  InventoryReleased: 'release',
  OrderFulfilled: 'ship',
  FulfilmentFailed: 'ship',
}

export function orchestratorTopology(settings: ServiceSettings): Topology {
  const topology = new Topology(service)
  readEvents(
    topology,
    'OrderCreated',
    'OrderCancelled',
    'PaymentAuthorized',
    'PaymentDeclined',
    'PaymentRefunded',
    'InventoryReserved',
    'InventoryRejected',
    'InventoryReleased',
    'OrderFulfilled',
    'FulfilmentFailed',
  )
    .process<typeof stores, string, Sent>({
      name: 'sagas',
      key: orderKey,
      stores,
      wallClock: true,
      keepsKeys: true,
      views: [{ store: 'orders', ...view }],
      create: context => new Orchestrator(context, settings),
    })
    .to(commandTopic, {
      key: orderKey,
      value: {
        encode: ({ command }) => commandSerde.encode(command),
        decode: (...at) => ({ command: commandSerde.decode(...at), headers: {} }),
      },
      headers: ({ headers }) => headers,
    })
  return topology
}

const view = {
  name: 'sagas',
  description: 'What the orchestrator has told the services of each order',
  value: {
    waiting: Type.Array(Type.String(), { description: 'Commands without an answer' }),
    told: Type.Integer({ description: 'Commands told, those told again counted again' }),
    givenUp: Type.Boolean({ description: 'A command was never answered' }),
  },
  row: ({ told, givenUp }: Saga) => ({
    waiting: Object.entries(told)
      .filter(([, { wallMs }]) => wallMs !== undefined)
      .map(([name]) => name)
      .sort(),
    told: Object.values(told).reduce((sum, { attempt }) => sum + attempt, 0),
    givenUp: givenUp !== undefined,
  }),
}

class Orchestrator {
  readonly #context: Context
  readonly #settings: ServiceSettings

  constructor(context: Context, settings: ServiceSettings) {
    this.#context = context
    this.#settings = settings
  }

  process(record: OrderRecord): void {
    const { key } = record
    const rows = this.#context.store('orders')
    const before = rowOf(rows, record, this.#context, this.#settings.keepMs)
    let saga = noted(before ?? { told: {}, answered: [], declined: [] }, record)
    const cause = causeOf(record)
    for (const [name, event] of asked(saga, record.value)) {
      saga = this.#tell(key, saga, { to: addressees[name], name, event, ...cause, attempt: 1 })
    }
    rows.put(key, this.#settled(key, saga))
  }

  /** Tells a command, unless it was told; the same may follow from several events. */
  #tell(key: string, saga: Saga, told: Told): Saga {
    if (saga.told[told.name] !== undefined && told.attempt === 1) return saga
    const { to, name, event, attempt } = told
    const headers = {
      ce_id: `${key}.${service}.${name}.${attempt}`,
      ce_type: name,
      ce_source: `/services/${service}`,
      ...causedHeaders(service, told),
    }
    this.#context.forward(key, { command: { to, name, event }, headers }, eventTimeOf(event))
    // The warehouse says nothing of what has left it.
    if (name === 'dispatch') return { ...saga, told: { ...saga.told, [name]: told } }
    const wallMs = this.#context.wallTimeMs + this.#settings.commandTimeoutMs
    this.#context.schedule({ clock: 'wall', atMs: wallMs, key, name })
    return { ...saga, told: { ...saga.told, [name]: { ...told, wallMs } } }
  }

  /** No longer waits for what has been answered. */
  #settled(key: string, saga: Saga): Saga {
    const told: Partial<Record<Name, Told>> = { ...saga.told }
    for (const name of saga.answered) {
      const { wallMs, ...answered } = told[name] ?? {}
      if (wallMs === undefined) continue
      this.#context.cancel({ clock: 'wall', atMs: wallMs, key, name })
      told[name] = answered as Told
    }
    return { ...saga, told }
  }

  onTimer(timer: Timer<string>): void {
    const { key, atMs, name } = timer
    const rows = this.#context.store('orders')
    const saga = timedRow(rows, timer)
    if (saga === undefined) return
    const told = saga.told[name as Name]
    if (told?.wallMs !== atMs) return
    const mayGiveUp = name === 'charge' || name === 'reserve'
    const next =
      mayGiveUp && told.attempt >= this.#settings.commandAttemptsMax
        ? this.#givenUp(key, saga, told)
        : this.#tell(key, saga, { ...told, attempt: told.attempt + 1 })
    rows.put(key, next)
  }

  #givenUp(key: string, saga: Saga, { wallMs: _, ...told }: Told): Saga {
    const settled = { ...saga, told: { ...saga.told, [told.name]: told } }
    // A charge has no answer when the order was cancelled before it.
    if (told.name === 'charge' && saga.isCancelled) return settled
    const failedAt = eventTimeOf(told.event) + this.#settings.commandTimeoutMs * told.attempt
    const reason = 'no-answer'
    const givenUp: BusinessEvent = { type: 'FulfilmentFailed', orderId: key, reason, failedAt }
    let next: Saga = { ...settled, givenUp }
    for (const name of saga.isPaid ? (['refund', 'cancel'] as const) : (['cancel'] as const)) {
      const undo = { ...told, to: addressees[name], name, event: givenUp, attempt: 1 }
      next = this.#tell(key, next, undo)
    }
    return next
  }
}

function noted(saga: Saga, record: OrderRecord): Saga {
  const { value: event } = record
  if (event.type === 'OrderCancelled') {
    const answered = isFrom(record, 'order') ? [...saga.answered, 'cancel' as const] : saga.answered
    return { ...saga, isCancelled: true, answered }
  }
  if (event.type === 'PaymentDeclined') {
    const declined = [...new Set([...saga.declined, event.paymentId])]
    const isLast = declined.length === paymentAttemptsMax
    return { ...saga, declined, answered: isLast ? [...saga.answered, 'charge'] : saga.answered }
  }
  const name = answers[event.type]
  const answered = name === undefined ? saga.answered : [...saga.answered, name]
  return { ...saga, answered, isPaid: saga.isPaid || event.type === 'PaymentAuthorized' }
}

/** What is to be done now, and the event that it is about. */
function asked(saga: Saga, event: BusinessEvent): (readonly [Name, BusinessEvent])[] {
  const { givenUp } = saga
  switch (event.type) {
    case 'OrderCreated':
      checkCreated(event.orderId, event.items)
      return [['charge', event]]
    case 'PaymentAuthorized':
      return [givenUp === undefined ? ['reserve', event] : ['refund', givenUp]]
    case 'PaymentDeclined':
      return saga.declined.length === paymentAttemptsMax ? [['cancel', event]] : []
    case 'InventoryReserved':
      return [givenUp === undefined ? ['ship', event] : ['release', givenUp]]
    case 'InventoryRejected':
      return [
        ['refund', event],
        ['cancel', event],
      ]
    case 'OrderFulfilled':
      return [['dispatch', event]]
    case 'FulfilmentFailed': {
      const undone = [['refund', event] as const, ['release', event] as const]
      return event.reason === cancelledReason ? undone : [...undone, ['cancel', event]]
    }
    default:
      return []
  }
}

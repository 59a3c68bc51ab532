/** Bugs to plant in commands, services and their contracts: the tests named must then fail. */
import type { PlantedBug } from './plant.ts'

const facts = 'test/processors/services/facts.test.ts'
const saga = 'test/processors/services/saga.test.ts'
const ordering = 'test/processors/orders/ordering.test.ts'
const state = 'test/processors/orders/order-state.test.ts'
const commands = 'test/cli/orders.test.ts'
const badInput = 'test/cli/order-bad-input.test.ts'
const past = 'test/e2e/time-travel.test.ts'
const outbox = 'test/cli/outbox.test.ts'
const search = 'test/api/search.test.ts'
const registry = 'test/contracts/schema-registry.test.ts'

export const plantedOrderBugs: readonly PlantedBug[] = [
  {
    rule: 'commands: a command is decided once, by its id',
    file: 'processors/orders/ordering.ts',
    find: 'id: ({ id }) => id,',
    replace: 'id: () => null,',
    tests: [ordering],
  },
  {
    rule: 'commands: what was decided counts before it comes back by the log',
    file: 'processors/orders/ordering.ts',
    find: '  orders.put(orderId, after)\n  tell(after',
    replace: '  tell(after',
    tests: [ordering],
  },
  {
    rule: 'commands: an event comes after all that it was decided on',
    file: 'processors/orders/order-decision.ts',
    find: 'const at = Math.max(timeMs, order.updatedAt)',
    replace: 'const at = timeMs',
    tests: [ordering],
  },
  {
    rule: 'commands: a fact of the log takes the place of the one decided here',
    file: 'processors/orders/order-state.ts',
    find: 'if (known !== undefined && (known.offset !== NO_PLACE || fact.offset === NO_PLACE)) return order',
    replace: 'if (known !== undefined) return order',
    tests: [ordering],
  },
  {
    rule: 'commands: the version is that of If-Match',
    file: 'processors/orders/order-decision.ts',
    find: 'command.ifMatch !== null && command.ifMatch !== order.version',
    replace: 'command.ifMatch !== null && command.ifMatch > order.version',
    tests: [ordering],
  },
  {
    rule: 'commands: a key is for one command',
    file: 'api/order-command.ts',
    find: "if (outcome.fingerprint !== fingerprint) throw apiError('IDEMPOTENCY_KEY_REUSED')",
    replace: '',
    tests: [commands],
  },
  {
    rule: 'commands: a key is one user’s own',
    file: 'api/order-command.ts',
    find: "JSON.stringify([principal?.name ?? '', ...asked])",
    replace: "JSON.stringify([principal === null ? '' : '', ...asked])",
    tests: [commands],
  },
  {
    rule: 'commands: nothing is appended that comes with a position that is none',
    file: 'api/order-command.ts',
    find: 'key === undefined && tokenOf(request) === undefined',
    replace: 'key === undefined',
    tests: [badInput],
  },
  {
    rule: 'commands: items cost something that can be counted',
    file: 'contracts/order-commands.ts',
    find: 'if (!Number.isSafeInteger(total)) return Number.NaN',
    replace: '',
    and: { find: 'if (!Number.isSafeInteger(totalMinor)) return tooLarge', replace: '' },
    tests: [badInput],
  },
  {
    rule: 'orders: what has been shipped is no longer cancelled',
    file: 'processors/orders/order-state.ts',
    find: "return isFinal(order) ? {} : { status: 'cancelled', reason: event.reason }",
    replace: "return { status: 'cancelled', reason: event.reason }",
    tests: [state],
  },
  {
    rule: 'orders: an event that is told twice counts once',
    file: 'processors/orders/order-state.ts',
    find: 'if (order.events.some(({ id }) => id === fact.id)) return order',
    replace: '',
    tests: [state],
  },
  {
    rule: 'orders: as of a time is as of that time',
    file: 'api/order-routes.ts',
    find: 'context.views.row(view, id, { ...waiting, ...asOf })',
    replace: 'context.views.row(view, id, waiting)',
    tests: [past],
  },
  {
    rule: 'saga: money goes back once',
    file: 'processors/services/payment.ts',
    find: "if (state !== 'authorized' || failed === undefined) return row",
    replace: 'if (paid === undefined || failed === undefined) return row',
    tests: [facts],
  },
  {
    rule: 'saga: money goes back though the failure was heard of first',
    file: 'processors/services/payment.ts',
    find: 'this.#refunded(key, this.#attempted(key, row))',
    replace: 'this.#attempted(key, row)',
    tests: [facts],
  },
  {
    rule: 'saga: an order is charged unless it was cancelled by then',
    file: 'processors/services/payment.ts',
    find: 'if (row.cancelledAt !== undefined && row.cancelledAt <= atMs) return',
    replace: 'if (row.cancelledAt !== undefined) return',
    tests: [saga],
  },
  {
    rule: 'saga: what is added by the moment of the charge is charged',
    file: 'processors/services/payment.ts',
    find: 'if (total.atMs <= atMs && total.atMs >= owed.atMs) owed = total',
    replace: 'if (total.atMs >= owed.atMs) owed = total',
    tests: [saga],
  },
  {
    rule: 'saga: a parcel leaves unless it was cancelled by then',
    file: 'processors/services/fulfilment.ts',
    find: 'row.cancelledAt !== undefined && row.cancelledAt <= atMs',
    replace: 'row.cancelledAt !== undefined',
    tests: [facts],
  },
  {
    rule: 'saga: a failure cancels its order',
    file: 'processors/services/order.ts',
    find: 'return { cause, reason: event.reason, atMs: eventTimeOf(event) }',
    replace: 'return undefined',
    tests: [facts],
  },
  {
    rule: 'saga: a decision waits for the events of before its moment',
    file: 'processors/services/decisions.ts',
    find: "clock: 'event', atMs: atMs + this.#settings.settleMs, key, name",
    replace: "clock: 'event', atMs, key, name",
    and: { find: 'timer.atMs !== due.atMs + settleMs', replace: 'timer.atMs !== due.atMs' },
    tests: [facts],
  },
  {
    rule: 'saga: the event time is that of the orders alone',
    file: 'processors/services/messages.ts',
    find: 'first!.mergePassive(...others)',
    replace: 'first!.merge(...others)',
    tests: [facts, saga],
  },
  {
    rule: 'saga: the same cause gives the same event',
    file: 'processors/services/messages.ts',
    find: 'event.orderId}.',
    replace: 'cause.id}.',
    tests: [facts],
  },
  {
    rule: 'saga: what comes after giving up is undone',
    file: 'processors/services/orchestrator.ts',
    find: "return [givenUp === undefined ? ['reserve', event] : ['refund', givenUp]]",
    replace: "return [['reserve', event]]",
    tests: [facts],
  },
  {
    rule: 'saga: a command without answer is told again',
    file: 'processors/services/orchestrator.ts',
    find: "this.#context.schedule({ clock: 'wall', atMs: wallMs, key, name })\n",
    replace: '',
    tests: [facts],
  },
  {
    rule: 'stock: an order gets all of its items or none',
    file: 'processors/services/warehouse.ts',
    find: 'this.#level(sku).onHand < quantity',
    replace: 'this.#level(sku).onHand < 1',
    tests: [facts],
  },
  {
    rule: 'stock: only what is held is given back, once',
    file: 'processors/services/warehouse.ts',
    find: '    if (reservations.get(orderId) !== true) return\n',
    replace: '',
    tests: [facts, saga],
  },
  {
    rule: 'stock: what the warehouse opened with is counted once',
    file: 'processors/services/warehouse.ts',
    find: 'id === openingId(sku) && this.#level(sku).received > 0',
    replace: "id === ''",
    tests: [facts],
  },
  {
    rule: 'stock: what was paid for is held, and nothing else',
    file: 'processors/services/inventory.ts',
    find: 'const last = versions.findLastIndex(({ totalMinor }) => totalMinor === amountMinor)',
    replace: 'const last = amountMinor < 0 ? -1 : versions.length - 1',
    tests: [facts],
  },
  {
    rule: 'levels: an order that is fulfilled ships what it holds, whichever comes first',
    file: 'processors/analytics/inventory-levels.ts',
    find: 'reserved: isShipped ? 0 : taken',
    replace: 'reserved: taken',
    tests: ['test/processors/analytics/facts.test.ts'],
  },
  {
    rule: 'notifications: a remark is made once an order',
    file: 'processors/services/remarks.ts',
    find: 'if (remark === undefined || order.about.includes(remark.about)) return known',
    replace: 'if (remark === undefined) return known',
    tests: [facts],
  },
  {
    rule: 'outbox: what was sent is not sent again',
    file: 'cli/outbox.ts',
    find: '!this.#sent.has(notificationId) && !fresh.has(notificationId)',
    replace: '!fresh.has(notificationId)',
    tests: [outbox],
  },
  {
    rule: 'outbox: a torn line was not sent',
    file: 'cli/outbox.ts',
    find: '    await this.#file.truncate(this.#size)\n  }\n\n  #remember',
    replace: '  }\n\n  #remember',
    tests: [outbox],
  },
  {
    rule: 'outbox: the place is committed after the sending',
    file: 'cli/notification-sender.ts',
    find: `          await this.#send(bytes, offset)
          await this.#commit({ topic: notificationTopic, partition }, nextOffset)
`,
    replace: `          await this.#commit({ topic: notificationTopic, partition }, nextOffset)
          await this.#pause(200)
          await this.#send(bytes, offset)
`,
    tests: ['test/e2e/notifications.test.ts'],
  },
  {
    rule: 'search: an order has one status',
    file: 'processors/services/search.ts',
    find: 'if (before !== undefined) terms.delete({ term: statuses[before.status]!, orderId: key })',
    replace: '',
    tests: [search],
  },
  {
    rule: 'schemas: an id is looked up once, however many ask',
    file: 'contracts/schema-registry.ts',
    find: 'if (!this.#asked.has(id)) {',
    replace: 'if (id > 0) {',
    tests: [registry],
  },
  {
    rule: 'schemas: a registry that is down refuses nothing',
    file: 'contracts/event-codec.ts',
    find: 'throw new SchemaPending(id)',
    replace: "throw new ContractError('EVENT_SCHEMA_UNKNOWN', String(id))",
    tests: [registry],
  },
  {
    rule: 'schemas: a transitive rule is held against every version',
    file: 'contracts/subject-table.ts',
    find: "endsWith('_TRANSITIVE')",
    replace: "endsWith('_NEVER')",
    tests: [registry],
  },
]

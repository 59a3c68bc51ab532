/**
 * The fraud service: points at orders that look wrong, and touches none.
 *
 * in     orders, payments by orderId
 * time   that of the event it follows from
 * state  one row an order, kept for `keepMs`, changelogged
 * out    FraudSuspected, once for each rule and order
 * late   nothing is late
 */
import { intMax } from '../../contracts/avro-schema.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { Topology } from '../../streams/index.ts'
import { addSafe } from '../safe-sum.ts'
import { follow, publish } from './messages.ts'
import { type Remark, remarks } from './remarks.ts'
import type { ServiceSettings } from './settings.ts'

const service = 'fraud'

/** Pieces of one order: more is not for oneself. */
const piecesMax = 20
/** How much weight the word of the bank has. */
const issuerScore = 80

export function fraudTopology({ keepMs }: ServiceSettings): Topology {
  const topology = new Topology(service)
  const out = remarks(topology, {
    name: 'suspected',
    types: ['OrderCreated', 'PaymentDeclined'],
    keepMs,
    remarkOf: ({ value }) => suspicion(value),
    messageOf: ({ about: rule, score = 0, orderId, customerId, cause, atMs: suspectedAt }) => {
      const suspected = { orderId, customerId, rule, score, suspectedAt }
      return follow(service, cause, { type: 'FraudSuspected', ...suspected }, `.${rule}`)
    },
  })
  publish(out, 'FraudSuspected')
  return topology
}

function suspicion(event: BusinessEvent): Remark | undefined {
  if (event.type === 'PaymentDeclined' && event.reason === 'suspected-fraud') {
    return { about: 'issuer-suspects', score: issuerScore }
  }
  if (event.type !== 'OrderCreated') return undefined
  const pieces = event.items.reduce((sum, { quantity }) => addSafe(sum, quantity), 0)
  if (pieces <= piecesMax) return undefined
  return { about: 'bulk-order', score: Math.min(pieces - piecesMax, intMax) }
}

/**
 * The reference job in the DSL: orders ⋈ payments within 2 min (grace 30 s), re-key by region,
 * 10-s tumbling count and sum (grace 30 s), output topic. One record a change: `region@start` →
 * `count,sum`.
 */
import { type Stream, Topology, text, textKey, tumbling } from '../../streams/index.ts'
import { avroSerde, orderSchema, paymentSchema } from '../reference-input.ts'

interface Sum {
  readonly count: number
  readonly sum: number
}

export interface ReferenceNames {
  readonly application: string
  readonly output: string
  /** Before the names of the input topics. */
  readonly prefix?: string
}

const key = textKey()

interface Paid {
  readonly region: string
  readonly amountCents: number
}

/** Orders ⋈ payments within 2 min, grace 30 s. */
function paidOrders(topology: Topology, prefix: string): Stream<string, Paid> {
  const order = avroSerde<{ region: string }>(orderSchema, 1, ['region'])
  const payment = avroSerde<{ amountCents: number }>(paymentSchema, 2, ['amountCents'])
  const orders: Stream<string, { region: string }> = topology.stream(`${prefix}orders`, {
    key,
    value: order,
  })
  const payments = topology.stream(`${prefix}payments`, { key, value: payment })
  return orders.join(payments, ({ region }, { amountCents }) => ({ region, amountCents }), {
    name: 'paid',
    beforeMs: 120_000,
    afterMs: 120_000,
    graceMs: 30_000,
  })
}

/** The join alone: order → `region,amount`. */
export function joinTopology({ application, output, prefix = '' }: ReferenceNames): Topology {
  const topology = new Topology(application)
  paidOrders(topology, prefix)
    .mapValues(({ region, amountCents }) => `${region},${amountCents}`)
    .to(output, { key, value: text() })
  return topology
}

export function referenceTopology(names: ReferenceNames): Topology {
  const { application, output, prefix = '' } = names
  const topology = new Topology(application)
  paidOrders(topology, prefix)
    .groupBy(({ region }) => region, { name: 'by-region', key })
    .windowedBy(tumbling(10_000, { graceMs: 30_000 }))
    .aggregate<Sum>({
      name: 'revenue',
      initial: () => ({ count: 0, sum: 0 }),
      add: ({ count, sum }, { amountCents }) => ({ count: count + 1, sum: sum + amountCents }),
    })
    .toStream()
    .map(({ count, sum }, { key: region, windowStart }) => [
      `${region}@${windowStart}`,
      `${count},${sum}`,
    ])
    .to(output, { key, value: text() })
  return topology
}

/** What is varied of the reference job. */

export interface Totals {
  readonly joined: number
  readonly amount: number
  /** Keys of the output. */
  readonly keys: number
}

export interface Variant {
  readonly name: string
  readonly peer: 'kafka-streams' | 'embedded'
  readonly job: 'windows' | 'join'
  /** Of Kafka Streams: Millrace always is exactly once. */
  readonly guarantee: 'exactly_once_v2' | 'at_least_once'
  /** Settings of Kafka Streams over its defaults. */
  readonly tuning: Readonly<Record<string, string>>
  /** Processes of each; Kafka Streams has a thread a core in all. */
  readonly instances: 1 | 2
  readonly shuffled: boolean
  readonly totals: (results: ReadonlyMap<string, string>) => Totals
  /** Of the whole input, where it is known otherwise. */
  readonly truth?: Totals
}

const TRUTH = { joined: 949_905, amount: 23_981_953_270 }

/** Of `region@start` → `count,sum`. */
function ofWindows(results: ReadonlyMap<string, string>): Totals {
  let joined = 0
  let amount = 0
  for (const value of results.values()) {
    const [count, sum] = value.split(',').map(Number) as [number, number]
    joined += count
    amount += sum
  }
  return { joined, amount, keys: results.size }
}

/** Of order → `region,amount`. */
function ofJoined(results: ReadonlyMap<string, string>): Totals {
  let amount = 0
  for (const value of results.values()) amount += Number(value.slice(value.indexOf(',') + 1))
  return { joined: results.size, amount, keys: results.size }
}

const main: Variant = {
  name: 'main',
  peer: 'kafka-streams',
  job: 'windows',
  guarantee: 'exactly_once_v2',
  tuning: {},
  instances: 1,
  shuffled: false,
  totals: ofWindows,
  truth: { ...TRUTH, keys: 5_286 },
}

const { truth: _, ...unknown } = main

/**
 * For throughput at the price of latency: fewer and larger commits and batches, stores that are
 * cached (https://docs.confluent.io/cloud/current/client-apps/optimizing/throughput.html, and
 * https://kafka.apache.org/documentation/streams/developer-guide/memory-mgmt.html).
 */
const throughput = {
  'commit.interval.ms': '1000',
  'producer.linger.ms': '100',
  'producer.batch.size': '200000',
  'statestore.cache.max.bytes': `${128 << 20}`,
}

export const variants: Readonly<Record<string, Variant>> = {
  main,
  join: {
    ...main,
    name: 'join',
    job: 'join',
    totals: ofJoined,
    truth: { ...TRUTH, keys: TRUTH.joined },
  },
  'at-least-once': { ...main, name: 'at-least-once', guarantee: 'at_least_once' },
  tuned: { ...main, name: 'tuned', tuning: throughput },
  'two-instances': { ...main, name: 'two-instances', instances: 2 },
  shuffled: { ...unknown, name: 'shuffled', shuffled: true },
  embedded: { ...main, name: 'embedded', peer: 'embedded' },
}

/**
 * The shop on one real broker, in two or three processes, event by event from a seed: kills at
 * named points and anywhere, stops past the session timeout, brokers that die and hang, folders
 * that are lost, instances that come and go, parts of the shop that are deployed later. After each
 * round everything that came out is compared with the oracle (`kafka-verify.ts`). A round has
 * `EVENTS` events; rounds run one after another.
 *
 * A single broker that ends can lose the markers of transactions that were ending (`KafkaNode`),
 * and with them what a client may rely on. So instances stand still as it ends; a round in which it
 * happens all the same ends there, is told, and another one takes its place.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kafka, logLevel } from 'kafkajs'
import type { Campaign } from '../support/campaigns.ts'
import { type KafkaUnderTest, startKafka } from '../support/kafka/kafka.ts'
import { percentiles } from '../support/percentiles.ts'
import { Random } from '../support/random.ts'
import { shopRecords } from '../support/shop.ts'
import { type Return, ShopRound } from './kafka-round.ts'
import { outputsAreDone, verifyRest, verifyViews } from './kafka-verify.ts'
import { ShopFeed } from './shop-feed.ts'

const EVENTS = 16
const ORDERS = 2_000
const EVENT_MS = 5_000
const ROUNDS = 32
const ROUNDS_CI = 4
/**
 * Transactions that timed out end within seconds, but not while a broker that was killed finds
 * its way back: there it would lose their markers.
 */
const BROKER = { 'transaction.abort.timed.out.transaction.cleanup.interval.ms': 6_000 }

/**
 * Event times begin so long ago. At its start a broker forgets which batches it has of an
 * idempotent producer, where their *records'* time is over a day ago (`producer.id.expiration.ms`):
 * a batch of the feed that is sent again then is there twice.
 */
const BEGUN_MS = 6 * 3_600_000

/** The broker was not one for the rest of the round. */
class RoundSpoiled extends Error {
  constructor() {
    super('the broker has called transactions ended without all of their markers')
  }
}

interface RoundResult {
  readonly events: ReadonlyMap<string, number>
  readonly returns: readonly Return[]
  readonly wipes: number
  readonly stallMsMax: number
  readonly rssBytesMax: number
  readonly errors: readonly string[]
  /** Empty when all is as it must be. */
  readonly differences: readonly string[]
}

async function playRound(
  kafka: KafkaUnderTest,
  seed: number,
  log: (line: string) => void,
): Promise<RoundResult> {
  const random = new Random(seed)
  const prefix = `r${seed}-`
  const folder = await mkdtemp(join(tmpdir(), 'millrace-kafka-crash-'))
  const standbyReplicas = random.below(2)
  const beginMs = Date.now() - BEGUN_MS
  const records = shopRecords(seed, ORDERS).map(record => {
    return { ...record, timeMs: beginMs + record.timeMs }
  })
  const eventsMax = EVENTS
  const round = new ShopRound({ kafka, random, prefix, folder, standbyReplicas, eventsMax, log })
  let feed: ShopFeed | undefined
  try {
    await round.begin()
    feed = new ShopFeed({
      bootstrap: kafka.bootstrap,
      prefix,
      records,
      durationMs: EVENTS * EVENT_MS,
    })
    feed.start()
    for (let i = 0; i < EVENTS; i++) {
      await round.event()
      if (kafka.hasLostMarkers(prefix)) throw new RoundSpoiled()
    }
    await feed.finish()
    await round.rest()
    const instances = round.instances.filter(({ alive }) => alive)
    const options = { kafka, ...round.shop, records, instances }
    const views = await verifyViews(options, 60_000)
    const doneMs = await outputsAreDone(options, 60_000)
    log(`outputs are whole ${(doneMs / 1000).toFixed(1)} s after the views`)
    // A machine that does other things may have cost one its membership meanwhile.
    await round.rest()
    const rest = await verifyRest(options)
    await round.settled()
    const wipes = round.instances.flatMap(one => one.wipes)
    const { events, returns, violations, stallMsMax, rssBytesMax } = round
    const errors = round.instances.flatMap(one => one.errors)
    const differences = [...violations, ...wipes.map(of => `wiped: ${of}`), ...views, ...rest]
    if (differences.length > 0 && kafka.hasLostMarkers(prefix)) throw new RoundSpoiled()
    return { events, returns, wipes: wipes.length, stallMsMax, rssBytesMax, errors, differences }
  } finally {
    await round.end()
    await feed?.stop().catch(() => {})
    await rm(folder, { recursive: true, force: true })
  }
}

async function deleteTopics({ bootstrap }: KafkaUnderTest): Promise<void> {
  const admin = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  const topics = (await admin.listTopics()).filter(name => !name.startsWith('__'))
  await admin.deleteTopics({ topics })
  await admin.disconnect()
}

function describeReturns(returns: readonly Return[]): string[] {
  const kinds = [...new Set(returns.map(({ after }) => after))].sort()
  return kinds.map(kind => {
    const some = returns.filter(({ after }) => after === kind)
    const ms = percentiles(some.map(one => one.ms))
    const opened = percentiles(some.map(one => one.openedMs))
    const records = percentiles(some.map(one => one.records))
    const epochs = percentiles(some.map(one => one.epochs))
    return [
      `start to running after ${kind}, ms: ${ms}`,
      `of these until it joins: ${opened}`,
      `records replayed: ${records}`,
      `transactions: ${epochs}`,
    ].join('; ')
  })
}

function describeCounts(counts: ReadonlyMap<string, number>): string {
  return [...counts]
    .sort()
    .map(([what, count]) => `${what} ${count}`)
    .join(', ')
}

function summarize(errors: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const text of errors) {
    const shape = text.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '…').replace(/\d+/g, 'N')
    counts.set(shape, (counts.get(shape) ?? 0) + 1)
  }
  return counts
}

/** What all rounds came to. */
class Account {
  readonly notes: string[] = []
  readonly #returns: Return[] = []
  readonly #events = new Map<string, number>()
  #wipes = 0
  passed = 0
  failed = 0
  spoiled = 0

  add(seed: number, result: RoundResult, log: (line: string) => void): void {
    const { events, returns, wipes, stallMsMax, rssBytesMax, errors, differences } = result
    for (const [what, count] of events) {
      this.#events.set(what, (this.#events.get(what) ?? 0) + count)
    }
    this.#returns.push(...returns)
    this.#wipes += wipes
    const rss = `RSS ${(rssBytesMax / 2 ** 20).toFixed(0)} MiB`
    log(`${describeCounts(events)}; loop held at most ${stallMsMax} ms, ${rss}`)
    for (const [error, count] of summarize(errors)) log(`error ${count}x: ${error}`)
    const isEqual = differences.length === 0
    log(isEqual ? 'equal' : differences.join('\n    '))
    if (isEqual) this.passed++
    else {
      this.failed++
      this.notes.push(`seed ${seed}: ${differences.join('; ')}`)
    }
  }

  finish(): readonly string[] {
    const count = [...this.#events.values()].reduce((sum, one) => sum + one, 0)
    return [
      ...this.notes,
      `${count} events: ${describeCounts(this.#events)}`,
      ...describeReturns(this.#returns),
      `wipes: ${this.#wipes}; rounds in which the broker lost markers: ${this.spoiled}`,
    ]
  }
}

export const campaign: Campaign = {
  name: 'kafka-crash',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const kafka = await startKafka({ config: BROKER, print: log })
    const account = new Account()
    try {
      for (let own = seed * 1000; account.passed + account.failed < total; own++) {
        log(`round ${own - seed * 1000}, seed ${own}`)
        try {
          account.add(own, await playRound(kafka, own, line => log(`  ${line}`)), log)
        } catch (error) {
          if (!(error instanceof RoundSpoiled)) throw error
          if (++account.spoiled > total) throw error
          log('  the broker lost markers of transactions: the round ends here')
        }
        await deleteTopics(kafka)
      }
    } finally {
      await kafka.destroy()
    }
    return { passed: account.passed, failed: account.failed, notes: account.finish() }
  },
}

/**
 * The shop on one real broker, in two or three processes, event by event from a seed: kills at
 * named points and anywhere, stops past the session timeout, brokers that die and hang, folders
 * that are lost, instances that come and go. After each round everything that came out is compared
 * with the oracle (`kafka-verify.ts`). A round has `EVENTS` events; rounds run one after another.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kafka, logLevel } from 'kafkajs'
import type { Campaign } from '../support/campaigns.ts'
import { type KafkaUnderTest, startKafka } from '../support/kafka/kafka.ts'
import { Random } from '../support/random.ts'
import { shopRecords } from '../support/shop.ts'
import { type Return, ShopRound } from './kafka-round.ts'
import { verifyRest, verifyViews } from './kafka-verify.ts'
import { ShopFeed } from './shop-feed.ts'

const EVENTS = 16
const ORDERS = 2_000
const EVENT_MS = 5_000
const ROUNDS = 32
const ROUNDS_CI = 4

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
  const records = shopRecords(seed, ORDERS)
  const round = new ShopRound({ kafka, random, prefix, folder, standbyReplicas, log })
  try {
    await round.begin()
    const feed = new ShopFeed({
      bootstrap: kafka.bootstrap,
      prefix,
      records,
      durationMs: EVENTS * EVENT_MS,
    })
    feed.start()
    for (let i = 0; i < EVENTS; i++) await round.event()
    await feed.finish()
    await round.rest()
    const instances = round.instances.filter(({ alive }) => alive)
    const options = { kafka, prefix, records, instances }
    const views = await verifyViews(options, 60_000)
    await round.statuses()
    const rest = await verifyRest(options)
    await round.settled()
    const wipes = round.instances.flatMap(one => one.wipes)
    const { events, returns, violations, stallMsMax, rssBytesMax } = round
    const errors = round.instances.flatMap(one => one.errors)
    const differences = [...violations, ...wipes.map(of => `wiped: ${of}`), ...views, ...rest]
    return { events, returns, wipes: wipes.length, stallMsMax, rssBytesMax, errors, differences }
  } finally {
    await round.end()
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

function percentiles(values: readonly number[]): string {
  if (values.length === 0) return 'none'
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  return `${sorted.length}: p50 ${at(0.5)}, p99 ${at(0.99)}, max ${sorted.at(-1)}`
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

export const campaign: Campaign = {
  name: 'kafka-crash',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const kafka = await startKafka({
      config: { 'transaction.abort.timed.out.transaction.cleanup.interval.ms': 500 },
      print: log,
    })
    const notes: string[] = []
    const returns: Return[] = []
    const events = new Map<string, number>()
    let passed = 0
    let wipes = 0
    try {
      for (let round = 0; round < total; round++) {
        const own = seed * 1000 + round
        log(`round ${round}, seed ${own}`)
        const result = await playRound(kafka, own, line => log(`  ${line}`))
        for (const [what, count] of result.events) events.set(what, (events.get(what) ?? 0) + count)
        returns.push(...result.returns)
        wipes += result.wipes
        const figures = `loop held at most ${result.stallMsMax} ms, RSS ${(result.rssBytesMax / 2 ** 20).toFixed(0)} MiB`
        log(`  ${describeCounts(result.events)}; ${figures}`)
        for (const [error, count] of summarize(result.errors)) log(`  error ${count}x: ${error}`)
        if (result.differences.length === 0) passed++
        else notes.push(`seed ${own}: ${result.differences.join('; ')}`)
        log(`  ${result.differences.length === 0 ? 'equal' : result.differences.join('\n    ')}`)
        await deleteTopics(kafka)
      }
    } finally {
      await kafka.destroy()
    }
    const count = [...events.values()].reduce((sum, one) => sum + one, 0)
    notes.push(`${count} events: ${describeCounts(events)}`, ...describeReturns(returns))
    notes.push(`wipes: ${wipes}`)
    return { passed, failed: total - passed, notes }
  },
}

/**
 * One story of customers through the order services while these are killed, and what must hold of
 * the topics afterwards. With disorder (late across topics, delivered twice, poison between) the
 * services must say exactly what they say without, killed or not.
 */
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { inputPartitions, inputTopics } from '../../contracts/topics.ts'
import type { EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { readHeaders } from '../../log/record-headers.ts'
import { serviceTopologies } from '../../processors/services/services.ts'
import type { Topology } from '../../streams/index.ts'
import { createTopicOnce } from '../../streams/topics.ts'
import { Random } from '../support/random.ts'
import { customersStory, delivered, minuteMs, type SagaRecord } from '../support/saga.ts'
import { type Books, checkBooks, checkDecisions } from '../support/saga-check.ts'
import {
  appendPoison,
  appendRecords,
  closeServices,
  finish,
  openServices,
  saidByServices,
  settle,
  type WrittenEvent,
  writtenEvents,
} from '../support/saga-run.ts'
import { SagaProcesses } from './saga-processes.ts'

export interface SagaStory {
  readonly orders: number
  readonly seed: number
  readonly disorder: boolean
}

export interface SagaPlace {
  readonly folder: string
  readonly bootstrap?: string
  /** On Kafka: how many share the services; each is alone unless given. */
  readonly processes?: number
}

export interface SagaKills {
  readonly kills: number
  /** The longest that a process runs between two of them, ms. */
  readonly apartMsMax: number
  /**
   * How long services wait for what is on its way before the clock decides, ms: longer than a
   * process is away and the story pauses, on a machine that does other things too.
   */
  readonly patienceMs: number
  /** On Kafka, where the story comes in beside the kills: the pause between two parts of it, ms. */
  readonly feedMs: number
}

const DISORDER = { delayMs: 5 * minuteMs, duplicates: 0.05 }
const POISON = 0.01
const APPEND_RECORDS = 2000
/** With no word for so much longer than any decision waits, all is decided, ms. */
const QUIET_MS = 5000
/** On Kafka the story comes in so many parts, beside the kills. */
const PARTS_BESIDE = 40

/** The services of the saga, with the settings of the processes. */
function services(seed: number): Topology[] {
  return serviceTopologies({ seed })
}

export function storyOf({ orders, seed }: SagaStory): SagaRecord[] {
  return customersStory(new Random(seed), { orders, stock: 1_000_000 })
}

/** What the services say of the story undisturbed: no process, no kill, no disorder. */
export async function undisturbed(story: SagaStory): Promise<readonly WrittenEvent[]> {
  const records = storyOf(story)
  // As for the processes: what is ahead of the clock by a day would be refused.
  const startMs = records.reduce((latest, { timeMs }) => Math.max(latest, timeMs), 0)
  const drivers = await openServices(services(story.seed), { startMs })
  const { log } = drivers[0]!
  await appendRecords(
    log,
    records.filter(({ topic }) => topic === 'stock'),
  )
  await settle(drivers)
  for (let i = 0; i < records.length; i += APPEND_RECORDS) {
    await appendRecords(log, records.slice(i, i + APPEND_RECORDS))
  }
  await finish(drivers)
  const events = await writtenEvents(log)
  await closeServices(drivers)
  return events
}

export interface SagaOutcome {
  readonly events: readonly WrittenEvent[]
  readonly books: Books
  /** Records that the process still had to read, at each kill. */
  readonly unreadAtKills: readonly number[]
  readonly poison: number
}

/** Puts the story into the log, has the services killed while they work on it, and checks. */
export async function killedSaga(
  story: SagaStory,
  place: SagaPlace,
  { kills, apartMsMax, patienceMs, feedMs }: SagaKills,
): Promise<SagaOutcome> {
  const random = new Random(story.seed + 1)
  const isBeside = place.bootstrap !== undefined
  const topologies = services(story.seed)
  const processes = new SagaProcesses({
    ...place,
    services: topologies.map(({ application }) => application),
    environment: { SEED: String(story.seed), PATIENCE: `${patienceMs}ms` },
  })
  try {
    const feed = new Feed(story, isBeside ? PARTS_BESIDE : kills + 1)
    await processes.withLog(async log => {
      for (const topic of inputTopics) await createTopicOnce(log, topic, inputPartitions)
      // Beside processes it begins once all run: the first would take the pause for the end.
      if (!isBeside) await feed.next(log)
    })
    await processes.start()
    const feeding = isBeside ? processes.withLog(log => feed.rest(log, feedMs)) : undefined
    feeding?.catch(() => {})
    for (let kill = 0; kill < kills; kill++) {
      await sleep(random.below(apartMsMax))
      // The embedded log takes records of nobody else while a process has it.
      await processes.killOne(random, isBeside ? undefined : log => feed.next(log))
    }
    await feeding
    await processes.quiet(patienceMs + QUIET_MS)
    const stock = await processes.rows('warehouse-stock')
    await processes.stop()
    const { events, letters, poison } = await processes.withLog(async log => ({
      events: await writtenEvents(log),
      letters: await deadLettersOf(log, topologies),
      poison: await poisonOf(log),
    }))
    assert.equal(poison.length, feed.poison, 'records of poison in the log')
    const books = checkBooks(events)
    checkDecisions(events)
    checkStock(stock, books)
    checkPoison(letters, poison, topologies)
    await checkOutbox(processes.folders, events)
    assert.equal(books.ended.size, story.orders, 'orders that have ended')
    const { unreadAtKills } = processes
    return { events, books, unreadAtKills, poison: poison.length }
  } finally {
    await processes.close()
  }
}

/** The story as it reaches the log, in so many parts. */
class Feed {
  readonly #records: readonly SagaRecord[]
  readonly #part: number
  readonly #random: Random
  readonly #poison: number
  #at = 0
  /** Records of poison put into the log. */
  poison = 0

  constructor(story: SagaStory, parts: number) {
    const random = new Random(story.seed + 2)
    const clean = storyOf(story)
    this.#records = story.disorder ? delivered(clean, random, DISORDER) : clean
    this.#part = Math.ceil(this.#records.length / parts)
    this.#random = random
    this.#poison = story.disorder ? POISON : 0
  }

  /** All that is left, part by part, so soon one after the other that nobody stops waiting. */
  async rest(log: EventLog, everyMs: number): Promise<void> {
    while (this.#at < this.#records.length) {
      await this.next(log)
      await sleep(everyMs)
    }
  }

  async next(log: EventLog): Promise<void> {
    const end = this.#at + this.#part
    while (this.#at < Math.min(end, this.#records.length)) {
      const to = Math.min(end, this.#at + 1 + this.#random.below(APPEND_RECORDS))
      const chunk = this.#records.slice(this.#at, to)
      this.#at = to
      await appendRecords(log, chunk)
      for (const _ of chunk) {
        if (this.#random.next() >= this.#poison) continue
        await appendPoison(log, 'orders', this.#random)
        this.poison++
      }
    }
  }
}

interface Place {
  readonly key: string
  readonly place: string
  readonly headers: ReadonlyMap<string, string>
}

/** All records of a topic; a place is `topic-partition@offset`. */
async function placesOf(log: EventLog, topic: string): Promise<Place[]> {
  const { partitions } = (await log.describeTopic(topic))!
  const places: Place[] = []
  for (let partition = 0; partition < partitions; partition++) {
    const [range] = await log.offsets([{ topic, partition }])
    for (let offset = range!.startOffset; offset < range!.endOffset; ) {
      const [response] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
      for (const columns of decodeBatches(response!.bytes, { fromOffset: offset }).runs) {
        for (let i = 0; i < columns.length; i++) {
          const key = columns.bytes.utf8Slice(columns.keyStart[i]!, columns.keyEnd[i]!)
          const headers = readHeaders(columns, i).map(([name, text]) => [name, `${text}`] as const)
          const place = `${topic}-${partition}@${columns.offsets[i]!}`
          places.push({ key, place, headers: new Map(headers) })
        }
      }
      offset = response!.nextOffset
    }
  }
  return places
}

interface Letter {
  readonly application: string
  readonly reason: string
  readonly place: string
}

async function deadLettersOf(log: EventLog, topologies: readonly Topology[]): Promise<Letter[]> {
  const letters: Letter[] = []
  for (const { application } of topologies) {
    for (const { headers } of await placesOf(log, `${application}-dead-letters`)) {
      const [reason, ...at] = ['reason', 'topic', 'partition', 'offset'].map(name =>
        headers.get(`dl_${name}`),
      )
      letters.push({ application, reason: reason!, place: `${at[0]}-${at[1]}@${at[2]}` })
    }
  }
  return letters
}

async function poisonOf(log: EventLog): Promise<string[]> {
  const records = await placesOf(log, 'orders')
  return records.flatMap(({ key, place }) => (key.startsWith('poison-') ? [place] : []))
}

/** Every application that reads the topic has put each piece of poison aside, once. */
function checkPoison(
  letters: readonly Letter[],
  poison: readonly string[],
  topologies: readonly Topology[],
): void {
  const readers = topologies.filter(({ nodes }) =>
    nodes.some(node => node.kind === 'source' && node.topic === 'orders'),
  )
  const found = letters.filter(({ reason }) => reason === 'poison')
  const wanted = readers.flatMap(({ application }) =>
    poison.map(place => `${application} ${place}`),
  )
  const told = found.map(({ application, place }) => `${application} ${place}`)
  assert.deepEqual(told.sort(), wanted.sort(), 'dead letters of poison')
}

/** What was received is on hand, held or shipped, and the books of the events say the same. */
function checkStock(rows: readonly Record<string, unknown>[], { received, shipped }: Books): void {
  assert.equal(rows.length, received.size, 'products in the warehouse')
  for (const row of rows) {
    const sku = row.sku as string
    const gone = shipped.get(sku) ?? 0
    const wanted = { received: received.get(sku), reserved: 0, shipped: gone }
    const { received: got, onHand, reserved, shipped: sent } = row
    assert.deepEqual({ received: got, reserved, shipped: sent }, wanted, sku)
    assert.equal(onHand, received.get(sku)! - gone, sku)
  }
}

/** What was asked for was sent, once, by whichever process sends. */
async function checkOutbox(
  folders: readonly string[],
  events: readonly WrittenEvent[],
): Promise<void> {
  const sent: string[] = []
  for (const folder of folders.map(dataDir => join(dataDir, 'outbox'))) {
    for (const name of await readdir(folder).catch(() => [])) {
      const lines = (await readFile(join(folder, name), 'utf8')).split('\n').filter(Boolean)
      sent.push(...lines.map(line => (JSON.parse(line) as Notification).notificationId))
    }
  }
  const asked = events.flatMap(({ event }) =>
    event.type === 'NotificationRequested' ? [event.notificationId] : [],
  )
  assert(asked.length > 0, 'customers hear of their orders')
  assert.deepEqual(sent.sort(), asked.sort(), 'notifications sent')
}

interface Notification {
  readonly notificationId: string
}

/** The first event that differs says more than all of them. */
export function assertSaidTheSame(
  found: readonly WrittenEvent[],
  wanted: readonly WrittenEvent[],
): void {
  const [a, b] = [found, wanted].map(events =>
    saidByServices(events).map(({ event, headers, timeMs }) =>
      JSON.stringify([event, headers, timeMs]),
    ),
  )
  const at = a!.findIndex((line, i) => line !== b![i])
  if (at >= 0) assert.equal(a![at], b![at], `event ${at} of the services`)
  assert.equal(a!.length, b!.length, 'events of the services')
}

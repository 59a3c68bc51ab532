/** Several services over one embedded log, fed and run in an order that a seed decides. */

import type { BusinessEvent } from '../../contracts/events.ts'
import { eventTopics, type InputTopic, inputTopics, keyFieldOf } from '../../contracts/topics.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { eventSerde } from '../../processors/analytics/event-streams.ts'
import { type Topology, textKey } from '../../streams/index.ts'
import { partitionOfKey } from '../../streams/sinks.ts'
import { type TestDriverOptions, TopologyTestDriver } from '../../streams/testing/index.ts'
import { readTopic } from '../../streams/testing/read-topic.ts'
import type { Random } from './random.ts'
import { minuteMs, type SagaRecord, storyStartMs } from './saga.ts'

const settings = { idleAfterMs: Number.POSITIVE_INFINITY }

/** An event as a service or a customer has written it. */
export interface WrittenEvent {
  readonly topic: InputTopic
  readonly event: BusinessEvent
  readonly timeMs: number
  readonly headers: Readonly<Record<string, string>>
}

/** Opens the services as one process would: one log, one database, one clock. */
export async function openServices(
  topologies: readonly Topology[],
  options: TestDriverOptions = {},
): Promise<TopologyTestDriver[]> {
  const drivers: TopologyTestDriver[] = []
  for (const topology of topologies) {
    const beside = drivers[0]
    const own = { startMs: storyStartMs, partitions: 3, ...options }
    drivers.push(
      await TopologyTestDriver.open(topology, {
        ...own,
        settings: { ...settings, ...options.settings },
        ...(beside && { beside }),
      }),
    )
  }
  return drivers
}

export async function closeServices(drivers: readonly TopologyTestDriver[]): Promise<void> {
  for (const driver of drivers.toReversed()) await driver.close()
}

/** Appends records to their topics as they are, in order. */
export async function appendRecords(log: EventLog, records: readonly SagaRecord[]): Promise<void> {
  const builders = new Map<
    string,
    { topic: string; partition: number; batch: RecordBatchBuilder }
  >()
  for (const { topic, key, value, timeMs, headers } of records) {
    const { partitions } = (await log.describeTopic(topic))!
    const serde = textKey(keyFieldOf(topic))
    const partition = partitionOfKey(serde, key, partitions)
    const id = `${topic}/${partition}`
    let entry = builders.get(id)
    if (entry === undefined) {
      entry = { topic, partition, batch: new RecordBatchBuilder() }
      builders.set(id, entry)
    }
    const keyBytes = Buffer.from(key)
    const bytes = eventSerde.encode(value)
    entry.batch.append(
      timeMs,
      { bytes: keyBytes, start: 0, end: keyBytes.length },
      { bytes, start: 0, end: bytes.length },
      Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)] as const),
    )
  }
  const transaction = log.begin()
  for (const { topic, partition, batch } of builders.values()) {
    transaction.append({ topic, partition }, batch.finish())
  }
  await transaction.commit()
}

/** Appends bytes that are no event. */
export async function appendPoison(log: EventLog, topic: InputTopic, random: Random) {
  const { partitions } = (await log.describeTopic(topic))!
  const batch = new RecordBatchBuilder()
  const bytes = Buffer.from(random.pick(['nothing', '\0\0\0\0\x01\xff', '']))
  const key = Buffer.from(`poison-${random.below(1000)}`)
  batch.append(
    storyStartMs,
    { bytes: key, start: 0, end: key.length },
    { bytes, start: 0, end: bytes.length },
  )
  const transaction = log.begin()
  transaction.append({ topic, partition: random.below(partitions) }, batch.finish())
  await transaction.commit()
}

/** How far the log has come: it stands still when this does. */
async function logEnd(log: EventLog): Promise<string> {
  const ends: number[] = []
  for (const topic of inputTopics) {
    const description = await log.describeTopic(topic)
    const targets = Array.from({ length: description?.partitions ?? 0 }, (_, partition) => ({
      topic,
      partition,
    }))
    for (const { endOffset } of await log.offsets(targets)) ends.push(endOffset)
  }
  return ends.join(' ')
}

/** Lets every service read all there is, until none writes any more. */
export async function settle(drivers: readonly TopologyTestDriver[]): Promise<void> {
  const { log } = drivers[0]!
  for (let before = ''; ; ) {
    for (const driver of drivers) await driver.process()
    const end = await logEnd(log)
    if (end === before) return
    before = end
  }
}

/** Nothing more comes: the wall clock passes, until all is decided that waits for it. */
export async function finish(drivers: readonly TopologyTestDriver[]): Promise<void> {
  await settle(drivers)
  // The first step brings the clock to the story's end; then each chain of decisions has its own.
  drivers[0]!.tick(24 * 60 * minuteMs)
  for (let step = 0; step < 12; step++) {
    await settle(drivers)
    drivers[0]!.tick(10 * minuteMs)
  }
  await settle(drivers)
}

/** All events of all topics. */
export async function writtenEvents(log: EventLog): Promise<WrittenEvent[]> {
  const events: WrittenEvent[] = []
  for (const topic of inputTopics) {
    if ((await log.describeTopic(topic)) === undefined) continue
    const serdes = {
      key: textKey(),
      value: { encode: eventSerde.encode, decode: decodeOrNothing },
    }
    for (const { value, timeMs, headers } of await readTopic({
      log,
      topic,
      serdes,
      positions: new Map(),
    })) {
      if (value && eventTopics[value.type] === topic) {
        events.push({ topic, event: value, timeMs, headers })
      }
    }
  }
  return events
}

function decodeOrNothing(bytes: Buffer, start: number, end: number): BusinessEvent | null {
  try {
    return eventSerde.decode(bytes, start, end)
  } catch {
    return null
  }
}

/** What the services themselves have said, in an order of its own. */
export function saidByServices(events: readonly WrittenEvent[]): WrittenEvent[] {
  return events
    .filter(({ headers }) => headers.ce_source?.startsWith('/services/'))
    .sort((a, b) => (a.headers.ce_id! < b.headers.ce_id! ? -1 : 1))
}

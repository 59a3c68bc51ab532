/**
 * A topology whose views only grow, and what must hold of any answer about them: everything that
 * its position covers is in it, nothing that was not appended, and each row once.
 */
import { Type } from 'typebox'
import { json, Topology, textKey, tumbling } from '../../streams/index.ts'
import { decodePosition, encodePosition, type Offsets } from '../../streams/position.ts'
import type { Input } from '../oracle/inputs.ts'
import { Random } from '../support/random.ts'
import type { SimulatedCluster } from '../support/simulation/cluster.ts'

export const PARTITIONS = 4
export const TOPIC = 'readings'

interface Reading {
  readonly meter: string
}

export interface StoryReading extends Input {
  readonly key: string
  readonly value: Reading
}

/** `meters` and `minutes` lie behind an exchange; `devices` where its producers put the keys. */
export function readingsTopology(): Topology {
  const topology = new Topology('readings')
  const readings = topology.stream(TOPIC, { key: textKey(), value: json<Reading>() })
  const byMeter = readings.groupBy(({ meter }) => meter, {
    name: 'by-meter',
    key: textKey('meter'),
  })
  const value = { count: Type.Integer() }
  const row = (count: number) => ({ count })
  byMeter
    .count({ name: 'meters' })
    .view({ name: 'meters', description: 'Readings of each meter', value, row })
  byMeter
    .windowedBy(tumbling(1000, { graceMs: 1e9 }))
    .count({ name: 'minutes', retentionMs: 1e12 })
    .view({ name: 'minutes', description: 'The same, by time', value, row })
  readings
    .groupByKey({ name: 'by-device', key: textKey('device') })
    .count({ name: 'devices' })
    .view({ name: 'devices', description: 'Readings of each device', value, row })
  return topology
}

export const views = ['meters', 'minutes', 'devices'] as const
export type ReadingsView = (typeof views)[number]

/** A device has its readings in one partition, which its key does not tell. */
export function readings(seed: number, count: number): StoryReading[] {
  const random = new Random(seed)
  return Array.from({ length: count }, (_, serial) => {
    const partition = random.below(PARTITIONS)
    const key = `d${partition}-${random.below(8)}`
    const value = { meter: `m${random.below(30)}` }
    return { topic: TOPIC, partition, key, timeMs: serial * 20, value }
  })
}

/** The row that a reading counts in. */
export function identityOf(view: ReadingsView, { key, timeMs, value }: StoryReading): string {
  if (view === 'devices') return key
  return view === 'meters' ? value.meter : `${value.meter}@${timeMs - (timeMs % 1000)}`
}

export function identityOfRow(view: ReadingsView, row: Readonly<Record<string, unknown>>): string {
  if (view === 'devices') return String(row.device)
  return view === 'meters' ? String(row.meter) : `${row.meter}@${row.windowStart}`
}

function counts(view: ReadingsView, records: Iterable<StoryReading>): Map<string, number> {
  const found = new Map<string, number>()
  for (const record of records) {
    const identity = identityOf(view, record)
    found.set(identity, (found.get(identity) ?? 0) + 1)
  }
  return found
}

/** What a position covers of the records; each partition has them in their order. */
function covered(records: readonly StoryReading[], offsets: Offsets): StoryReading[] {
  const seen = new Array(PARTITIONS).fill(0)
  return records.filter(({ partition }) => seen[partition]++ < (offsets[TOPIC]?.[partition] ?? 0))
}

/** The end of the log. */
export function endOf({ broker }: SimulatedCluster): string {
  const offsets: number[] = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const has = broker.describeTopic(TOPIC) !== undefined
    offsets.push(has ? broker.offsets({ topic: TOPIC, partition }).highWatermark : 0)
  }
  return encodePosition({ incarnation: broker.incarnation, offsets: { [TOPIC]: offsets } })
}

export interface Answer {
  readonly view: ReadingsView
  readonly rows: readonly Readonly<Record<string, unknown>>[]
  readonly position: string
  /** Only rows of these were asked for. */
  readonly asked?: (identity: string) => boolean
}

/** What is wrong with an answer, given by the log's `end`; empty where nothing is. */
export function faults(answer: Answer, records: readonly StoryReading[], end: string): string[] {
  const { view, rows, position, asked = () => true } = answer
  const least = counts(view, covered(records, decodePosition(position).offsets))
  const most = counts(view, covered(records, decodePosition(end).offsets))
  const found = new Map<string, number>()
  const wrong: string[] = []
  for (const row of rows) {
    const identity = identityOfRow(view, row)
    if (found.has(identity)) wrong.push(`${identity} is there twice`)
    found.set(identity, Number(row.count))
  }
  for (const [identity, count] of least) {
    const has = found.get(identity)
    if (asked(identity) && (has ?? 0) < count) wrong.push(`${identity}: ${has}, at least ${count}`)
  }
  for (const [identity, count] of found) {
    if (count > (most.get(identity) ?? 0)) wrong.push(`${identity}: ${count} are too many`)
  }
  return wrong
}

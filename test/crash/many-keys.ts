/**
 * An application with much state and nothing else: each record is remembered by its id (blocks)
 * and counted by its key (rows). Records are made from their number.
 */

import { Type } from 'typebox'
import { partitionOf } from '../../log/murmur2.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { json, Topology, textKey } from '../../streams/index.ts'
import type { Application } from './kafka-instance.ts'

export const PARTITIONS = 4
const START_MS = Date.UTC(2026, 0, 1)
const DAY_MS = 86_400_000
/** Of batches while loading. */
const BATCH_RECORDS = 5_000

export function manyKeys(prefix: string): Application {
  const topology = new Topology(`${prefix}many`)
  const key = textKey()
  topology
    .stream(`${prefix}facts`, { key, value: json<{ id: string; amount: number }>() })
    .deduplicate({ name: 'once', id: ({ id }) => id, ttlMs: 365 * DAY_MS })
    .groupByKey({ name: 'by-key', key })
    .aggregate({
      name: 'totals',
      initial: () => ({ count: 0, amount: 0 }),
      add: (total, { amount }) => ({ count: total.count + 1, amount: total.amount + amount }),
    })
    .view({
      name: 'totals',
      description: 'Facts by key',
      value: { count: Type.Integer(), amount: Type.Integer() },
    })
  return { topology, settings: { createPartitions: PARTITIONS, futureMsMax: Infinity } }
}

/** Appends the records `[from, to)`, each of a key and an id of its own. */
export async function appendFacts(
  log: EventLog,
  prefix: string,
  from: number,
  to: number,
): Promise<void> {
  for (let start = from; start < to; start += BATCH_RECORDS) {
    const builders = Array.from({ length: PARTITIONS }, () => new RecordBatchBuilder())
    for (let i = start; i < Math.min(to, start + BATCH_RECORDS); i++) {
      const key = Buffer.from(`customer-${i}`)
      const value = Buffer.from(JSON.stringify({ id: `fact-${i}`, amount: i % 1000 }))
      const partition = partitionOf(key, 0, key.length, PARTITIONS)
      builders[partition]!.append(START_MS + i, whole(key), whole(value))
    }
    const transaction = log.begin()
    builders.forEach((builder, partition) => {
      if (builder.count > 0)
        transaction.append({ topic: `${prefix}facts`, partition }, builder.finish())
    })
    await transaction.commit()
  }
}

function whole(bytes: Buffer) {
  return { bytes, start: 0, end: bytes.length }
}

/**
 * Copies what a salvage keeps into a new database. Nothing of the damaged one is written to, and
 * nothing damaged gets into the new one: RocksDB would meet it again when it merges its files.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { PartitionReport } from '../log/embedded/examine.ts'
import * as keys from '../log/embedded/keys.ts'
import { readBatchHeader } from '../log/record-batch.ts'
import { forgetFingerprint } from '../state/fingerprint.ts'
import { blocksPrefix, metadataKey, rowsPrefix } from '../state/keys.ts'
import { applicationOf, type Examination } from './examination.ts'
import { isInternalTopic, type SalvagePlan } from './salvage-plan.ts'

export interface CopyOptions {
  readonly from: Database
  readonly to: Database
  readonly examination: Examination
  readonly plan: SalvagePlan
  /** The new log: positions of the old one may be beyond its end. */
  readonly incarnation: string
  readonly onProgress: (text: string) => void
}

const WRITE_BYTES = 4 << 20
const FINGERPRINT = metadataKey('', 0, 'fingerprint')

export async function copySalvaged(options: CopyOptions): Promise<void> {
  const { to, examination, plan, incarnation, onProgress } = options
  const { log } = examination
  const writer = new Copier(to)
  writer.put(
    keys.incarnationKey,
    keys.encodeJson({ incarnation, bootId: '', clean: true } satisfies keys.IncarnationRow),
  )
  const next = Math.max(0, ...plan.topics.map(({ row }) => row.topic)) + 1
  writer.put(keys.topicCounterKey, keys.encodeCounter(next))
  const kept = plan.topics.filter(({ name }) => !isDropped(plan, name))
  for (const { name, row } of kept) writer.put(keys.topicKey(name), keys.encodeJson(row))
  const ends = new Map<PartitionReport, number>()
  for (const report of log.partitions) {
    if (!kept.some(({ name }) => name === report.topic)) continue
    onProgress(`copying ${report.topic}-${report.partition}`)
    ends.set(report, await copyPartition(options, writer, report))
  }
  await copyGroups(options, writer, ends)
  await copyStores(options, writer)
  await writer.flush()
  for (const application of plan.resets.keys()) {
    await forgetFingerprint(to, name => name.startsWith(`${application}.`))
  }
}

function isDropped({ resets }: SalvagePlan, topic: string): boolean {
  return [...resets.keys()].some(application => isInternalTopic(application, topic))
}

/** Collects writes and commits them in parts. */
class Copier {
  readonly #database: Database
  #batch: WriteBatch | undefined
  #bytes = 0

  constructor(database: Database) {
    this.#database = database
  }

  put(key: Uint8Array, value: Uint8Array): void {
    this.#batch ??= this.#database.batch()
    this.#batch.put(key, value)
    this.#bytes += key.length + value.length
  }

  async flushed(): Promise<void> {
    if (this.#bytes >= WRITE_BYTES) await this.flush()
  }

  async flush(): Promise<void> {
    const batch = this.#batch
    this.#batch = undefined
    this.#bytes = 0
    await batch?.commit()
  }

  async copy(from: Database, range: keys.KeyRange): Promise<void> {
    for await (const entries of from.scan(range)) {
      for (const { key, value } of entries) this.put(key, value)
      await this.flushed()
    }
  }
}

/** Copies the sound prefix; resolves with the partition's end. Time rows are made anew. */
async function copyPartition(
  { from, plan }: CopyOptions,
  writer: Copier,
  { id, topic, startOffset, soundTo, endOffset }: PartitionReport,
): Promise<number> {
  const isEmptied = plan.emptied.has(topic)
  const end = isEmptied ? endOffset : soundTo
  const start = isEmptied ? endOffset : Math.min(startOffset, end)
  const row = { startOffset: start, cleanedTo: start, cleanedRecords: 0 }
  writer.put(keys.partitionRowKey(id), keys.encodePartition(row))
  if (isEmptied) return end
  let latest = Number.NEGATIVE_INFINITY
  const range = { gte: keys.batchKey(id, 0), lt: keys.batchKey(id, end) }
  for await (const entries of from.scan(range)) {
    for (const { key, value } of entries) {
      writer.put(key, value)
      const { maxTimestamp, baseOffset } = readBatchHeader(value, 0, value.length, false)
      if (maxTimestamp > latest) {
        latest = maxTimestamp
        writer.put(keys.timeKey(id, maxTimestamp), keys.encodeOffset(baseOffset))
      }
    }
    await writer.flushed()
  }
  return end
}

/** Offsets beyond the new end go back to it; those of an application that begins anew are gone. */
async function copyGroups(
  { examination, plan }: CopyOptions,
  writer: Copier,
  ends: ReadonlyMap<PartitionReport, number>,
): Promise<void> {
  for (const { group, id, offset, metadata } of examination.log.groups) {
    if (plan.resets.has(group)) continue
    for (const [report, end] of ends) {
      if (report.id.topic !== id.topic || report.partition !== id.partition) continue
      const kept = keys.encodeGroupOffset(Math.min(offset, end), metadata)
      writer.put(keys.groupKey(group, id), kept)
    }
  }
  await writer.flushed()
}

async function copyStores(options: CopyOptions, writer: Copier): Promise<void> {
  const { from, examination, plan, onProgress } = options
  const { fingerprint, fingerprintWhole } = examination
  if (!fingerprintWhole) return
  const [bytes] = await from.getMany([FINGERPRINT])
  if (bytes) writer.put(FINGERPRINT, bytes)
  for (const [store, { kind, partitions }] of fingerprint) {
    if (plan.resets.has(applicationOf(store))) continue
    onProgress(`copying store ${store}`)
    for (let partition = 0; partition < partitions; partition++) {
      const isRestored = plan.restored.some(
        restored => restored.store === store && restored.partition === partition,
      )
      if (isRestored) continue
      const prefix = (kind === 'rows' ? rowsPrefix : blocksPrefix)(store, partition)
      await writer.copy(from, rangeOf(Buffer.from(prefix, 'latin1')))
      const applied = metadataKey(store, partition, 'applied')
      const [position] = await from.getMany([applied])
      if (position) writer.put(applied, position)
    }
  }
}

/** All keys that begin so. */
function rangeOf(prefix: Buffer): keys.KeyRange {
  const lt = Buffer.from(prefix)
  let end = lt.length
  while (lt[end - 1] === 0xff) end--
  lt[end - 1]!++
  return { gte: prefix, lt: lt.subarray(0, end) }
}

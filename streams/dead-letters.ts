/**
 * Records that left the flow: counted by reason and kept, with their own bytes and where they
 * came from, in the dead-letter topic, in the transaction of the epoch that dropped them.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import { type Assembly, deadLetterTopic } from './assembly.ts'
import { Batch } from './batch.ts'
import type { BrokenBatch, RejectedRecord } from './input-partition.ts'
import type { SourcePartition } from './source-partition.ts'
import type { DroppedRecord } from './task.ts'
import type { SourceNode } from './topology.ts'

/** A broken batch larger than this is kept as its beginning, with its size in the detail. */
const BROKEN_BYTES_MAX = 1024 * 1024

export class DeadLetters {
  readonly topic: string
  readonly #rejected = new Map<string, number>()

  constructor(application: string) {
    this.topic = deadLetterTopic(application)
  }

  /** A record that a step dropped and that no side output takes. */
  drop(assembly: Assembly, record: DroppedRecord): void {
    const origin = assembly.options.plan.origins[record.batch.sources[record.index]!]
    assembly.sinks.deadLetter(this.topic, record, origin)
  }

  /** A record of the input that cannot be used at all. */
  reject(
    assembly: Assembly,
    source: SourcePartition,
    { columns, row, detail }: RejectedRecord,
  ): void {
    const batch = new Batch(columns)
    batch.emit({
      key: null,
      value: null,
      timeMs: columns.timestamps[row]!,
      streamTimeMs: source.streamTimeMs,
      source: source.index,
      offset: columns.offsets[row]!,
    })
    batch.rows.push(row)
    this.#count(source.topic, 'poison')
    assembly.sinks.deadLetter(this.topic, rejected(source, batch, detail), source)
  }

  /** A batch whose records cannot even be told apart: one dead letter with its bytes. */
  rejectBatch(assembly: Assembly, source: SourcePartition, broken: BrokenBatch): void {
    const bytes = broken.bytes.subarray(0, BROKEN_BYTES_MAX)
    const whole = {
      bytes,
      keyStart: [-1],
      keyEnd: [-1],
      valueStart: [0],
      valueEnd: [bytes.length],
    } as unknown as RecordColumns
    const batch = new Batch(whole)
    const { offset } = broken
    const time = { timeMs: 0, streamTimeMs: source.streamTimeMs }
    batch.emit({ key: null, value: null, ...time, source: source.index, offset })
    batch.rows.push(0)
    this.#count(source.topic, 'corrupt-batch')
    const detail = `${broken.detail} (${broken.bytes.length} bytes)`
    assembly.sinks.deadLetter(this.topic, rejected(source, batch, detail), source)
  }

  /** Records and batches refused at a source, by topic and reason, of this process. */
  get rejected(): [readonly [topic: string, reason: string], number][] {
    return [...this.#rejected].map(([id, count]) => [id.split('\n') as [string, string], count])
  }

  #count(topic: string, reason: string): void {
    const id = `${topic}\n${reason}`
    this.#rejected.set(id, (this.#rejected.get(id) ?? 0) + 1)
  }
}

function rejected(source: SourcePartition, batch: Batch, detail: string): DroppedRecord {
  const node: SourceNode = source.node
  return { node, partition: source.partition, batch, index: 0, reason: 'poison', detail }
}

/**
 * Records that left the flow: counted by step and reason and kept, with their own bytes and where
 * they came from, in the dead-letter topic, in the transaction of the epoch that dropped them.
 */

import type { RecordColumns } from '../log/record-columns.ts'
import { readHeaders } from '../log/record-headers.ts'
import { type Assembly, deadLetterTopic } from './assembly.ts'
import { type DeadLetter, errorCode, keyAndValue, stackDigest } from './dead-letter-record.ts'
import type { BrokenBatch, RejectedRecord } from './input-partition.ts'
import type { SideReason } from './operator.ts'
import { letterStep, stepId } from './replay-steps.ts'
import type { SourcePartition } from './source-partition.ts'
import type { DroppedRecord } from './task.ts'
import type { TopologyNode } from './topology.ts'

export interface DeadLettersOptions {
  readonly application: string
  readonly clock: () => number
  /** Reasons for which records are kept although a side output takes them. */
  readonly reasons: readonly SideReason[]
}

/** A number for each step and reason. */
type Counts = Map<string, number>

export class DeadLetters {
  readonly topic: string
  readonly #options: DeadLettersOptions
  readonly #rejected: Counts = new Map()
  readonly #written: Counts = new Map()
  /** Of the epoch that is being made. */
  #made: Counts = new Map()

  constructor(options: DeadLettersOptions) {
    this.topic = deadLetterTopic(options.application)
    this.#options = options
  }

  /** Whether a record is a letter; `claimed` when a side output takes it. */
  keeps(reason: SideReason, claimed: boolean): boolean {
    return !claimed || this.#options.reasons.includes(reason)
  }

  /** A record that a step dropped, and that is kept. */
  drop(assembly: Assembly, record: DroppedRecord): void {
    const { batch, index, reason, node, isPart, step } = record
    const origin = assembly.options.plan.origins[batch.sources[index]!]
    const columns = origin && batch.columns
    const isDerived = batch.exchanged || columns === undefined
    this.#write(assembly, {
      ...this.#about(node, reason),
      ...errorParts(record),
      ...letterStep(step),
      detail: step === stepId(node) ? record.detail : `${node.name}: ${record.detail}`,
      content: origin === undefined ? 'none' : isDerived ? 'derived' : 'record',
      place: origin ? { ...placeOf(origin), offset: batch.offsets[index]! } : null,
      taken: origin ? (isPart === true ? 'part' : 'nothing') : null,
      timestampMs: columns?.timestamps[batch.rows[index]!] ?? batch.times[index]!,
      ...bytesOf(columns, batch.rows[index]!),
    })
  }

  /** A record of the input that cannot be used at all. */
  reject(assembly: Assembly, source: SourcePartition, rejected: RejectedRecord): void {
    const { columns, row, offset, detail, step } = rejected
    count(this.#rejected, source.topic, 'poison')
    this.#write(assembly, {
      ...this.#about(source.node, 'poison'),
      ...(step !== undefined && letterStep(step)),
      ...errorParts(rejected),
      detail,
      content: 'record',
      place: { ...placeOf(source), offset },
      taken: 'nothing',
      timestampMs: columns.timestamps[row]!,
      ...bytesOf(columns, row),
    })
  }

  /** A batch whose records cannot even be told apart: one dead letter with its bytes. */
  rejectBatch(assembly: Assembly, source: SourcePartition, broken: BrokenBatch): void {
    const { bytes, offset, detail, error } = broken
    count(this.#rejected, source.topic, 'corrupt-batch')
    this.#write(assembly, {
      ...this.#about(source.node, 'poison'),
      ...errorParts({ error }),
      detail: `${detail} (${bytes.length} bytes)`,
      content: 'batch',
      place: { ...placeOf(source), offset },
      taken: null,
      timestampMs: 0,
      key: null,
      value: bytes,
      headers: [],
    })
  }

  #about(node: TopologyNode, reason: SideReason) {
    const { application, clock } = this.#options
    const { branch = 0 } = node
    return { application, ...letterStep(stepId(node)), branch, reason, atMs: clock() }
  }

  #write(assembly: Assembly, letter: DeadLetter): void {
    count(this.#made, letter.step!, letter.reason!)
    assembly.sinks.deadLetter(this.topic, letter)
  }

  /** To be called once the epoch being sealed is committed. */
  seal(): () => void {
    const made = this.#made
    this.#made = new Map()
    return () => {
      for (const [id, number] of made) {
        this.#written.set(id, (this.#written.get(id) ?? 0) + number)
      }
    }
  }

  /** The epoch that was being made is dropped. */
  rewind(): void {
    this.#made = new Map()
  }

  /** Dead letters written by this process, by step and reason. */
  get written(): readonly (readonly [id: readonly [step: string, reason: string], number])[] {
    return listed(this.#written)
  }

  /** Records and batches refused at a source, by topic and reason, of this process. */
  get rejected(): readonly (readonly [id: readonly [topic: string, reason: string], number])[] {
    return listed(this.#rejected)
  }
}

function count(counts: Counts, step: string, reason: string): void {
  const id = `${step}\n${reason}`
  counts.set(id, (counts.get(id) ?? 0) + 1)
}

function listed(counts: Counts) {
  return [...counts].map(([id, number]) => [id.split('\n') as [string, string], number] as const)
}

function placeOf({ topic, partition }: { topic: string; partition: number }) {
  return { topic, partition }
}

function errorParts({ error, attempts = 1 }: { error?: unknown; attempts?: number }) {
  return { code: errorCode(error), stack: stackDigest(error), attempts }
}

function bytesOf(
  columns: RecordColumns | undefined,
  row: number,
): Pick<DeadLetter, 'key' | 'value' | 'headers'> {
  if (columns === undefined) return { key: null, value: null, headers: [] }
  return { ...keyAndValue(columns, row), headers: readHeaders(columns, row) }
}

/**
 * A proof: a topology, the input of a run, and what must come out, computed by an oracle that
 * knows nothing of batches or instances. `harness.ts` runs it in one process, `test/cluster` on
 * several instances.
 */
import type { EngineSettings } from '../../streams/environment.ts'
import { type Topology, text, textKey } from '../../streams/index.ts'
import type { OutputRecord, ReadSerdes } from '../../streams/testing/index.ts'
import type { ViewRow } from '../../streams/views.ts'
import type { Random } from '../support/random.ts'
import type { Input, Stamped } from './inputs.ts'

/** What a run has come to: of a test driver, or of a cluster. */
export interface Outcome {
  readonly application: string
  /** All rows, as of a time where one is given. */
  rows(view: string, asOf?: number): Promise<ViewRow[]>
  /** Records written to a topic since the last call, partition by partition. */
  output<K, V>(topic: string, serdes: ReadSerdes<K, V>): Promise<OutputRecord<K, V>[]>
}

export interface Proof<R> {
  readonly topology: () => Topology
  readonly partitions: number
  /** The records of one run, in append order; the last of each partition drive the end. */
  readonly inputs: (random: Random) => Input[]
  /** What the engine gave. Only what must not depend on cuts: final rows, last values. */
  readonly results: (outcome: Outcome) => Promise<R>
  /** The same from the records in the order of their order keys, with plain loops. */
  readonly oracle: (records: readonly Stamped[], watermarkMs: number) => R
  /** Fails when a run does not reach what the proof is for. */
  readonly reaches?: (results: R) => void
  readonly settings?: Partial<EngineSettings>
}

export interface ProofRuns {
  readonly oracles?: number
  readonly cuts?: number
  readonly kills?: number
  /** Added to all seeds, so that many proofs of the same kind do not run the same cuts. */
  readonly seed?: number
}

export interface NamedProof {
  readonly name: string
  readonly proof: Proof<unknown>
  readonly runs?: ProofRuns
}

/** A proof as one among others: each compares its own results only. */
export function prove<R>(proof: Proof<R>): Proof<unknown> {
  return proof as unknown as Proof<unknown>
}

const LINES = { key: textKey(), value: text() }

/** All records of a topic of texts as `key=value`, sorted. */
export async function written(outcome: Outcome, topic: string): Promise<string[]> {
  const records = await outcome.output(topic, LINES)
  return records.map(({ key, value }) => `${key}=${value}`).sort()
}

/** The last record of each key of a topic of texts as `key=value@time`, sorted; no deletions. */
export async function latest(outcome: Outcome, topic: string): Promise<string[]> {
  const last = new Map<string, string>()
  for (const { key, value, timeMs } of await outcome.output(topic, LINES)) {
    if (value === null) last.delete(key!)
    else last.set(key!, `${key}=${value}@${timeMs}`)
  }
  return [...last.values()].sort()
}

/** Dead letters as `reason topic/partition@offset`, sorted. */
export async function deadLetters(outcome: Outcome): Promise<string[]> {
  const letters = await outcome.output(`${outcome.application}-dead-letters`, LINES)
  return letters
    .map(({ headers: h }) => `${h.dl_reason} ${h.dl_topic}/${h.dl_partition}@${h.dl_offset}`)
    .sort()
}

/** How the oracle writes a dead letter. */
export function deadLetter(reason: string, record: Stamped): string {
  return `${reason} ${record.topic}/${record.partition}@${record.offset}`
}

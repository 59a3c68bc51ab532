/**
 * What a task has put aside, so that a replayed record counts where it is missing and nowhere else.
 * In the run whose letter it is, it is missing. Of others the letter does not tell: one that begins
 * again at the beginning (a reset, a branch for an added view) reads the record that failed and
 * counts it, or puts it aside, too; and then comes the one that was replayed.
 *
 * One row a step and record in the task's event-time store, idle once the record has come back, so
 * that it comes back once, however many letters are of it:
 *
 *     row = 'a' step 00 topic '/' partition '@' offset
 *
 * Rows stay as letters do, and are deleted with the rest of the state by a reset.
 */
import type { RecordColumns } from '../log/record-columns.ts'
import { encodeText } from '../state/keys.ts'
import type { RowKey, RowStore } from '../state/port.ts'
import type { Batch } from './batch.ts'
import type { RecordOrigin } from './operator.ts'
import { type OriginalPlace, replayTargetOf, runOf } from './replay-header.ts'
import type { InputProgress } from './watermark.ts'

/** Rows of event time come behind those of records put aside. */
export const ASIDE_END: RowKey = 'b'

const PUT_ASIDE: InputProgress = { timeMs: 0, idle: false }
const TAKEN: InputProgress = { timeMs: 0, idle: true }

export interface AsideOptions {
  /** The task's event-time store. */
  readonly store: RowStore<InputProgress>
  readonly origins: readonly RecordOrigin[]
  readonly lettersTopicId: string
  readonly branch: number
}

export interface NotedRecord {
  readonly columns: RecordColumns | undefined
  readonly row: number
  /** Place in the plan's list of origins. */
  readonly source: number
  readonly offset: number
}

export class Aside {
  readonly #store: RowStore<InputProgress>
  /** By their place in the `sources` column of batches. */
  readonly #origins: readonly RecordOrigin[]
  readonly #run: string

  constructor({ store, origins, lettersTopicId, branch }: AsideOptions) {
    this.#store = store
    this.#origins = origins
    this.#run = runOf(lettersTopicId, branch)
  }

  /** A step has taken nothing of a record. Of what no single record made, nothing is noted. */
  put(step: string, record: NotedRecord): void {
    const row = this.#row(step, record)
    if (row !== undefined) this.#store.put(row, PUT_ASIDE)
  }

  /** Of records replayed for a step, those that are missing there: from now on it has them. */
  async take(step: string, batch: Batch): Promise<Batch> {
    const rows = batch.offsets.map((_, i) => this.#row(step, recordAt(batch, i)))
    await this.#store.prefetch(rows.filter(row => row !== undefined))
    const taken = batch.successor({ keys: true, values: true })
    taken.target = batch.target
    rows.forEach((row, i) => {
      const noted = row && this.#store.get(row)
      if (noted ? noted.idle : !this.#isOfThisRun(batch, i)) return
      if (row !== undefined) this.#store.put(row, TAKEN)
      taken.keep(batch, i)
    })
    return taken
  }

  /** Its own letter, an old one, or of a record that was gone before this run began to read. */
  #isOfThisRun({ columns, rows, offsets }: Batch, i: number): boolean {
    const original = originalOf(columns, rows[i]!)
    return original === undefined || original.run === this.#run || original.offset !== offsets[i]
  }

  /** Always by the record that failed, also where the replayed one stands for itself. */
  #row(step: string, { columns, row, source, offset }: NotedRecord): RowKey | undefined {
    const origin = this.#origins[source]
    if (origin === undefined) return undefined
    const at = originalOf(columns, row)?.offset ?? offset
    return `a${encodeText(`${step}\0${origin.topic}/${origin.partition}@${at}`)}`
  }
}

/** Record `i` of a batch, as it is noted. */
export function recordAt({ columns, rows, sources, offsets }: Batch, i: number): NotedRecord {
  return { columns, row: rows[i]!, source: sources[i]!, offset: offsets[i]! }
}

function originalOf(columns: RecordColumns | undefined, row: number): OriginalPlace | undefined {
  return columns && replayTargetOf(columns, row)?.original
}

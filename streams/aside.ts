/**
 * What a task has put aside, so that a replayed record counts where it is missing and nowhere else.
 * The letter alone does not tell: a run that begins again at the beginning, with the step mended,
 * reads the record that failed and counts it, and then the one that was replayed.
 *
 * One row a step and record in the task's event-time store, until the record comes back:
 *
 *     row = 'a' step 00 topic '/' partition '@' offset
 *
 * Rows stay as long as letters do, and are deleted with the rest of the state by a reset.
 */
import { encodeText } from '../state/keys.ts'
import type { RowKey, RowStore } from '../state/port.ts'
import type { Batch } from './batch.ts'
import type { RecordOrigin } from './operator.ts'
import { replayTargetOf } from './replay-header.ts'
import type { InputProgress } from './watermark.ts'

/** Rows of event time come behind those of records put aside. */
export const ASIDE_END: RowKey = 'b'

/** The row's being there is all it says. */
const PUT_ASIDE: InputProgress = { timeMs: 0, idle: false }

export class Aside {
  readonly #store: RowStore<InputProgress>
  /** By their place in the `sources` column of batches. */
  readonly #origins: readonly RecordOrigin[]

  constructor(store: RowStore<InputProgress>, origins: readonly RecordOrigin[]) {
    this.#store = store
    this.#origins = origins
  }

  /** A step has taken nothing of the record. Of what no single record made, nothing is noted. */
  put(step: string, source: number, offset: number): void {
    const row = this.#row(step, source, offset)
    if (row !== undefined) this.#store.put(row, PUT_ASIDE)
  }

  /** Of records replayed for a step, those that it had put aside: from now on it has them. */
  async take(step: string, batch: Batch): Promise<Batch> {
    const rows = batch.offsets.map((offset, i) => this.#row(step, batch.sources[i]!, offset))
    await this.#store.prefetch(rows.filter(row => row !== undefined))
    const taken = batch.successor({ keys: true, values: true })
    taken.target = batch.target
    rows.forEach((row, i) => {
      const isAside = row !== undefined && this.#store.get(row) !== undefined
      if (isAside) this.#store.delete(row)
      if (isAside || isUnnoted(batch, i)) taken.keep(batch, i)
    })
    return taken
  }

  #row(step: string, source: number, offset: number): RowKey | undefined {
    const origin = this.#origins[source]
    return origin && `a${encodeText(`${step}\0${origin.topic}/${origin.partition}@${offset}`)}`
  }
}

/** Its letter is older than these rows. */
function isUnnoted({ columns, rows }: Batch, i: number): boolean {
  const replay = columns && replayTargetOf(columns, rows[i]!)
  return replay !== undefined && replay.originalOffset === undefined
}

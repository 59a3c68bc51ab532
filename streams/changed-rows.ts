/** The rows that a batch of records changes, in the order in which it changed them first. */
import type { Span } from '@opentelemetry/api'
import type { RowKey } from '../state/port.ts'
import type { Batch } from './batch.ts'
import { joined } from './trace-context.ts'

export interface ChangedRow {
  readonly key: unknown
  /** The row's value before the batch. */
  readonly previous: unknown
  /** Time of the change, where the row itself may no longer say it. */
  timeMs: number
  /** Place in the batch of the last record that changed it. */
  record: number
  span: Span | undefined
}

export class ChangedRows {
  readonly #rows = new Map<RowKey, ChangedRow>()

  has(row: RowKey): boolean {
    return this.#rows.has(row)
  }

  /** Record `i` changes a row; `previous` counts when it is the first of the batch to do so. */
  note(row: RowKey, input: Batch, i: number, previous: unknown): ChangedRow {
    let change = this.#rows.get(row)
    if (change === undefined) {
      change = { key: input.keys[i], previous, timeMs: input.times[i]!, record: i, span: undefined }
      this.#rows.set(row, change)
    }
    change.record = i
    change.span = joined(change.span, input.traces?.get(i))
    return change
  }

  [Symbol.iterator](): MapIterator<[RowKey, ChangedRow]> {
    return this.#rows.entries()
  }
}

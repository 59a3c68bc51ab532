/**
 * What becomes of a window aggregate's rows as the watermark passes: final results, then expiry.
 * Rows lie in the order in which their windows close, so a large close goes from row to row.
 */
import { windowKey, windowStartOf } from '../state/keys.ts'
import type { Row, RowKey, RowStore } from '../state/port.ts'
import { Batch, result } from './batch.ts'
import { type Closing, type ClosingPart, firstRows } from './closing.ts'
import type { OperatorContext } from './operator.ts'
import type { Timed } from './serde.ts'
import { WindowExpiry } from './window-expiry.ts'
import { lastWindowEnded, type TimeWindows } from './windows.ts'

export interface WindowEndsOptions {
  readonly store: RowStore<Timed<unknown>>
  readonly context: OperatorContext
  readonly windows: Pick<TimeWindows, 'sizeMs' | 'advanceMs' | 'graceMs'>
  /** How long after its end a window's row stays; Infinity for ever. */
  readonly retentionMs: number
  /** Rows are handed over as their windows close. */
  readonly collects: boolean
}

export class WindowEnds implements ClosingPart {
  readonly #options: WindowEndsOptions
  readonly #expiry: WindowExpiry
  #closing: Row<Timed<unknown>>[] = []
  /** Windows that begin at or before this are closed. */
  #closedStart = Number.NEGATIVE_INFINITY

  constructor(options: WindowEndsOptions) {
    this.#options = options
    const { store, context, windows, retentionMs } = options
    const last = (watermarkMs: number) => lastWindowEnded(windows, watermarkMs, retentionMs)
    this.#expiry = new WindowExpiry({ store, context, last })
  }

  resume(watermarkMs: number, closing: Closing | undefined): void {
    this.#closedStart = this.#closed(closing?.closedMs ?? watermarkMs)
    this.#expiry.resume(watermarkMs, closing)
  }

  #closed(watermarkMs: number): number {
    const { windows } = this.#options
    return lastWindowEnded(windows, watermarkMs, windows.graceMs)
  }

  #collects(watermarkMs: number): boolean {
    return this.#options.collects && this.#closed(watermarkMs) > this.#closedStart
  }

  due(watermarkMs: number): boolean {
    return this.#collects(watermarkMs) || this.#expiry.due(watermarkMs)
  }

  /** Reads the rows of windows that have closed, then drops those whose retention has passed. */
  async advance(watermarkMs: number, from: Closing | undefined): Promise<Closing | undefined> {
    if (this.#collects(watermarkMs)) {
      const closing = await this.#collect(watermarkMs, from)
      this.#options.context.reached('close-mid')
      if (closing !== undefined) return closing
    }
    return this.#expiry.due(watermarkMs) ? this.#expiry.advance(watermarkMs) : undefined
  }

  async #collect(watermarkMs: number, from: Closing | undefined): Promise<Closing | undefined> {
    const { store, context, windows } = this.#options
    const closed = this.#closed(watermarkMs)
    const gte = from?.row ? `${from.row}\0` : windowKey(Math.max(this.#closedStart + 1, 0), '')
    const range = { gte, lt: windowKey(closed + 1, '') }
    const { rows, left } = await firstRows(store, range, context.closeRowsMax)
    this.#closing = rows
    this.#closedStart = left === undefined ? closed : windowStartOf(left.key) - 1
    if (left === undefined) return undefined
    const closedMs = this.#closedStart + windows.sizeMs + windows.graceMs
    return { closedMs, row: rows.at(-1)!.key }
  }

  /** The final results of windows that have closed since the last call, in row order. */
  results(keyOf: (row: RowKey) => unknown): Batch | undefined {
    if (this.#closing.length === 0) return undefined
    const batch = new Batch()
    for (const { key: row, value: timed } of this.#closing) {
      batch.change(result(keyOf(row), timed.value, timed.timeMs), undefined)
    }
    this.#closing = []
    return batch
  }
}

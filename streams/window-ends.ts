/**
 * What becomes of a window aggregate's rows as the watermark passes: final results, then expiry.
 * Rows lie in the order in which their windows close, so a large close goes from row to row.
 */
import { windowKey, windowStartOf } from '../state/keys.ts'
import type { Row, RowStore } from '../state/port.ts'
import { type Closing, dropRows, firstRows } from './closing.ts'
import type { OperatorContext } from './operator.ts'
import type { Timed } from './serde.ts'
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

export class WindowEnds {
  readonly #options: WindowEndsOptions
  #closing: Row<Timed<unknown>>[] = []
  /** Windows that begin at or before these are closed; and those that are gone. */
  #closedStart = Number.NEGATIVE_INFINITY
  #expiredStart = Number.NEGATIVE_INFINITY

  constructor(options: WindowEndsOptions) {
    this.#options = options
  }

  resume(watermarkMs: number, closing: Closing | undefined): void {
    this.#closedStart = this.#closed(closing?.closedMs ?? watermarkMs)
    if (closing === undefined) this.#expiredStart = this.#expired(watermarkMs)
  }

  #closed(watermarkMs: number): number {
    const { windows } = this.#options
    return lastWindowEnded(windows, watermarkMs, windows.graceMs)
  }

  #expired(watermarkMs: number): number {
    return lastWindowEnded(this.#options.windows, watermarkMs, this.#options.retentionMs)
  }

  #collects(watermarkMs: number): boolean {
    return this.#options.collects && this.#closed(watermarkMs) > this.#closedStart
  }

  /** Whether `advance` has anything to do. */
  due(watermarkMs: number): boolean {
    return this.#collects(watermarkMs) || this.#expired(watermarkMs) > this.#expiredStart
  }

  /** Reads the rows of windows that have closed, then drops those whose retention has passed. */
  async advance(watermarkMs: number, from: Closing | undefined): Promise<Closing | undefined> {
    if (this.#collects(watermarkMs)) {
      const closing = await this.#collect(watermarkMs, from)
      this.#options.context.reached('close-mid')
      if (closing !== undefined) return closing
    }
    return this.#expired(watermarkMs) > this.#expiredStart ? this.#expire(watermarkMs) : undefined
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

  async #expire(watermarkMs: number): Promise<Closing | undefined> {
    const { store, context } = this.#options
    const expired = this.#expired(watermarkMs)
    const step = { rowsMax: context.closeRowsMax, watermarkMs }
    const left = await dropRows(store, windowKey(expired + 1, ''), step)
    if (left === undefined) this.#expiredStart = expired
    context.reached('expire-mid')
    return left
  }

  /** The rows of windows that have closed since the last call, in row order. */
  take(): readonly Row<Timed<unknown>>[] {
    const closing = this.#closing
    this.#closing = []
    return closing
  }
}

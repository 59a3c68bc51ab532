/** What becomes of a window aggregate's rows as the watermark passes: final results, expiry. */
import { windowKey } from '../state/keys.ts'
import type { Row, RowStore } from '../state/port.ts'
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

  resume(watermarkMs: number): void {
    this.#closedStart = this.#closed(watermarkMs)
    this.#expiredStart = this.#expired(watermarkMs)
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
  async advance(watermarkMs: number): Promise<void> {
    const { store, context } = this.#options
    if (this.#collects(watermarkMs)) {
      const closed = this.#closed(watermarkMs)
      const range = {
        gte: windowKey(Math.max(this.#closedStart + 1, 0), ''),
        lt: windowKey(closed + 1, ''),
      }
      for await (const chunk of store.scan(range)) this.#closing.push(...chunk)
      this.#closedStart = closed
      context.reached('close-mid')
    }
    const expired = this.#expired(watermarkMs)
    if (expired <= this.#expiredStart) return
    await store.deleteRange('', windowKey(expired + 1, ''))
    this.#expiredStart = expired
    context.reached('expire-mid')
  }

  /** The rows of windows that have closed since the last call, in row order. */
  take(): readonly Row<Timed<unknown>>[] {
    const closing = this.#closing
    this.#closing = []
    return closing
  }
}

/** Rows of windows that nothing asks for any more. */
import { windowKey } from '../state/keys.ts'
import type { RowStore } from '../state/port.ts'
import type { Closing, ClosingPart } from './closing.ts'
import type { OperatorContext } from './operator.ts'

export interface WindowExpiryOptions {
  /** Its rows begin with their window's start. */
  readonly store: RowStore<unknown>
  readonly context: Pick<OperatorContext, 'closeRowsMax' | 'reached'>
  /** Start of the last window whose rows may go at a watermark; −∞ for none. */
  readonly last: (watermarkMs: number) => number
}

/** Deletes them as the watermark passes, so many a step. */
export class WindowExpiry implements ClosingPart {
  readonly #options: WindowExpiryOptions
  /** Windows that begin at or before this are gone. */
  #goneStart = Number.NEGATIVE_INFINITY

  constructor(options: WindowExpiryOptions) {
    this.#options = options
  }

  resume(watermarkMs: number, closing: Closing | undefined): void {
    if (closing === undefined) this.#goneStart = this.#options.last(watermarkMs)
  }

  due(watermarkMs: number): boolean {
    return this.#options.last(watermarkMs) > this.#goneStart
  }

  /** What is left holds no result back: all that closes by the watermark counts as closed. */
  async advance(watermarkMs: number): Promise<Closing | undefined> {
    const { store, context, last } = this.#options
    const start = last(watermarkMs)
    const dropped = await store.deleteRange('', windowKey(start + 1, ''), context.closeRowsMax)
    context.reached('expire-mid')
    if (dropped >= context.closeRowsMax) return { closedMs: watermarkMs, row: '' }
    this.#goneStart = start
    return undefined
  }
}

/**
 * How a view's store rows become flat rows: which range of row keys a query touches, which rows
 * match it, and what a row looks like.
 */
import { rowKeyOfWindow, windowKey, windowStartOf } from '../state/keys.ts'
import type { RowKey, RowRange } from '../state/port.ts'
import type { Timed } from './serde.ts'
import type { ViewNode } from './topology.ts'
import type { RowsQuery, ViewRow } from './views.ts'

export class ViewRows {
  readonly view: ViewNode

  constructor(view: ViewNode) {
    this.view = view
  }

  get #windowed(): boolean {
    return this.view.windowSizeMs !== undefined
  }

  /** The row keys that can hold rows of the query. */
  range(query: Pick<RowsQuery, 'from' | 'to'>): RowRange {
    if (!this.#windowed) return {}
    return {
      ...(query.from === undefined ? {} : { gte: windowKey(Math.max(query.from, 0), '') }),
      ...(query.to === undefined ? {} : { lt: windowKey(Math.max(query.to, 0), '') }),
    }
  }

  /** Fields that tell the row: key fields and window bounds. */
  identity(row: RowKey): Record<string, unknown> {
    const { view } = this
    if (!this.#windowed) return view.keyFields(view.key.decode(row))
    const windowStart = windowStartOf(row)
    const windowEnd = windowStart + view.windowSizeMs!
    return { ...view.keyFields(view.key.decode(rowKeyOfWindow(row))), windowStart, windowEnd }
  }

  /** The flat row, or undefined where the view hides it. */
  row(rowKey: RowKey, stored: unknown, watermarkMs: number): ViewRow | undefined {
    const { view } = this
    const key = view.key.decode(this.#windowed ? rowKeyOfWindow(rowKey) : rowKey)
    const fields = view.project((stored as Timed<unknown>).value, key)
    if (fields === undefined) return undefined
    const identity = this.identity(rowKey)
    if (!this.#windowed) return { ...identity, ...fields }
    const final = (identity.windowEnd as number) + view.graceMs <= watermarkMs
    return { ...identity, final, ...fields }
  }

  /** Windows that close as the watermark moves from `beforeMs` to `afterMs`. */
  closedRange(beforeMs: number, afterMs: number): RowRange | undefined {
    if (!this.#windowed) return undefined
    const reach = this.view.windowSizeMs! + this.view.graceMs
    const last = afterMs - reach
    const first = Math.max(beforeMs - reach + 1, 0)
    if (last < first) return undefined
    return { gte: windowKey(first, ''), lt: windowKey(last + 1, '') }
  }

  matches(row: ViewRow, query: Pick<RowsQuery, 'key' | 'prefix'>): boolean {
    for (const [field, wanted] of Object.entries(query.key)) {
      if (String(row[field]) !== wanted) return false
    }
    const first = this.view.declaration.key[0]
    if (query.prefix === undefined || first === undefined) return true
    return String(row[first.name]).startsWith(query.prefix)
  }
}

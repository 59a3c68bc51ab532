/**
 * How a view's store rows become flat rows: which range of row keys a query touches, which rows
 * match it, and what a row looks like.
 */
import {
  afterPrefix,
  encodeText,
  rowKeyOfWindow,
  sessionOfRow,
  windowKey,
  windowStartOf,
} from '../state/keys.ts'
import type { RowKey, RowRange } from '../state/port.ts'
import { streamsError } from './errors.ts'
import type { Timed } from './serde.ts'
import type { ViewNode } from './topology.ts'
import type { VersionedRow } from './versioned-row.ts'
import type { AsOf, RowsQuery, ViewRow } from './views.ts'

/** What a row is looked at by. */
export interface RowTimes extends AsOf {
  readonly watermarkMs: number
}

interface Bounds {
  readonly windowStart: number
  readonly windowEnd: number
}

export class ViewRows {
  readonly view: ViewNode

  constructor(view: ViewNode) {
    this.view = view
  }

  /** The row keys that can hold rows of the query. */
  range(query: Partial<Pick<RowsQuery, 'from' | 'to' | 'key' | 'prefix'>>): RowRange {
    if (this.view.declaration.kind === 'table') return this.#keyRange(query)
    return {
      ...(query.from === undefined ? {} : { gte: windowKey(Math.max(query.from, 0), '') }),
      ...(query.to === undefined ? {} : { lt: windowKey(Math.max(query.to, 0), '') }),
    }
  }

  /** Rows of a table whose first field is, or begins with, what is asked for. */
  #keyRange({ key, prefix }: Partial<Pick<RowsQuery, 'key' | 'prefix'>>): RowRange {
    const [first] = this.view.declaration.key
    const text = (first && key?.[first.name]) ?? prefix
    // Others may write their keys as they like.
    const isText = /^(text$|fields\()/.test(this.view.key.name)
    if (text === undefined || text === '' || text.includes('\0') || !isText) return {}
    const gte = encodeText(text)
    return { gte, lt: afterPrefix(gte) }
  }

  #parse(row: RowKey): { key: unknown; bounds: Bounds | undefined } {
    const { declaration, key, windowSizeMs } = this.view
    if (declaration.kind === 'table') return { key: key.decode(row), bounds: undefined }
    if (declaration.kind === 'session' || windowSizeMs === undefined) {
      const session = sessionOfRow(row)
      const bounds = { windowStart: session.start, windowEnd: session.end }
      return { key: key.decode(session.key), bounds }
    }
    const windowStart = windowStartOf(row)
    const bounds = { windowStart, windowEnd: windowStart + windowSizeMs }
    return { key: key.decode(rowKeyOfWindow(row)), bounds }
  }

  /**
   * A window is final from its end + grace on, a session after its end + gap + grace, a row with a
   * window of its own when it comes.
   */
  #final({ windowEnd }: Bounds, watermarkMs: number): boolean {
    const { windowSizeMs, gapMs, graceMs } = this.view
    if (windowSizeMs === undefined && gapMs === undefined) return true
    if (gapMs === undefined) return windowEnd + graceMs <= watermarkMs
    return windowEnd + gapMs + graceMs < watermarkMs
  }

  /** Fields that tell the row: key fields and window bounds. */
  identity(row: RowKey): Record<string, unknown> {
    const { key, bounds } = this.#parse(row)
    return { ...this.view.keyFields(key), ...bounds }
  }

  /** Throws QUERY_INVALID where a view without versions is asked as of a time. */
  checkVersioned(asOf: number | undefined): void {
    if (asOf === undefined || this.view.declaration.versioned !== undefined) return
    const reason = `${this.view.declaration.name} is not versioned, it only tells what is now`
    throw streamsError('QUERY_INVALID', { parameter: 'asOf', reason })
  }

  /** Throws HISTORY_GONE where what was then need not be kept any more. */
  checkKept(asOf: number | undefined, watermarkMs: number): void {
    const { name, versioned } = this.view.declaration
    if (asOf === undefined || versioned === undefined) return
    const historyFrom = watermarkMs - versioned.historyMs
    if (asOf < historyFrom) throw streamsError('HISTORY_GONE', { view: name, historyFrom, asOf })
  }

  /** The flat row, as of a time or now; undefined where there is none, or the view hides it. */
  row(rowKey: RowKey, stored: unknown, { watermarkMs, asOf }: RowTimes): ViewRow | undefined {
    const { view } = this
    const { key, bounds } = this.#parse(rowKey)
    const value = this.#value(stored, asOf)
    const fields = value === null ? undefined : view.project(value, key)
    if (fields === undefined) return undefined
    if (bounds === undefined) return { ...view.keyFields(key), ...fields }
    const final = this.#final(bounds, watermarkMs)
    return { ...view.keyFields(key), ...bounds, final, ...fields }
  }

  #value(stored: unknown, asOf: number | undefined): unknown {
    if (this.view.untimed) return stored
    return asOf === undefined
      ? (stored as Timed<unknown>).value
      : (stored as VersionedRow).asOf(asOf)
  }

  /**
   * Windows that close as the watermark moves from `beforeMs` to `afterMs`. Sessions lie in no
   * range by their end; their step writes each row once more when it closes.
   */
  closedRange(beforeMs: number, afterMs: number): RowRange | undefined {
    if (this.view.windowSizeMs === undefined) return undefined
    const reach = this.view.windowSizeMs + this.view.graceMs
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

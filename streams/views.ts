/**
 * Views: what a topology serves. A view is declared once, next to the topology that fills it;
 * routes, OpenAPI, socket feed and dashboard panel come from that declaration.
 */
import type { TObject } from 'typebox'

export type ViewKind = 'table' | 'window' | 'session'

export interface ViewKeyField {
  readonly name: string
  readonly type: 'string' | 'integer'
}

export interface ViewDeclaration {
  readonly name: string
  readonly kind: ViewKind
  readonly description: string
  /** Key fields in order; rows of a window (or of a table) are ordered by them. */
  readonly key: readonly ViewKeyField[]
  /** Schema of the value fields: one property a field. */
  readonly value: TObject
  /** Unit of a value field, where it has one: `ms`, `minor currency units`. */
  readonly units: Readonly<Record<string, string>>
}

/**
 * A flat row: key fields, `windowStart`, `windowEnd` (epoch ms) and `final` where windowed,
 * value fields.
 */
export type ViewRow = Readonly<Record<string, unknown>>

/** Which rows of a view. */
export interface RowsScope {
  /** Exact values of key fields, as text. */
  readonly key: Readonly<Record<string, string>>
  /** Prefix of the first key field. */
  readonly prefix?: string
  /** Windows whose start is in `[from, to)`, epoch ms. */
  readonly from?: number
  readonly to?: number
}

export interface RowsQuery extends RowsScope {
  /** 1 to 1000. */
  readonly limit: number
  readonly cursor?: string
  /** Nobody waits for the rows any more: reading stops with the signal's reason. */
  readonly signal?: AbortSignal
  /**
   * Asked now and then; true ends the page where it is, so that a filter that few of many rows
   * satisfy takes several requests and not one long one. Pages may so be short, even empty:
   * only `next` tells whether there is more.
   */
  readonly enough?: () => boolean
}

export interface RowsPage {
  readonly rows: readonly ViewRow[]
  /** Opaque: the cut of the input that the rows show. */
  readonly position: string
  /** True when the rows of all views, at this position, show one cut of the input (law 17). */
  readonly consistent: boolean
  /** Opaque cursor of the next page; null on the last. */
  readonly next: string | null
}

/** `delete` rows hold the identifying fields only: key fields and window bounds. */
export interface ViewChange {
  readonly op: 'upsert' | 'delete'
  readonly row: ViewRow
}

/** The changes of one committed epoch; a view untouched by it still gets the new position. */
export interface ViewUpdate {
  readonly position: string
  readonly changes: readonly ViewChange[]
  /** The engine began anew and updates may be missing: subscribe again for a snapshot. */
  readonly reset?: boolean
}

export interface ViewSubscription {
  /** The cut at which the subscription began: updates follow it without gap or overlap. */
  readonly position: string
  /** All rows at that cut, in view order. Iterate it once, or return() it. */
  readonly snapshot: AsyncIterable<readonly ViewRow[]>
  close(): void
}

/** Where a task is in its life; `detail` is a sentence for people. */
export type TaskState =
  | 'starting'
  | 'restoring'
  | 'running'
  /** Runs elsewhere; its state is kept here, too. */
  | 'standby'
  | 'draining'
  | 'stopped'
  | 'failed'

export interface TaskStatus {
  readonly task: string
  readonly state: TaskState
  readonly detail: string
}

export interface MetricSample {
  /** Kafka Streams' name where it has a twin, snake_case: `dropped_records_total`. */
  readonly name: string
  readonly help: string
  readonly kind: 'counter' | 'gauge'
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** What serving needs of a running engine. Errors are `MillraceError`s with a catalogue code. */
export interface ViewService {
  views(): readonly ViewDeclaration[]
  rows(view: string, query: RowsQuery): Promise<RowsPage>
  /** One row of a table view by its key (key fields joined by `/` where there are several). */
  row(view: string, key: string): Promise<{ row: ViewRow | undefined; position: string }>
  /**
   * `onUpdate` is called synchronously after each commit: take the update and return. The
   * snapshot may leave out rows outside `scope`, so that a subscriber to the last hour costs
   * no scan of the whole view; updates are always whole.
   */
  subscribe(
    view: string,
    onUpdate: (update: ViewUpdate) => void,
    scope?: RowsScope,
  ): ViewSubscription
  /** The position all views show now. */
  position(): string
  /** Resolves true when the views cover `position`, false when `timeoutMs` has passed. */
  waitFor(position: string, timeoutMs: number): Promise<boolean>
  tasks(): readonly TaskStatus[]
  metrics(): readonly MetricSample[]
}

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

/** A view that answers as of earlier times. */
export interface VersionedView {
  /** Event time before the watermark that can be asked for, ms; Infinity: all of it. */
  readonly historyMs: number
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
  /** Present where rows can be asked for as of a time. */
  readonly versioned?: VersionedView
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

/** How a read waits, and until when. */
export interface Waiting {
  /** A position token: the answer waits until it covers that. */
  readonly covering?: string
  /** How long it waits for that, ms; 0 unless given. */
  readonly timeoutMs?: number
  /** Nobody waits for the answer any more: reading stops with the signal's reason. */
  readonly signal?: AbortSignal
}

/** When a versioned view is looked at. */
export interface AsOf {
  /** Event time, epoch ms: rows are what the records up to it come to; now unless given. */
  readonly asOf?: number
}

export interface RowsQuery extends RowsScope, Waiting, AsOf {
  /** 1 to 1000. */
  readonly limit: number
  readonly cursor?: string
  /**
   * Asked now and then; true ends the page where it is, so that a filter that few of many rows
   * satisfy takes several requests and not one long one. Pages may so be short, even empty:
   * only `next` tells whether there is more.
   */
  readonly enough?: () => boolean
}

export interface RowsPage {
  readonly rows: readonly ViewRow[]
  /** Opaque: the part of the input that the rows show. */
  readonly position: string
  /** True when the rows of all views of its application show one cut of the input (law 17). */
  readonly consistent: boolean
  /** The partitions of the view that the answer covers: all of them. */
  readonly partitions: readonly number[]
  /** Opaque cursor of the next page, good on every instance; null on the last. */
  readonly next: string | null
}

export interface RowAnswer {
  readonly row: ViewRow | undefined
  readonly position: string
  /** The partitions that were looked into: the key can be in no other. */
  readonly partitions: readonly number[]
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
  /**
   * What the snapshot covers: updates follow it without gap. Where the snapshot waits for other
   * instances it is settled when the first rows come.
   */
  readonly position: string
  /** All rows at that cut, in view order. Iterate it once, or return() it. */
  readonly snapshot: AsyncIterable<readonly ViewRow[]>
  close(): void
}

/** One row with its place in the view: rows are ordered by row key, then by partition. */
export interface PartRow {
  readonly key: string
  readonly partition: number
  readonly row: ViewRow
}

/** Rows of some partitions, all of one cut. */
export interface PartPage {
  readonly rows: readonly PartRow[]
  readonly position: string
  /** Rows up to this place are complete; null when all are. */
  readonly next: string | null
}

/** What a lookup of one row asks beside its key. */
export interface RowQuery extends Waiting, AsOf {}

/** Which partitions of a view are asked for. */
export interface PartScope {
  readonly partitions: readonly number[]
}

/** A limit of 0 asks for the position alone. */
export type PartQuery = RowsQuery & PartScope
export type PartRowQuery = RowQuery & PartScope & { readonly key: string }

/** The changes of one commit of one instance. */
export interface PartUpdate extends ViewUpdate {
  /** The partitions that it speaks of; others come and go with a reset. */
  readonly partitions: readonly number[]
}

/**
 * What runs on one instance alone: of this one for the others of its group, of another for this
 * one. It answers for all partitions that it is asked for or throws VIEW_NOT_READY.
 */
export interface PartViews {
  rows(view: string, query: PartQuery): Promise<PartPage>
  row(view: string, query: PartRowQuery): Promise<RowAnswer>
  /**
   * Changes of the view's partitions there, until the result is called. The first update is a
   * reset, and each time that partitions come or go or updates may be missing there is another.
   */
  follow(view: string, onUpdate: (update: PartUpdate) => void): () => void
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

/** A task of one of the applications that a service has. */
export interface ApplicationTask extends TaskStatus {
  readonly application: string
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
  /** Throws VIEW_NOT_READY when a partition is answered for by nobody: never a part of them. */
  rows(view: string, query: RowsQuery): Promise<RowsPage>
  /** One row of a table view by its key (key fields joined by `/` where there are several). */
  row(view: string, key: string, query?: RowQuery): Promise<RowAnswer>
  /**
   * Resolves when all partitions of the view are answered for and cover what is waited for.
   * Throws VIEW_NOT_READY, and POSITION_TIMEOUT after `timeoutMs`.
   */
  ready(view: string, waiting: Waiting): Promise<void>
  /**
   * `onUpdate` is called synchronously after each commit: take the update and return. The
   * snapshot may leave out rows outside `scope`, so that a subscriber to the last hour costs
   * no scan of the whole view, and is empty where `scope` is null; updates are always whole.
   */
  subscribe(
    view: string,
    onUpdate: (update: ViewUpdate) => void,
    scope?: RowsScope | null,
  ): ViewSubscription
  /** The position all views of this instance show now. */
  position(): string
  /** Resolves true when this instance covers `position`, false when `timeoutMs` has passed. */
  waitFor(position: string, timeoutMs: number): Promise<boolean>
  /** What runs on this instance alone: other instances ask for it. */
  readonly local: PartViews
  tasks(): readonly ApplicationTask[]
  metrics(): readonly MetricSample[]
}

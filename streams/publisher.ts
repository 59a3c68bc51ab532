/**
 * Publishes committed epochs: replaces the cut that queries read, sends each view's changes to
 * its subscribers, and wakes readers that wait for a position.
 */
import type { Database, DatabaseReader } from '../log/database.ts'
import { committedRows } from '../state/committed-rows.ts'
import type { Assembly } from './assembly.ts'
import { Cut } from './cut.ts'
import type { CutDescription } from './epoch.ts'
import { assert } from './errors.ts'
import type { Plan } from './plan.ts'
import { storeInDatabase } from './task-parts.ts'
import { ViewRows } from './view-rows.ts'
import type { ViewChange, ViewUpdate } from './views.ts'

/** Is told the cut that the update leads to: several cuts may have one position. */
type Listener = (update: ViewUpdate, cut: Cut) => void

/** Followers get more changes than that as a new snapshot, which is read in parts. */
const CHANGES_MAX = 50_000

export interface PublisherOptions {
  readonly plan: Plan
  readonly database: Database
  /** A subscriber that throws is reported here; the others get their update. */
  readonly onError: (error: unknown) => void
}

export class Publisher {
  readonly #options: PublisherOptions
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #published = new Set<() => void>()
  readonly #rows: ReadonlyMap<string, ViewRows>
  #assembly: Assembly | undefined
  #cut: Cut | undefined
  #cuts = 0
  /** Number of the last cut in which a followed view may have changed, by its name. */
  readonly #changed = new Map<string, number>()

  constructor(options: PublisherOptions) {
    this.#options = options
    this.#rows = new Map(
      options.plan.topology.views.map(view => [view.declaration.name, new ViewRows(view)]),
    )
  }

  /** The committed state that queries see now. Retain it before the next await. */
  get cut(): Cut {
    assert(this.#cut !== undefined, 'an engine that serves has published a cut')
    return this.#cut
  }

  viewRows(name: string): ViewRows | undefined {
    return this.#rows.get(name)
  }

  /** Partitions of a view that are here, for reading it. */
  partitions(view: string): number[] {
    return [...this.cut.watermarks.get(view)!.keys()]
  }

  /** Number of the last cut that may show other rows of the view than the one before. */
  changedAt(view: string): number {
    return this.#changed.get(view) ?? this.cut.number
  }

  /**
   * Starts (again) from what an assembly has restored; followers begin anew, unless it is what has
   * been published (`keepsCut`).
   */
  begin(assembly: Assembly, sealed: CutDescription, { keepsCut = false } = {}): void {
    this.#assembly = assembly
    this.#replace(sealed)
    if (keepsCut) return
    for (const view of this.#listeners.keys()) {
      this.#changed.set(view, this.#cuts)
      this.#deliver(view, { position: sealed.position, changes: [], reset: true })
    }
    for (const wake of [...this.#published]) wake()
  }

  #deliver(view: string, update: ViewUpdate): void {
    for (const listener of [...(this.#listeners.get(view) ?? [])]) {
      try {
        listener(update, this.cut)
      } catch (error) {
        this.#options.onError(error)
      }
    }
  }

  /** Makes a committed epoch visible. `apply` lets the stores forget it. */
  async publish(sealed: CutDescription, apply: () => void): Promise<void> {
    const before = this.cut.retain()
    const changes = this.#sealedChanges(sealed)
    apply()
    this.#replace(sealed)
    for (const [view, list] of changes) {
      if (list.length > 0 || this.#closes(view, before)) this.#changed.set(view, this.#cuts)
    }
    try {
      for (const [view, list] of changes) {
        const { position } = sealed
        const whole = await this.#addClosedWindows(view, before, list)
        this.#deliver(
          view,
          whole ? { position, changes: list } : { position, changes: [], reset: true },
        )
      }
    } finally {
      before.release()
    }
    for (const wake of [...this.#published]) wake()
  }

  #replace(sealed: CutDescription): void {
    const snapshot = this.#options.database.snapshot()
    this.#cut?.release()
    this.#cut = new Cut({ snapshot, number: ++this.#cuts, ...sealed })
  }

  /** The changed rows of each view that somebody follows. */
  #sealedChanges(sealed: CutDescription): Map<string, ViewChange[]> {
    const changes = new Map<string, ViewChange[]>()
    for (const view of this.#listeners.keys()) {
      const rows = this.#rows.get(view)!
      const list: ViewChange[] = []
      for (const [partition, watermarkMs] of sealed.watermarks.get(view)!) {
        const store = this.#assembly!.rowStore<unknown>(rows.view.store, partition)!
        for (const { key, value } of store.sealedChanges()) {
          const row = value === undefined ? undefined : rows.row(key, value, { watermarkMs })
          list.push(row ? { op: 'upsert', row } : { op: 'delete', row: rows.identity(key) })
        }
      }
      changes.set(view, list)
    }
    return changes
  }

  /** The ranges of windows that became final since a cut, by partition. */
  *#closed(view: string, before: Cut) {
    const rows = this.#rows.get(view)!
    for (const [partition, watermarkMs] of this.cut.watermarks.get(view)!) {
      const beforeMs = before.watermarks.get(view)?.get(partition) ?? Number.NEGATIVE_INFINITY
      const range = rows.closedRange(beforeMs, watermarkMs)
      if (range !== undefined) yield { partition, watermarkMs, range }
    }
  }

  #closes(view: string, before: Cut): boolean {
    return this.#closed(view, before).next().done !== true
  }

  /**
   * Adds rows of windows that became final with this epoch and may not have changed in it. False
   * when there are too many.
   */
  async #addClosedWindows(view: string, before: Cut, list: ViewChange[]): Promise<boolean> {
    const rows = this.#rows.get(view)!
    const { snapshot } = this.cut
    for (const { partition, watermarkMs, range } of [...this.#closed(view, before)]) {
      for await (const chunk of this.reader(view, partition, snapshot).scan(range)) {
        for (const { key, value } of chunk) {
          const row = rows.row(key, value, { watermarkMs })
          if (row !== undefined) list.push({ op: 'upsert', row })
        }
        if (list.length > CHANGES_MAX) return false
      }
    }
    return true
  }

  /** The committed rows of one partition of a view. */
  reader(view: string, partition: number, reader: DatabaseReader) {
    const { store, node } = this.#rows.get(view)!.view
    const step = this.#options.plan.topology.nodes[node]
    assert(step?.kind === 'operator', 'a view shows the store of a step')
    const spec = step.stores.find(candidate => candidate.name === store)
    assert(spec?.kind === 'rows', 'a view shows a store of rows')
    const name = storeInDatabase(this.#options.plan.topology.application, store)
    return committedRows({ name, partition, codec: spec.codec, reader })
  }

  subscribe(view: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(view) ?? new Set()
    if (listeners.size === 0) this.#changed.set(view, this.#cuts)
    this.#listeners.set(view, listeners.add(listener))
    return () => {
      listeners.delete(listener)
      if (listeners.size > 0) return
      this.#listeners.delete(view)
      this.#changed.delete(view)
    }
  }

  /** Calls `wake` after every publish until the result is called. */
  onPublished(wake: () => void): () => void {
    this.#published.add(wake)
    return () => this.#published.delete(wake)
  }

  close(): void {
    this.#listeners.clear()
    this.#cut?.release()
    this.#cut = undefined
  }
}

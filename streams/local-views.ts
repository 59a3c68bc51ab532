/**
 * The views of this instance alone, read from published cuts: what it answers for itself and for
 * the other instances. It answers for partitions whose tasks run here, while it is a live member
 * of its group (law 15).
 */
import type { RowKey } from '../state/port.ts'
import type { Cut } from './cut.ts'
import type { Engine } from './engine.ts'
import { streamsError } from './errors.ts'
import type { SubTopology } from './plan.ts'
import { covers, decodePosition, encodePosition, leastOffsets, type Offsets } from './position.ts'
import type { Publisher } from './publisher.ts'
import { decodeCursor, encodeCursor, filterId, mergeRows, type RowPlace } from './row-place.ts'
import { taskName } from './task-parts.ts'
import type { ViewRows } from './view-rows.ts'
import type {
  AsOf,
  PartPage,
  PartQuery,
  PartRow,
  PartRowQuery,
  PartScope,
  PartUpdate,
  PartViews,
  RowAnswer,
  RowsScope,
  ViewRow,
  Waiting,
} from './views.ts'

/** Rows looked at between two questions whether to go on. */
const ROWS_A_LOOK = 256

export interface LocalViewsOptions {
  readonly engine: Engine
  readonly schedule: (task: () => void, delayMs: number) => () => void
  readonly incarnation: string
}

interface CutPart extends PartScope {
  readonly cut: Cut
  readonly mark?: number
}

export class LocalViews implements PartViews {
  readonly #options: LocalViewsOptions

  constructor(options: LocalViewsOptions) {
    this.#options = options
  }

  get #publisher(): Publisher {
    return this.#options.engine.publisher
  }

  /** Throws VIEW_UNKNOWN, and QUERY_INVALID where a view without versions is asked as of a time. */
  checkVersioned(view: string, { asOf }: AsOf): void {
    this.viewRows(view).checkVersioned(asOf)
  }

  /** How the view's rows are read. Throws VIEW_UNKNOWN. */
  viewRows(view: string): ViewRows {
    const rows = this.#publisher.viewRows(view)
    if (rows === undefined) throw streamsError('VIEW_UNKNOWN', { view })
    return rows
  }

  /** The sub-topology whose tasks hold the view: a task for each partition of it. */
  subTopology(view: string): SubTopology {
    const { node } = this.viewRows(view).view
    return this.#options.engine.plan.subTopologies.find(({ nodes }) => nodes.includes(node))!
  }

  /** Why nothing is answered now; undefined while this instance answers. */
  refusal(): string | undefined {
    const { engine } = this.#options
    if (engine.state === 'stopped') return 'this instance has stopped'
    if (!engine.answers) return engine.tasks()[0]?.detail ?? engine.state
    const { membership } = engine
    if (membership === undefined) return undefined
    // Without a target, others may have the tasks already.
    if (membership.alive && membership.target !== undefined) return undefined
    return `this instance is not a live member of its group: ${membership.status.detail}`
  }

  /** Partitions of the view that are answered for here, rising. */
  partitions(view: string): number[] {
    if (this.refusal() !== undefined) return []
    return this.#publisher.partitions(view).sort((a, b) => a - b)
  }

  /** Throws VIEW_NOT_READY unless all these partitions are answered for here. */
  check(view: string, partitions: readonly number[]): void {
    const refusal = this.refusal()
    if (refusal !== undefined) throw streamsError('VIEW_NOT_READY', { view, reason: refusal })
    const here = this.#publisher.partitions(view)
    for (const partition of partitions) {
      if (here.includes(partition)) continue
      const reason = `its partition ${partition} ${this.state(view, partition)}`
      throw streamsError('VIEW_NOT_READY', { view, partition, reason })
    }
  }

  /** What this instance knows of a partition that it does not answer for. */
  state(view: string, partition: number): string {
    const task = taskName({ subTopology: this.subTopology(view), partition })
    const status = this.#options.engine.tasks().find(found => found.task === task)
    return status?.state === 'restoring'
      ? `is restoring on this instance: ${status.detail}`
      : 'is not on this instance'
  }

  /** Others may have written since the cut that is being read. */
  #checkMember(view: string): void {
    if (this.#options.engine.membership !== undefined) this.check(view, [])
  }

  /** What partitions of the view cover in a cut. */
  offsets(view: string, partitions: readonly number[], cut: Cut): Offsets {
    const subTopology = this.subTopology(view)
    return leastOffsets(
      partitions.map(partition => cut.covered(taskName({ subTopology, partition }))),
    )
  }

  /** `mark`: number of the cut, where the position is to tell one state from another. */
  position(view: string, { partitions, cut, mark }: CutPart): string {
    if (cut.consistent && mark === undefined) return cut.position
    const { incarnation } = this.#options
    const offsets = this.offsets(view, partitions, cut)
    return encodePosition({ incarnation, offsets, ...(mark === undefined ? {} : { mark }) })
  }

  /** Number of the last cut that may have changed the view. */
  changedAt(view: string): number {
    return this.#publisher.changedAt(view)
  }

  /** The cut that covers what is waited for, retained: release it. */
  async cut(view: string, { partitions, ...waiting }: PartScope & Waiting): Promise<Cut> {
    this.check(view, partitions)
    if (waiting.covering !== undefined) {
      await this.#covered(view, { partitions, ...waiting })
      this.check(view, partitions)
    }
    waiting.signal?.throwIfAborted()
    return this.#publisher.cut.retain()
  }

  async #covered(view: string, waiting: PartScope & Waiting): Promise<void> {
    const { partitions, covering = '', timeoutMs = 0, signal } = waiting
    const { incarnation, schedule } = this.#options
    const wanted = decodePosition(covering)
    if (wanted.incarnation !== incarnation) throw streamsError('POSITION_LOST')
    const reached = () =>
      covers(this.offsets(view, partitions, this.#publisher.cut), wanted.offsets)
    if (reached()) return
    const stops: (() => void)[] = []
    const waited = new Promise<void>((resolve, reject) => {
      const look = () => {
        try {
          this.check(view, partitions)
          if (reached()) resolve()
          return true
        } catch (error) {
          reject(error as Error)
          return false
        }
      }
      const late = () => {
        if (!look()) return
        const position = this.position(view, { partitions, cut: this.#publisher.cut })
        reject(streamsError('POSITION_TIMEOUT', { timeoutMs, required: covering, position }))
      }
      const leave = () => reject(signal!.reason)
      stops.push(this.#publisher.onPublished(look), schedule(late, timeoutMs))
      signal?.addEventListener('abort', leave)
      stops.push(() => signal?.removeEventListener('abort', leave))
    })
    await waited.finally(() => {
      for (const stop of stops) stop()
    })
  }

  async rows(view: string, query: PartQuery): Promise<PartPage> {
    this.checkVersioned(view, query)
    const { partitions } = query
    const cut = await this.cut(view, query)
    try {
      const mark = this.#publisher.changedAt(view)
      const position = this.position(view, { partitions, cut, mark })
      return { ...(await this.page(view, query, cut)), position }
    } finally {
      cut.release()
    }
  }

  /** A page of these partitions from a cut. */
  async page(view: string, query: PartQuery, cut: Cut): Promise<Omit<PartPage, 'position'>> {
    const filters = filterId(view, query)
    const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, filters)
    if (query.limit === 0) return { rows: [], next: null }
    const rows = this.viewRows(view)
    const found: PartRow[] = []
    let looked = 0
    let last: RowPlace | undefined
    for await (const next of this.#read(rows, {
      cut,
      query,
      partitions: query.partitions,
      after,
    })) {
      if (rows.matches(next.row, query)) found.push(next)
      if (found.length > query.limit) break
      if (++looked % ROWS_A_LOOK > 0) continue
      query.signal?.throwIfAborted()
      if (!query.enough?.()) continue
      last = next
      break
    }
    const page = found.slice(0, query.limit)
    if (found.length > query.limit) last = page.at(-1)!
    this.#checkMember(view)
    return { rows: page, next: last === undefined ? null : encodeCursor(last, filters) }
  }

  /** All rows of the range in view order, after a place. */
  #read(
    rows: ViewRows,
    options: {
      readonly cut: Cut
      readonly query: Partial<RowsScope> & AsOf
      readonly partitions: readonly number[]
      readonly after?: RowPlace | undefined
    },
  ): AsyncGenerator<PartRow> {
    const { cut, query, partitions, after } = options
    const view = rows.view.declaration.name
    const range = rows.range(query)
    const { asOf } = query
    for (const partition of partitions) rows.checkKept(asOf, watermarkOf(cut, view, partition))
    const from = (partition: number): RowKey | undefined => {
      if (after === undefined) return range.gte
      return partition <= after.partition ? `${after.key}\0` : after.key
    }
    const publisher = this.#publisher
    async function* partitionRows(partition: number): AsyncGenerator<PartRow> {
      const watermarkMs = watermarkOf(cut, view, partition)
      const gte = from(partition)
      const reader = publisher.reader(view, partition, cut.snapshot)
      const bounds = gte === undefined ? range : { ...range, gte }
      for await (const chunk of reader.scan(bounds)) {
        for (const { key, value } of chunk) {
          const row = rows.row(key, value, { watermarkMs, asOf })
          if (row !== undefined) yield { key, partition, row }
        }
      }
    }
    return mergeRows(partitions.map(partitionRows))
  }

  async row(view: string, query: PartRowQuery): Promise<RowAnswer> {
    this.checkVersioned(view, query)
    const { partitions } = query
    const cut = await this.cut(view, query)
    try {
      const position = this.position(view, { partitions, cut })
      const row = await this.find(view, query, cut)
      this.#checkMember(view)
      return { row, position, partitions }
    } finally {
      cut.release()
    }
  }

  /** The row of a key in the first of these partitions that has it. */
  async find(view: string, query: PartScope & AsOf & { key: string }, cut: Cut) {
    const rows = this.viewRows(view)
    const key = this.rowKey(view, query.key)
    if (key === undefined) return undefined
    const { asOf } = query
    for (const partition of query.partitions) {
      const watermarkMs = watermarkOf(cut, view, partition)
      rows.checkKept(asOf, watermarkMs)
      const reader = this.#publisher.reader(view, partition, cut.snapshot)
      const [stored] = await reader.getMany([key])
      const row = stored === undefined ? undefined : rows.row(key, stored, { watermarkMs, asOf })
      if (row !== undefined) return row
    }
    return undefined
  }

  /** The row key of a table view's key; undefined where no row can have it. */
  rowKey(view: string, key: string): RowKey | undefined {
    const { declaration, key: serde } = this.viewRows(view).view
    if (declaration.kind !== 'table') {
      const reason = `${view} is a view of windows: ask for its rows with from, to and key filters`
      throw streamsError('QUERY_INVALID', { parameter: 'key', reason })
    }
    const names = declaration.key.map(({ name }) => name)
    if (names.length === 1) return serde.encode(key)
    const parts = key.split('/')
    if (parts.length !== names.length) return undefined
    return serde.encode(Object.fromEntries(names.map((name, i) => [name, parts[i]])))
  }

  /** The rows of a cut in chunks of about so many. */
  async *chunks(
    view: string,
    options: { cut: Cut; scope: RowsScope; partitions: readonly number[]; chunkRows: number },
  ): AsyncGenerator<readonly ViewRow[]> {
    const { cut, scope: query, partitions, chunkRows } = options
    let chunk: ViewRow[] = []
    for await (const { row } of this.#read(this.viewRows(view), { cut, query, partitions })) {
      chunk.push(row)
      if (chunk.length < chunkRows) continue
      yield chunk
      chunk = []
    }
    if (chunk.length > 0) yield chunk
  }

  follow(view: string, onUpdate: (update: PartUpdate) => void): () => void {
    let partitions: readonly number[] = []
    const { incarnation } = this.#options
    const position = () => {
      if (partitions.length === 0) return encodePosition({ incarnation, offsets: {}, mark: 0 })
      const { cut } = this.#publisher
      return this.position(view, { partitions, cut, mark: cut.number })
    }
    const begin = () => {
      partitions = this.partitions(view)
      onUpdate({ position: position(), partitions, changes: [], reset: true })
    }
    const stop = this.#publisher.subscribe(view, ({ changes, reset }) => {
      if (reset) begin()
      else if (partitions.length > 0) onUpdate({ position: position(), partitions, changes })
    })
    // Fenced, or no longer: nothing need be committed for that.
    const unwatch = this.#options.engine.membership?.onChange(() => {
      if (this.partitions(view).join() !== partitions.join()) begin()
    })
    begin()
    return () => {
      stop()
      unwatch?.()
    }
  }
}

function watermarkOf(cut: Cut, view: string, partition: number): number {
  return cut.watermarks.get(view)!.get(partition)!
}

/** Answers queries and subscriptions over the published cuts: the engine's `ViewService`. */
import type { RowKey } from '../state/port.ts'
import type { Cut } from './cut.ts'
import type { Engine } from './engine.ts'
import { streamsError } from './errors.ts'
import { engineMetrics } from './metrics.ts'
import { covers, decodePosition } from './position.ts'
import type { Publisher } from './publisher.ts'
import type { ViewRows } from './view-rows.ts'
import type {
  MetricSample,
  RowsPage,
  RowsQuery,
  RowsScope,
  TaskStatus,
  ViewDeclaration,
  ViewRow,
  ViewService,
  ViewSubscription,
  ViewUpdate,
} from './views.ts'

/** Rows looked at between two questions whether to go on. */
const ROWS_A_LOOK = 256
/** Rows of a subscription's snapshot handed over at once. */
const SNAPSHOT_ROWS = 500

export interface ViewServiceOptions {
  readonly engine: Engine
  readonly schedule: (task: () => void, delayMs: number) => () => void
  readonly incarnation: string
}

interface FoundRow {
  readonly key: RowKey
  readonly row: ViewRow
}

/** A view service that also answers for this instance alone. */
export interface InstanceViews extends ViewService {
  /** As `rows`, of the partitions that run here. */
  localRows(view: string, query: RowsQuery): Promise<RowsPage>
}

export function viewService(options: ViewServiceOptions): InstanceViews {
  return new EngineViews(options)
}

class EngineViews implements InstanceViews {
  readonly #options: ViewServiceOptions

  constructor(options: ViewServiceOptions) {
    this.#options = options
  }

  get #publisher(): Publisher {
    return this.#options.engine.publisher
  }

  views(): readonly ViewDeclaration[] {
    return this.#options.engine.topology.views.map(view => view.declaration)
  }

  #ready(view: string): ViewRows {
    const rows = this.#publisher.viewRows(view)
    if (rows === undefined) throw streamsError('VIEW_UNKNOWN', { view })
    const { state } = this.#options.engine
    if (state !== 'running' && state !== 'draining') {
      const [task] = this.#options.engine.tasks()
      throw streamsError('VIEW_NOT_READY', { view, reason: task?.detail ?? state })
    }
    return rows
  }

  /** The view's partitions that run elsewhere or nowhere make an answer incomplete. */
  #complete(view: string): ViewRows {
    const rows = this.#ready(view)
    const { plan } = this.#options.engine
    const { partitions } = plan.subTopologies.find(({ nodes }) => nodes.includes(rows.view.node))!
    const here = new Set(this.#publisher.partitions(view))
    for (let partition = 0; partition < partitions; partition++) {
      if (here.has(partition)) continue
      const reason = `its partition ${partition} is not on this instance`
      throw streamsError('VIEW_NOT_READY', { view, reason })
    }
    return rows
  }

  rows(view: string, query: RowsQuery): Promise<RowsPage> {
    return this.#page(this.#complete(view), query)
  }

  localRows(view: string, query: RowsQuery): Promise<RowsPage> {
    return this.#page(this.#ready(view), query)
  }

  async #page(rows: ViewRows, query: RowsQuery): Promise<RowsPage> {
    const view = rows.view.declaration.name
    const filters = filterId(view, query)
    const after = query.cursor === undefined ? undefined : decodeCursor(query.cursor, filters)
    const cut = this.#publisher.cut.retain()
    try {
      const found: FoundRow[] = []
      let looked = 0
      let last: RowKey | undefined
      for await (const next of this.#read(rows, { cut, query, after })) {
        if (rows.matches(next.row, query)) found.push(next)
        if (found.length > query.limit) break
        if (++looked % ROWS_A_LOOK > 0) continue
        query.signal?.throwIfAborted()
        if (!query.enough?.()) continue
        last = next.key
        break
      }
      const page = found.slice(0, query.limit)
      if (found.length > query.limit) last = page.at(-1)!.key
      return {
        rows: page.map(({ row }) => row),
        position: cut.position,
        consistent: cut.consistent,
        next: last === undefined ? null : encodeCursor(last, filters),
      }
    } finally {
      cut.release()
    }
  }

  /** All rows of the range in view order, over all partitions, after a row key. */
  async *#read(
    rows: ViewRows,
    options: { cut: Cut; query: Pick<RowsQuery, 'from' | 'to'>; after?: RowKey },
  ): AsyncGenerator<FoundRow> {
    const { cut, query, after } = options
    const view = rows.view.declaration.name
    const range = rows.range(query)
    const marks = cut.watermarks.get(view)!
    const gte = after === undefined ? range.gte : `${after}\0`
    const times = [...marks.values()]
    const sources = [...marks.keys()].map(partition =>
      flatten(this.#publisher.reader(view, partition, cut.snapshot).scan({ ...range, gte })),
    )
    for await (const { key, value, source } of mergeByKey(sources)) {
      const row = rows.row(key, value, times[source]!)
      if (row !== undefined) yield { key, row }
    }
  }

  async row(view: string, key: string): Promise<{ row: ViewRow | undefined; position: string }> {
    const rows = this.#complete(view)
    const { declaration } = rows.view
    if (declaration.kind !== 'table') {
      const reason = `${view} is a view of windows: ask for its rows with from, to and key filters`
      throw streamsError('QUERY_INVALID', { parameter: 'key', reason })
    }
    const parts = declaration.key.length === 1 ? [key] : key.split('/')
    const fields = Object.fromEntries(declaration.key.map(({ name }, i) => [name, parts[i]]))
    const encoded = rows.view.key.encode(
      declaration.key.length === 1 ? key : (fields as unknown as never),
    )
    const cut = this.#publisher.cut.retain()
    try {
      for (const partition of this.#publisher.partitions(view)) {
        const reader = this.#publisher.reader(view, partition, cut.snapshot)
        const [stored] = await reader.getMany([encoded])
        const row = stored === undefined ? undefined : rows.row(encoded, stored, 0)
        if (row !== undefined) return { row, position: cut.position }
      }
      return { row: undefined, position: cut.position }
    } finally {
      cut.release()
    }
  }

  subscribe(
    view: string,
    onUpdate: (update: ViewUpdate) => void,
    scope: RowsScope = { key: {} },
  ): ViewSubscription {
    const rows = this.#complete(view)
    const cut = this.#publisher.cut.retain()
    let released = false
    const release = () => {
      if (!released) cut.release()
      released = true
    }
    const stop = this.#publisher.subscribe(view, (update, next) => {
      // An update that was being delivered when the cut was taken is in it already.
      if (next !== cut || update.reset) onUpdate(update)
    })
    const read = () => this.#read(rows, { cut, query: scope })
    async function* snapshot(): AsyncGenerator<readonly ViewRow[]> {
      try {
        let chunk: ViewRow[] = []
        for await (const { row } of read()) {
          chunk.push(row)
          if (chunk.length < SNAPSHOT_ROWS) continue
          yield chunk
          chunk = []
        }
        if (chunk.length > 0) yield chunk
      } finally {
        release()
      }
    }
    return {
      position: cut.position,
      snapshot: snapshot(),
      close: () => {
        stop()
        release()
      },
    }
  }

  position(): string {
    return this.#publisher.cut.position
  }

  waitFor(position: string, timeoutMs: number): Promise<boolean> {
    const wanted = decodePosition(position)
    if (wanted.incarnation !== this.#options.incarnation) throw streamsError('POSITION_LOST')
    const reached = () => covers(this.#publisher.cut.offsets, wanted.offsets)
    if (reached()) return Promise.resolve(true)
    return new Promise(resolve => {
      const settle = (result: boolean) => {
        cancel()
        stop()
        resolve(result)
      }
      const stop = this.#publisher.onPublished(() => {
        if (reached()) settle(true)
      })
      const cancel = this.#options.schedule(() => settle(reached()), timeoutMs)
    })
  }

  tasks(): readonly TaskStatus[] {
    return this.#options.engine.tasks()
  }

  metrics(): readonly MetricSample[] {
    return engineMetrics(this.#options.engine)
  }
}

/** What a cursor belongs to: another filter's cursor would skip or repeat rows. */
function filterId(view: string, { key, prefix, from, to }: RowsQuery): string {
  return JSON.stringify([
    view,
    Object.entries(key).sort(),
    prefix ?? null,
    from ?? null,
    to ?? null,
  ])
}

function encodeCursor(key: RowKey, filters: string): string {
  return Buffer.from(JSON.stringify([key, filters])).toString('base64url')
}

function decodeCursor(cursor: string, filters: string): RowKey {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString())
    const [key, given] = parts as [unknown, unknown]
    if (typeof key === 'string' && given === filters) return key
  } catch {
    // Reported below, as any other cursor that is not ours.
  }
  throw streamsError('CURSOR_INVALID')
}

interface StoredRow {
  readonly key: RowKey
  readonly value: unknown
}

async function* flatten(chunks: AsyncIterable<readonly StoredRow[]>): AsyncGenerator<StoredRow> {
  for await (const chunk of chunks) yield* chunk
}

/** Merges sorted sources; few of them, so the smallest head is found by looking at all. */
async function* mergeByKey(
  sources: AsyncGenerator<StoredRow>[],
): AsyncGenerator<StoredRow & { source: number }> {
  try {
    const heads = await Promise.all(sources.map(source => source.next()))
    for (;;) {
      let least = -1
      heads.forEach((head, i) => {
        if (head.done) return
        if (least < 0 || head.value.key < (heads[least]!.value as StoredRow).key) least = i
      })
      if (least < 0) return
      const { key, value } = heads[least]!.value as StoredRow
      yield { key, value, source: least }
      heads[least] = await sources[least]!.next()
    }
  } finally {
    await Promise.all(sources.map(source => source.return(undefined)))
  }
}

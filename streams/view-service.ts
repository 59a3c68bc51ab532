/**
 * Answers queries and subscriptions over the published cuts: the engine's `ViewService`. Of a
 * view whose partitions are spread over instances it asks those that have them.
 */
import type { Engine } from './engine.ts'
import { assert, streamsError } from './errors.ts'
import { LocalViews } from './local-views.ts'
import { MergedFeed, SNAPSHOT_ROWS } from './merged-feed.ts'
import { engineMetrics } from './metrics.ts'
import { type InstanceTasks, Placement } from './placement.ts'
import { covers, decodePosition } from './position.ts'
import type { Publisher } from './publisher.ts'
import type { RemoteViews } from './remote-views.ts'
import { RoutedReads } from './routed-reads.ts'
import type {
  ApplicationTask,
  MetricSample,
  PartQuery,
  PartViews,
  RowAnswer,
  RowQuery,
  RowsPage,
  RowsQuery,
  RowsScope,
  ViewDeclaration,
  ViewRow,
  ViewService,
  ViewSubscription,
  ViewUpdate,
  Waiting,
} from './views.ts'

export interface ViewServiceOptions {
  readonly engine: Engine
  readonly schedule: (task: () => void, delayMs: number) => () => void
  readonly incarnation: string
  /** The other instances; without them only views that are here whole are answered. */
  readonly remote?: RemoteViews
  /** Needed with `remote`. */
  readonly clock?: () => number
}

/** A view service that also knows where tasks are. */
export interface InstanceViews extends ViewService {
  /** As `rows`, of the partitions that run here. */
  localRows(view: string, query: RowsQuery): Promise<RowsPage>
  /** All instances of the group with their tasks, this one first. */
  instances(): readonly InstanceTasks[]
}

export function viewService(options: ViewServiceOptions): InstanceViews {
  return new EngineViews(options)
}

class EngineViews implements InstanceViews {
  readonly local: PartViews
  readonly #options: ViewServiceOptions
  readonly #local: LocalViews
  readonly #placement: Placement
  /** Absent without other instances. */
  readonly #reads: RoutedReads | undefined
  readonly #feeds = new Map<string, MergedFeed>()

  constructor(options: ViewServiceOptions) {
    const { engine, remote, clock } = options
    this.#options = options
    this.#local = new LocalViews(options)
    this.local = this.#local
    this.#placement = new Placement(engine, this.#local, remote?.self)
    if (remote === undefined) return
    assert(clock !== undefined, 'asking other instances takes a clock')
    const local = this.#local
    this.#reads = new RoutedReads({ ...options, remote, clock, local, placement: this.#placement })
  }

  get #publisher(): Publisher {
    return this.#options.engine.publisher
  }

  views(): readonly ViewDeclaration[] {
    return this.#options.engine.topology.views.map(view => view.declaration)
  }

  /** Partitions to be read here: all of them, or undefined where others are to be asked. */
  #here(view: string): number[] | undefined {
    const all = this.#placement.partitions(view)
    if (this.#reads === undefined || this.#local.partitions(view).length === all.length) return all
    return undefined
  }

  async rows(view: string, query: RowsQuery): Promise<RowsPage> {
    this.#local.checkVersioned(view, query)
    const partitions = this.#here(view)
    if (partitions === undefined) return this.#reads!.rows(view, query)
    return this.#page(view, { ...query, partitions })
  }

  localRows(view: string, query: RowsQuery): Promise<RowsPage> {
    this.#local.checkVersioned(view, query)
    this.#local.check(view, [])
    return this.#page(view, { ...query, partitions: this.#local.partitions(view) })
  }

  async #page(view: string, query: PartQuery): Promise<RowsPage> {
    const { partitions } = query
    const cut = await this.#local.cut(view, query)
    try {
      const { rows, next } = await this.#local.page(view, query, cut)
      return {
        rows: rows.map(({ row }) => row),
        position: this.#local.position(view, { partitions, cut }),
        consistent: cut.consistent,
        partitions,
        next,
      }
    } finally {
      cut.release()
    }
  }

  async row(view: string, key: string, query: RowQuery = {}): Promise<RowAnswer> {
    this.#local.checkVersioned(view, query)
    this.#local.rowKey(view, key)
    const partitions = this.#here(view)
    if (partitions === undefined) return this.#reads!.row(view, key, query)
    return this.#local.row(view, { ...query, key, partitions })
  }

  async ready(view: string, waiting: Waiting): Promise<void> {
    const partitions = this.#here(view)
    if (partitions === undefined) return this.#reads!.ready(view, waiting)
    const cut = await this.#local.cut(view, { ...waiting, partitions })
    cut.release()
  }

  subscribe(
    view: string,
    onUpdate: (update: ViewUpdate) => void,
    scope: RowsScope | null = { key: {} },
  ): ViewSubscription {
    this.#local.viewRows(view)
    if (this.#reads !== undefined) return this.#feed(view).subscribe(onUpdate, scope)
    const partitions = this.#placement.partitions(view)
    this.#local.check(view, partitions)
    const local = this.#local
    const cut = this.#publisher.cut.retain()
    let begun = scope === null
    let released = false
    const release = () => {
      if (!released) cut.release()
      released = true
    }
    const stop = this.#publisher.subscribe(view, (update, next) => {
      // An update that was being delivered when the cut was taken is in it already.
      if (next === cut && !update.reset) return
      onUpdate({ ...update, position: local.position(view, { partitions, cut: next }) })
    })
    async function* snapshot(): AsyncGenerator<readonly ViewRow[]> {
      if (begun || scope === null) return
      begun = true
      try {
        yield* local.chunks(view, { cut, scope, partitions, chunkRows: SNAPSHOT_ROWS })
      } finally {
        release()
      }
    }
    if (scope === null) release()
    return {
      position: local.position(view, { partitions, cut }),
      snapshot: snapshot(),
      close: () => {
        stop()
        // Rows that are being read keep their cut until they are left.
        if (!begun) release()
        begun = true
      },
    }
  }

  /** The feed of a view that may be spread, shared by its subscribers. */
  #feed(view: string): MergedFeed {
    const { engine, remote } = this.#options
    const feed =
      this.#feeds.get(view) ??
      new MergedFeed({
        ...this.#options,
        view,
        remote: remote!,
        local: this.#local,
        placement: this.#placement,
        onPlacement: listener => engine.membership?.onChange(listener) ?? (() => {}),
      })
    this.#feeds.set(view, feed)
    return feed
  }

  instances(): readonly InstanceTasks[] {
    return this.#placement.instances()
  }

  position(): string {
    return this.#publisher.cut.position
  }

  waitFor(position: string, timeoutMs: number): Promise<boolean> {
    const wanted = decodePosition(position)
    if (wanted.incarnation !== this.#options.incarnation) throw streamsError('POSITION_LOST')
    const { engine } = this.#options
    const reached = () =>
      engine.state !== 'stopped' && covers(this.#publisher.cut.offsets, wanted.offsets)
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

  tasks(): readonly ApplicationTask[] {
    const { engine } = this.#options
    return engine.tasks().map(task => ({ application: engine.topology.application, ...task }))
  }

  metrics(): readonly MetricSample[] {
    const { engine } = this.#options
    const { application } = engine.topology
    const samples = [...engineMetrics(engine), ...(this.#reads?.metrics() ?? [])]
    return samples.map(sample => ({ ...sample, labels: { application, ...sample.labels } }))
  }
}

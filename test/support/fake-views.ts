/**
 * A view service in memory, driven by tests: commits are epochs, positions count them. It
 * keeps the promises of `streams/views.ts`: snapshots are one cut, updates follow without gap.
 */
import { assert, streamsError } from '../../streams/errors.ts'
import type {
  ApplicationTask,
  MetricSample,
  PartViews,
  RowsPage,
  RowsQuery,
  RowsScope,
  ViewChange,
  ViewDeclaration,
  ViewRow,
  ViewService,
  ViewSubscription,
  ViewUpdate,
  Waiting,
} from '../../streams/views.ts'

interface Waiter {
  readonly epoch: number
  readonly settle: (covered: boolean) => void
}

export class FakeViews implements ViewService {
  metricSamples: MetricSample[] = []
  taskStates: ApplicationTask[] = [
    { application: 'shop', task: 'main', state: 'running', detail: 'It runs.' },
  ]
  /** Rows a snapshot chunk. */
  chunkRows = 100
  /** Snapshots being read: 0 when nothing leaks. */
  snapshotsOpen = 0
  subscribers = 0
  /** Set to make every read answer 503. */
  notReady: string | undefined

  /** Awaited by every query, with its signal. */
  reading: ((signal: AbortSignal | undefined) => Promise<void>) | undefined

  private epoch = 0
  private readonly declarations: readonly ViewDeclaration[]
  private readonly incarnation: string
  /** View → sorted rows; a new array a commit, so that snapshots keep theirs. */
  private readonly tables = new Map<string, readonly ViewRow[]>()
  private readonly listeners = new Map<string, Set<(update: ViewUpdate) => void>>()
  private readonly waiters = new Set<Waiter>()
  private readonly schedule: (run: () => void, delayMs: number) => () => void

  constructor(
    declarations: readonly ViewDeclaration[],
    options: {
      readonly incarnation?: string
      readonly schedule?: (run: () => void, delayMs: number) => () => void
    } = {},
  ) {
    this.declarations = declarations
    this.incarnation = options.incarnation ?? 'a'
    this.schedule = options.schedule ?? timers
    for (const { name } of declarations) {
      this.tables.set(name, [])
      this.listeners.set(name, new Set())
    }
  }

  /** One epoch: changes a view; every other view gets the position alone. */
  commit(changes: Readonly<Record<string, readonly ViewChange[]>> = {}): string {
    this.epoch++
    const position = this.position()
    for (const [name, list] of Object.entries(changes)) this.apply(name, list)
    for (const [name, listeners] of this.listeners) {
      const update = { position, changes: changes[name] ?? [] }
      for (const listener of [...listeners]) listener(update)
    }
    for (const waiter of [...this.waiters]) {
      if (waiter.epoch <= this.epoch) waiter.settle(true)
    }
    return position
  }

  /** As `commit`, at the position of the last: no input caused it. */
  commitInPlace(changes: Readonly<Record<string, readonly ViewChange[]>>): void {
    this.epoch--
    this.commit(changes)
  }

  /** One epoch that upserts rows of one view. */
  put(view: string, ...rows: ViewRow[]): string {
    return this.commit({ [view]: rows.map(row => ({ op: 'upsert', row })) })
  }

  private apply(name: string, changes: readonly ViewChange[]): void {
    const view = this.declared(name)
    const rows = new Map(this.tables.get(name)!.map(row => [identity(view, row), row]))
    for (const { op, row } of changes) {
      if (op === 'upsert') rows.set(identity(view, row), row)
      else rows.delete(identity(view, row))
    }
    this.tables.set(
      name,
      [...rows.values()].sort((a, b) => compareRows(view, a, b)),
    )
  }

  views(): readonly ViewDeclaration[] {
    return this.declarations
  }

  position(): string {
    return this.token(this.epoch)
  }

  /** The token of an epoch that may not have come yet. */
  token(epoch: number): string {
    return `${this.incarnation}-${String(epoch).padStart(8, '0')}`
  }

  async rows(name: string, query: RowsQuery): Promise<RowsPage> {
    const view = this.declared(name)
    const { limit, cursor, signal, enough, covering: _, timeoutMs: _ms, ...filter } = query
    await this.reading?.(signal)
    const page = { position: this.position(), consistent: true, partitions: [0] }
    if (enough?.()) return { ...page, rows: [], next: 'more' }
    const rows = this.tables.get(name)!.filter(row => matches(view, row, filter))
    const scope = `${name} ${JSON.stringify(filter)}`
    let start = 0
    if (cursor !== undefined) {
      const [cursorScope, last] = decodeCursor(cursor)
      if (cursorScope !== scope) throw streamsError('CURSOR_INVALID')
      start = rows.findIndex(row => compareRows(view, row, last) > 0)
      if (start < 0) start = rows.length
    }
    const shown = rows.slice(start, start + limit)
    const more = start + limit < rows.length
    const next = more ? encodeCursor([scope, shown.at(-1)!]) : null
    return { ...page, rows: shown, next }
  }

  async row(name: string, key: string, waiting: Waiting = {}) {
    const view = this.declared(name)
    await this.ready(name, waiting)
    const row = this.tables
      .get(name)!
      .find(candidate => view.key.map(field => candidate[field.name]).join('/') === key)
    return { row, position: this.position(), partitions: [0] }
  }

  async ready(_view: string, { covering, timeoutMs = 0 }: Waiting): Promise<void> {
    if (covering === undefined || (await this.waitFor(covering, timeoutMs))) return
    const position = this.position()
    throw streamsError('POSITION_TIMEOUT', { timeoutMs, required: covering, position })
  }

  /** One partition, 0; asked for another, it is not here. */
  readonly local: PartViews = {
    rows: async (view, { partitions, ...query }) => {
      this.checkPartitions(view, partitions)
      await this.ready(view, query)
      const { rows, position, next } = await this.rows(view, query)
      const part = rows.map((row, i) => ({ key: String(i).padStart(8), partition: 0, row }))
      return { rows: part, position, next }
    },
    row: async (view, { partitions, key, ...waiting }) => {
      this.checkPartitions(view, partitions)
      return this.row(view, key, waiting)
    },
    follow: (view, onUpdate) => {
      const partitions = [0]
      const { position, close } = this.subscribe(view, update => {
        onUpdate({ ...update, partitions })
      })
      onUpdate({ position, partitions, changes: [], reset: true })
      return close
    },
  }

  private checkPartitions(view: string, partitions: readonly number[]): void {
    const missing = partitions.find(partition => partition !== 0)
    if (missing === undefined) return
    const reason = `its partition ${missing} is not on this instance`
    throw streamsError('VIEW_NOT_READY', { view, reason, partition: missing })
  }

  /** The engine begins anew, as after an epoch that failed. */
  reset(): void {
    this.epoch++
    const update = { position: this.position(), changes: [], reset: true }
    for (const listeners of this.listeners.values()) {
      for (const listener of [...listeners]) listener(update)
    }
  }

  subscribe(
    name: string,
    onUpdate: (update: ViewUpdate) => void,
    scope: RowsScope | null = { key: {} },
  ): ViewSubscription {
    const view = this.declared(name)
    const listeners = this.listeners.get(name)!
    const listener = (update: ViewUpdate) => onUpdate(update)
    listeners.add(listener)
    this.subscribers++
    const all = scope === null ? [] : this.tables.get(name)!
    const rows = all.filter(row => matches(view, row, scope!))
    return {
      position: this.position(),
      snapshot: this.snapshot(rows),
      close: () => {
        if (listeners.delete(listener)) this.subscribers--
      },
    }
  }

  private async *snapshot(rows: readonly ViewRow[]): AsyncGenerator<readonly ViewRow[]> {
    this.snapshotsOpen++
    try {
      for (let start = 0; start < rows.length; start += this.chunkRows) {
        await undefined
        yield rows.slice(start, start + this.chunkRows)
      }
    } finally {
      this.snapshotsOpen--
    }
  }

  waitFor(position: string, timeoutMs: number): Promise<boolean> {
    const match = /^(\w+)-(\d{8})$/.exec(position)
    if (match === null) return Promise.reject(streamsError('POSITION_INVALID'))
    if (match[1] !== this.incarnation) return Promise.reject(streamsError('POSITION_LOST'))
    const epoch = Number(match[2])
    if (epoch <= this.epoch) return Promise.resolve(true)
    return new Promise(resolve => {
      const cancel = this.schedule(() => waiter.settle(false), timeoutMs)
      const waiter: Waiter = {
        epoch,
        settle: covered => {
          cancel()
          this.waiters.delete(waiter)
          resolve(covered)
        },
      }
      this.waiters.add(waiter)
    })
  }

  tasks(): readonly ApplicationTask[] {
    return this.taskStates
  }

  metrics(): readonly MetricSample[] {
    return this.metricSamples
  }

  private declared(name: string): ViewDeclaration {
    const view = this.declarations.find(declared => declared.name === name)
    if (view === undefined) throw streamsError('VIEW_UNKNOWN', { view: name })
    if (this.notReady === undefined) return view
    throw streamsError('VIEW_NOT_READY', { view: name, reason: this.notReady })
  }
}

function timers(run: () => void, delayMs: number): () => void {
  const timer = setTimeout(run, delayMs)
  return () => clearTimeout(timer)
}

function identity(view: ViewDeclaration, row: ViewRow): string {
  return JSON.stringify([
    ...view.key.map(field => row[field.name]),
    ...(view.kind === 'table' ? [] : [row.windowStart, row.windowEnd]),
  ])
}

function compareRows(view: ViewDeclaration, a: ViewRow, b: ViewRow): number {
  const fields = view.key.map(field => field.name)
  const order = view.kind === 'table' ? fields : ['windowStart', ...fields, 'windowEnd']
  for (const field of order) {
    const [x, y] = [a[field] as string | number, b[field] as string | number]
    if (x !== y) return x < y ? -1 : 1
  }
  return 0
}

function matches(view: ViewDeclaration, row: ViewRow, filter: RowsScope): boolean {
  for (const [field, value] of Object.entries(filter.key)) {
    if (String(row[field]) !== value) return false
  }
  const first = String(row[view.key[0]?.name ?? ''])
  if (filter.prefix !== undefined && !first.startsWith(filter.prefix)) return false
  const start = row.windowStart as number
  if (filter.from !== undefined && start < filter.from) return false
  return filter.to === undefined || start < filter.to
}

function encodeCursor(cursor: readonly [string, ViewRow]): string {
  return Buffer.from(JSON.stringify(cursor)).toString('base64url')
}

function decodeCursor(text: string): [string, ViewRow] {
  try {
    const cursor = JSON.parse(Buffer.from(text, 'base64url').toString()) as [string, ViewRow]
    assert(typeof cursor[0] === 'string', 'a cursor names its query')
    return cursor
  } catch (cause) {
    throw streamsError('CURSOR_INVALID', {}, { cause })
  }
}

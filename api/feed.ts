/**
 * One view's live feed: takes the engine's updates, publishes them at a bounded rate, and
 * encodes each delta once for all subscribers of equal scope and progress.
 */
import { assert } from '../streams/errors.ts'
import type {
  RowsScope,
  ViewChange,
  ViewDeclaration,
  ViewSubscription,
  ViewUpdate,
} from '../streams/views.ts'
import type { ServerContext } from './context.ts'
import { instanceSource } from './instance-source.ts'
import { RecentChanges } from './recent-changes.ts'
import { type RowTest, rowTest, scopeText } from './scope.ts'
import { identityOf } from './view-routes.ts'

/** What a subscriber of the feed is told. */
export interface FeedListener {
  readonly scope: RowsScope
  /** There is a new publication. */
  published(): void
  /** Time has passed: a position not told yet may be due, or the client may be stuck. */
  tick(): void
}

/** A delta without its start: `…"changes":[…]}`, shared by its receivers. */
export interface EncodedDelta {
  readonly position: string
  readonly changes: number
  readonly body: Buffer
}

/** Where a feed's updates and snapshots come from. */
export interface FeedSource {
  /** `scope` null: no rows. */
  subscribe(onUpdate: (update: ViewUpdate) => void, scope: RowsScope | null): FeedSubscription
}

export interface FeedSubscription extends ViewSubscription {
  /** The partitions that it speaks of, where these are not all. */
  readonly partitions?: readonly number[]
}

export class ViewFeed {
  readonly view: ViewDeclaration
  /** The fields that identify a row. */
  readonly identity: readonly string[]
  private readonly context: ServerContext
  private readonly source: FeedSource
  private readonly recent: RecentChanges
  private readonly subscription: FeedSubscription
  private readonly listeners = new Set<FeedListener>()
  /** Not published yet. */
  private pending = new Map<string, ViewChange>()
  private pendingPosition: string | undefined
  private cancelPublish: (() => void) | undefined
  private cancelTick: (() => void) | undefined
  private publishedAt = 0
  private begunAnew = 0
  /** Deltas that end at the last publication, by scope and start. */
  private readonly encoded = new Map<string, EncodedDelta | undefined>()
  private readonly tests = new Map<string, { test: RowTest | undefined; users: number }>()

  constructor(view: ViewDeclaration, source: FeedSource, context: ServerContext) {
    this.view = view
    this.identity = identityOf(view)
    this.source = source
    this.context = context
    const { resumeRowsMax: rowsMax, resumePositionsMax: positionsMax } = context.limits
    // It wants no rows: every subscriber reads a snapshot of its own.
    this.subscription = source.subscribe(update => this.take(update), null)
    this.recent = new RecentChanges(this.subscription.position, { rowsMax, positionsMax })
    context.onClose.add(() => this.close())
  }

  get sequence(): number {
    return this.recent.sequence
  }

  get position(): string {
    return this.recent.position
  }

  /** How often it began anew. */
  get resets(): number {
    return this.begunAnew
  }

  sequenceOf(position: string): number | undefined {
    return this.recent.sequenceOf(position)
  }

  add(listener: FeedListener): void {
    const text = scopeText(listener.scope)
    const known = this.tests.get(text)
    if (known !== undefined) known.users++
    else this.tests.set(text, { test: rowTest(this.view, listener.scope), users: 1 })
    this.listeners.add(listener)
    if (this.cancelTick === undefined) this.scheduleTick()
  }

  remove(listener: FeedListener): void {
    if (!this.listeners.delete(listener)) return
    const text = scopeText(listener.scope)
    const known = this.tests.get(text)
    assert(known !== undefined, 'the scope of a listener is known')
    if (--known.users === 0) this.tests.delete(text)
    if (this.listeners.size > 0) return
    this.cancelTick?.()
    this.cancelTick = undefined
  }

  /**
   * A snapshot at the feed's position, or at that of an update which is about to be delivered:
   * then its rows come again with the next delta, which changes nothing.
   */
  snapshot(scope: RowsScope): FeedSubscription {
    this.publish()
    return this.source.subscribe(ignore, scope)
  }

  /** The rows changed after `sequence`, encoded; undefined when they are not all known. */
  delta(scope: RowsScope, sequence: number): EncodedDelta | undefined {
    const text = scopeText(scope)
    const key = `${sequence} ${text}`
    const known = this.encoded.get(key)
    if (known !== undefined || this.encoded.has(key)) return known
    const delta = this.encode(sequence, this.tests.get(text)?.test)
    this.encoded.set(key, delta)
    return delta
  }

  private encode(sequence: number, test: RowTest | undefined): EncodedDelta | undefined {
    const all = this.recent.since(sequence)
    if (all === undefined) return undefined
    const changes = test === undefined ? all : all.filter(({ row }) => test(row))
    if (changes.length > 0) this.context.metrics.framesEncoded++
    const { position } = this
    const json = JSON.stringify({ view: this.view.name, position, changes })
    // Without its brace: it follows the type and the receiver's id.
    return { position, changes: changes.length, body: Buffer.from(json.slice(1)) }
  }

  private take(update: ViewUpdate): void {
    if (update.reset === true) {
      this.reset(update.position)
      return
    }
    this.pendingPosition = update.position
    for (const change of update.changes) {
      this.pending.set(this.identityOf(change), change)
    }
    if (this.pending.size === 0 || this.cancelPublish !== undefined) return
    const since = this.context.clock() - this.publishedAt
    const delayMs = Math.max(0, this.context.limits.publishIntervalMs - since)
    this.cancelPublish = this.context.schedule(() => this.publish(), delayMs)
  }

  private identityOf({ row }: ViewChange): string {
    return JSON.stringify(this.identity.map(field => row[field]))
  }

  /** Brings listeners up to the engine's last update. */
  publish(): void {
    this.cancelPublish?.()
    this.cancelPublish = undefined
    const position = this.pendingPosition
    if (position === undefined) return
    const changes = this.pending
    this.pending = new Map()
    this.pendingPosition = undefined
    this.publishedAt = this.context.clock()
    this.recent.publish(position, changes)
    this.encoded.clear()
    for (const listener of [...this.listeners]) listener.published()
  }

  private reset(position: string): void {
    this.cancelPublish?.()
    this.cancelPublish = undefined
    this.pending = new Map()
    this.pendingPosition = undefined
    this.begunAnew++
    this.recent.reset(position)
    this.encoded.clear()
    for (const listener of [...this.listeners]) listener.published()
  }

  private scheduleTick(): void {
    const run = () => {
      this.scheduleTick()
      this.publish()
      for (const listener of [...this.listeners]) listener.tick()
    }
    this.cancelTick = this.context.schedule(run, this.context.limits.idlePositionMs)
  }

  private close(): void {
    this.cancelPublish?.()
    this.cancelTick?.()
    this.subscription.close()
  }
}

function ignore(): void {}

/** The feeds of a server, made when first asked for. */
export class Feeds {
  /** Of whole views, and of what is here. */
  private readonly feeds = [new Map<string, ViewFeed>(), new Map<string, ViewFeed>()] as const
  private readonly context: ServerContext

  constructor(context: ServerContext) {
    this.context = context
  }

  /** Throws what `subscribe` throws: the view is unknown, or not ready. */
  of(view: ViewDeclaration): ViewFeed {
    const { views } = this.context
    return this.made(this.feeds[0], view, () => ({
      subscribe: (onUpdate, scope) => views.subscribe(view.name, onUpdate, scope),
    }))
  }

  /** What runs on this instance alone, for other instances. */
  ofInstance(view: ViewDeclaration): ViewFeed {
    const { local } = this.context.views
    return this.made(this.feeds[1], view, () => instanceSource(local, view.name))
  }

  private made(feeds: Map<string, ViewFeed>, view: ViewDeclaration, source: () => FeedSource) {
    const known = feeds.get(view.name)
    if (known !== undefined) return known
    const feed = new ViewFeed(view, source(), this.context)
    feeds.set(view.name, feed)
    return feed
  }
}

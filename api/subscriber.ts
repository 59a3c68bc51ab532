/**
 * One subscription of one client, whatever carries it: snapshot, `up-to-date`, deltas. It
 * keeps no rows, only how far its client is; a client that cannot take more is left where it
 * is, and later gets the latest state of the rows it missed as one delta.
 */
import type { RowsScope, ViewRow, ViewSubscription } from '../streams/views.ts'
import type { ClientAccount } from './client-account.ts'
import type { ServerContext } from './context.ts'
import type { FeedListener, FeedSubscription, ViewFeed } from './feed.ts'
import { rowTest } from './scope.ts'

export type FrameType = 'snapshot' | 'up-to-date' | 'delta' | 'must-refetch'

export interface Frame {
  readonly type: FrameType
  /** The client holds the view as of this position once it has applied the frame. */
  readonly position?: string
  /** The JSON document after `"type":…,"id":…,`. Shared: not to be changed. */
  readonly body: Buffer
}

/** The client's end of a subscription. */
export interface Sink {
  /** Shared by all subscriptions of the connection. */
  readonly account: ClientAccount
  send(frame: Frame): void
  /** Ends this subscription with an error. */
  fail(error: unknown): void
}

const snapshotRows = 500

export class Subscriber implements FeedListener {
  readonly scope: RowsScope
  private readonly feed: ViewFeed
  private readonly sink: Sink
  private readonly account: ClientAccount
  private readonly context: ServerContext
  /** The publication that the client has, once `live`. */
  private sequence = 0
  private live = false
  private closed = false
  private awaitingDrain = false
  private positionTold = ''
  private refetches = 0
  private snapshot: FeedSubscription | undefined
  /** Of the feed, when the client's rows were read. */
  private resets = 0

  constructor(feed: ViewFeed, scope: RowsScope, sink: Sink, context: ServerContext) {
    this.feed = feed
    this.scope = scope
    this.sink = sink
    this.account = sink.account
    this.context = context
  }

  /** `resume`: the position the client has; without one it has nothing. */
  start(resume: string | undefined): void {
    this.context.metrics.subscriptionsOpen++
    this.feed.publish()
    this.feed.add(this)
    const sequence = resume === undefined ? undefined : this.feed.sequenceOf(resume)
    if (sequence !== undefined && this.feed.delta(this.scope, sequence) !== undefined) {
      this.sequence = sequence
      this.resets = this.feed.resets
      void this.sendMissed()
      return
    }
    if (resume !== undefined) this.sendMustRefetch()
    void this.sendSnapshot()
  }

  /** What changed since the position that the client has, when it can take that. */
  private async sendMissed(): Promise<void> {
    if (this.account.congested) await this.account.drained()
    if (this.closed || this.account.closed) return
    const missed = this.feed.delta(this.scope, this.sequence)
    if (missed === undefined) {
      this.refetch(this.feed.resets === this.resets)
      return
    }
    if (missed.changes > 0) this.sendDelta(missed)
    this.sequence = this.feed.sequence
    this.live = true
    this.sendUpToDate(this.feed.position)
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.context.metrics.subscriptionsOpen--
    this.feed.remove(this)
    this.snapshot?.close()
  }

  published(): void {
    if (this.live) this.advance()
  }

  tick(): void {
    this.account.checkStall()
    if (!this.live || this.closed || this.account.congested) return
    if (this.positionTold === this.feed.position) return
    const delta = this.feed.delta(this.scope, this.sequence)
    if (delta !== undefined) this.sendDelta(delta)
  }

  /** Sends what the client lacks, or leaves it for when the client has read. */
  private advance(): void {
    if (this.closed || this.account.closed || this.sequence === this.feed.sequence) return
    if (this.account.congested) {
      this.account.missed(this.feed.delta(this.scope, this.feed.sequence - 1)?.body.length ?? 0)
      if (!this.awaitingDrain) void this.advanceLater()
      return
    }
    const delta = this.feed.delta(this.scope, this.sequence)
    if (delta === undefined) {
      this.refetch(this.feed.resets === this.resets)
      return
    }
    this.sequence = this.feed.sequence
    if (delta.changes > 0) this.sendDelta(delta)
  }

  private async advanceLater(): Promise<void> {
    this.awaitingDrain = true
    this.context.metrics.conflations++
    await this.account.drained()
    this.awaitingDrain = false
    this.advance()
  }

  /** `slow`: the client could not take what came between, and not for the first time. */
  private refetch(slow: boolean): void {
    this.live = false
    if (slow && ++this.refetches > this.context.limits.refetchesMax) {
      this.account.closeSlow()
      return
    }
    this.sendMustRefetch()
    void this.sendSnapshot()
  }

  private async sendSnapshot(): Promise<void> {
    const { resets } = this.feed
    this.resets = resets
    let snapshot: FeedSubscription | undefined
    try {
      snapshot = this.feed.snapshot(this.scope)
      this.snapshot = snapshot
      this.sequence = this.feed.sequence
      await this.sendRows(snapshot)
      if (this.closed) return
      this.sendUpToDate(snapshot.position, snapshot.partitions)
      this.live = true
      this.advance()
      if (this.live) this.refetches = 0
    } catch (error) {
      if (this.closed) return
      // What was sent of it is no cut any more; the next one waits until there is one.
      if (this.feed.resets !== resets) this.refetch(false)
      else this.sink.fail(error)
    } finally {
      snapshot?.close()
    }
  }

  private async sendRows(snapshot: ViewSubscription): Promise<void> {
    const test = rowTest(this.feed.view, this.scope)
    let rows: ViewRow[] = []
    let sent = false
    for await (const chunk of snapshot.snapshot) {
      if (this.closed) return
      for (const row of chunk) {
        if (test === undefined || test(row)) rows.push(row)
      }
      if (rows.length < snapshotRows) continue
      this.sendChunk(snapshot.position, rows)
      rows = []
      sent = true
      if (this.account.congested) await this.account.drained()
    }
    if (!this.closed && (rows.length > 0 || !sent)) this.sendChunk(snapshot.position, rows)
  }

  private sendChunk(position: string, rows: readonly ViewRow[]): void {
    const { view, identity: key } = this.feed
    this.sink.send({ type: 'snapshot', body: bodyOf({ view: view.name, position, key, rows }) })
  }

  private sendUpToDate(position: string, partitions?: readonly number[]): void {
    this.positionTold = position
    const body = bodyOf({ view: this.feed.view.name, position, partitions })
    this.sink.send({ type: 'up-to-date', position, body })
  }

  private sendDelta({ position, body }: { position: string; body: Buffer }): void {
    this.positionTold = position
    this.sequence = this.feed.sequence
    this.sink.send({ type: 'delta', position, body })
  }

  private sendMustRefetch(): void {
    this.sink.send({ type: 'must-refetch', body: bodyOf({ view: this.feed.view.name }) })
  }
}

function bodyOf(document: object): Buffer {
  return Buffer.from(JSON.stringify(document).slice(1))
}

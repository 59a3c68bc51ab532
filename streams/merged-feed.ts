/**
 * The live feed of a whole view whose partitions are spread over instances: follows what runs
 * here and the feeds of the others, one a peer however many subscribers there are, and merges
 * their changes. It keeps no rows.
 *
 *     broken ──(every partition is in exactly one feed)──▶ whole ──▶ changes flow
 *       ▲                                                    │
 *       └── reset ◀── a feed is lost, or partitions move ◀───┘
 *
 * A snapshot waits until the feed is whole and then asks for the rows of each part, so that they
 * are no older than the feed; at its end it waits until the feed is no older than they are. What
 * changed meanwhile is in the feed: nothing is missed, and no row goes back.
 */
import { streamsError } from './errors.ts'
import type { LocalViews } from './local-views.ts'
import type { Placement } from './placement.ts'
import { decodePosition, encodePosition, leastOffsets, type Offsets } from './position.ts'
import { passes, peerName, type RemoteViews } from './remote-views.ts'
import { mergeRows } from './row-place.ts'
import type {
  PartRow,
  PartUpdate,
  PartViews,
  RowsScope,
  ViewRow,
  ViewSubscription,
  ViewUpdate,
} from './views.ts'

/** Rows of a snapshot asked for, and handed over, at once. */
export const SNAPSHOT_ROWS = 500
/** How long a snapshot waits for partitions that move. */
const WHOLE_MS = 10_000

export interface MergedFeedOptions {
  readonly view: string
  readonly local: LocalViews
  readonly remote: RemoteViews
  readonly placement: Placement
  /** Calls back when the group tells something new. */
  readonly onPlacement: (listener: () => void) => () => void
  readonly schedule: (task: () => void, delayMs: number) => () => void
  readonly incarnation: string
}

type Listener = (update: ViewUpdate) => void

/** The feed of one instance. */
interface Part {
  readonly views: PartViews
  partitions: readonly number[]
  offsets: Offsets
  /** Number of the cut that the feed has reached there. */
  cut: number
  stop: () => void
}

export class MergedFeed {
  readonly #options: MergedFeedOptions
  readonly #listeners = new Set<Listener>()
  readonly #parts = new Map<string, Part>()
  /** Called whenever a part has told something. */
  readonly #waiting = new Set<() => void>()
  /** Another one at each reset: what began before it is not complete. */
  #generation = 0
  #whole = false
  #updates = 0
  #stop: () => void = () => {}

  constructor(options: MergedFeedOptions) {
    this.#options = options
  }

  subscribe(onUpdate: Listener, scope: RowsScope | null): ViewSubscription {
    const listener: Listener = update => onUpdate(update)
    if (this.#listeners.size === 0) this.#start()
    this.#listeners.add(listener)
    let position = this.#position()
    const begun = () => {
      position = this.#position()
    }
    const abort = new AbortController()
    return {
      get position() {
        return position
      },
      snapshot: scope === null ? nothing() : this.#snapshot(scope, begun, abort),
      close: () => {
        abort.abort(this.#notReady('nobody follows it any more'))
        if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#end()
      },
    }
  }

  #start(): void {
    this.#add('here', this.#options.local)
    this.#stop = this.#options.onPlacement(() => this.#followPeers())
    this.#followPeers()
  }

  #end(): void {
    this.#stop()
    for (const name of [...this.#parts.keys()]) this.#drop(name)
    this.#settle()
  }

  #add(name: string, views: PartViews): void {
    const part: Part = { views, partitions: [], offsets: {}, cut: 0, stop: () => {} }
    this.#parts.set(name, part)
    const isHeld = () => this.#parts.get(name) === part
    part.stop = views.follow(this.#options.view, update => {
      if (isHeld()) this.#take(name, part, update)
    })
    if (!isHeld()) part.stop()
  }

  #drop(name: string): void {
    const part = this.#parts.get(name)
    this.#parts.delete(name)
    part?.stop()
  }

  /** Follows the instances that have partitions which are not here. */
  #followPeers(): void {
    if (!this.#parts.has('here')) return
    const { placement, remote, view } = this.#options
    const peers = new Map(placement.peers(view).map(peer => [peerName(peer), peer]))
    for (const name of [...this.#parts.keys()]) {
      if (name !== 'here' && !peers.has(name)) this.#drop(name)
    }
    for (const [name, peer] of peers) {
      if (!this.#parts.has(name)) this.#add(name, remote.at(peer))
    }
    this.#settle()
  }

  #take(name: string, part: Part, update: PartUpdate): void {
    const { incarnation, offsets, mark } = decodePosition(update.position)
    const same = incarnation === this.#options.incarnation
    part.offsets = offsets
    part.cut = Number(mark)
    if (update.reset || !same) {
      part.partitions = same ? update.partitions : []
      if (name === 'here') this.#followPeers()
      this.#settle(true)
    } else if (this.#whole) {
      this.#updates++
      this.#deliver({ position: this.#position(), changes: update.changes })
    }
    this.#wake()
  }

  #wake(): void {
    for (const look of [...this.#waiting]) look()
  }

  /** Looks whether the parts are the view. `anew`: one of them has missed updates. */
  #settle(anew = false): void {
    const { placement, view } = this.#options
    const told = [...this.#parts.values()].flatMap(({ partitions }) => partitions)
    const all = placement.partitions(view)
    const whole = told.length === all.length && new Set(told).size === all.length
    const was = this.#whole
    this.#whole = whole
    if (was && (anew || !whole)) {
      this.#generation++
      this.#updates++
      this.#deliver({ position: this.#position(), changes: [], reset: true })
    }
    this.#wake()
  }

  #deliver(update: ViewUpdate): void {
    for (const listener of [...this.#listeners]) listener(update)
  }

  /** Of this feed alone: another may show other rows at the same offsets. */
  #position(): string {
    const { incarnation, remote } = this.#options
    const parts = this.#whole ? [...this.#parts.values()] : []
    const offsets = leastOffsets(parts.map(part => part.offsets))
    return encodePosition({ incarnation, offsets, mark: `${remote.id}.${this.#updates}` })
  }

  async *#snapshot(
    scope: RowsScope,
    begun: () => void,
    abort: AbortController,
  ): AsyncGenerator<readonly ViewRow[]> {
    const { signal } = abort
    await this.#until(() => this.#whole, 'partitions of it are moving, or on no instance', signal)
    begun()
    const generation = this.#generation
    const watch = () => {
      if (this.#generation !== generation) abort.abort(this.#notReady('its partitions are moving'))
    }
    this.#waiting.add(watch)
    const cuts = new Map<Part, number>()
    try {
      const parts = [...this.#parts.values()].filter(({ partitions }) => partitions.length > 0)
      yield* this.#chunks(parts, { scope, cuts, signal })
      const reached = () => parts.every(part => part.cut >= (cuts.get(part) ?? 0))
      await this.#until(reached, 'its changes do not come', signal)
    } finally {
      this.#waiting.delete(watch)
      abort.abort(this.#notReady('its snapshot has ended'))
    }
  }

  async *#chunks(
    parts: readonly Part[],
    reading: { scope: RowsScope; cuts: Map<Part, number>; signal: AbortSignal },
  ): AsyncGenerator<readonly ViewRow[]> {
    const { local, view } = this.#options
    const [first] = parts
    if (parts.length === 1 && first!.views === local) {
      // All of it is here, so its rows can be of one cut.
      const { partitions } = first!
      const cut = await local.cut(view, { partitions })
      reading.cuts.set(first!, local.changedAt(view))
      try {
        yield* local.chunks(view, { ...reading, cut, partitions, chunkRows: SNAPSHOT_ROWS })
      } finally {
        cut.release()
      }
      return
    }
    let chunk: ViewRow[] = []
    for await (const { row } of mergeRows(parts.map(part => this.#rows(part, reading)))) {
      chunk.push(row)
      if (chunk.length < SNAPSHOT_ROWS) continue
      yield chunk
      chunk = []
    }
    yield chunk
  }

  /** The rows of one part, page by page, as they are asked for. */
  async *#rows(
    part: Part,
    { scope, cuts, signal }: { scope: RowsScope; cuts: Map<Part, number>; signal: AbortSignal },
  ): AsyncGenerator<PartRow> {
    const { view } = this.#options
    const { partitions, views } = part
    let cursor: string | undefined
    do {
      signal.throwIfAborted()
      const query = { ...scope, partitions, limit: SNAPSHOT_ROWS, signal }
      const page = await views
        .rows(view, cursor === undefined ? query : { ...query, cursor })
        .catch(error => {
          signal.throwIfAborted()
          throw passes(error) ? this.#notReady(error.message) : error
        })
      const { mark } = decodePosition(page.position)
      cuts.set(part, Math.max(cuts.get(part) ?? 0, Number(mark)))
      yield* page.rows
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
  }

  #notReady(reason: string) {
    return streamsError('VIEW_NOT_READY', { view: this.#options.view, reason })
  }

  /** Resolves when a condition holds; throws when it does not for long, or the signal's reason. */
  #until(holds: () => boolean, reason: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (holds()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const end = () => {
        cancel()
        this.#waiting.delete(look)
        signal.removeEventListener('abort', leave)
      }
      const look = () => {
        if (!holds()) return
        end()
        resolve()
      }
      const leave = () => {
        end()
        reject(signal.reason)
      }
      const cancel = this.#options.schedule(() => {
        end()
        reject(this.#notReady(reason))
      }, WHOLE_MS)
      signal.addEventListener('abort', leave)
      this.#waiting.add(look)
    })
  }
}

async function* nothing(): AsyncGenerator<readonly ViewRow[]> {}

/**
 * Reads of whole views from all instances that have a part: each is asked for its partitions
 * alone, in parallel, and an answer has every partition once or is none.
 *
 *     place ──▶ ask each owner ──▶ merge
 *       ▲            │ it says no, or does not answer
 *       └── pause ◀──┘ for those partitions again, until HANDOVER_MS have passed; then 503
 */

import type { Engine } from './engine.ts'
import { type MillraceError, streamsError } from './errors.ts'
import { keyPartition } from './key-partition.ts'
import type { LocalViews } from './local-views.ts'
import type { Owner, Placement } from './placement.ts'
import { decodePosition, encodePosition, leastOffsets } from './position.ts'
import { passes, peerName, type RemoteViews } from './remote-views.ts'
import { comparePlaces, decodeCursor, encodeCursor, filterId, type RowPlace } from './row-place.ts'
import type {
  MetricSample,
  PartPage,
  PartScope,
  PartViews,
  RowAnswer,
  RowQuery,
  RowsPage,
  RowsQuery,
  Waiting,
} from './views.ts'

/** How long partitions that move are asked for again. */
const HANDOVER_MS = 2_000
const RETRY_MS = 100
/** Within this time an instance answers, beside what it waits for a position. */
const ANSWER_MS = 5_000

export interface RoutedReadsOptions {
  readonly engine: Engine
  readonly local: LocalViews
  readonly remote: RemoteViews
  readonly placement: Placement
  readonly clock: () => number
  readonly schedule: (task: () => void, delayMs: number) => () => void
  readonly incarnation: string
}

type Ask<T> = (views: PartViews, scope: PartScope & Waiting) => Promise<T>

interface Request<T> {
  readonly view: string
  readonly ask: Ask<T>
  readonly waiting: Waiting
  /** When what is waited for is no longer waited for. */
  readonly deadlineMs: number
  /** Ends what is still asked when one answer is bad. */
  readonly abort: AbortController
  readonly attempt: number
  readonly failingSinceMs: number | undefined
}

interface Group extends PartScope {
  readonly owner: Owner
}

/** An answer for some partitions. */
interface Part<T> extends PartScope {
  readonly answer: T
}

export class RoutedReads {
  readonly #options: RoutedReadsOptions
  #asked = 0
  #failed = 0

  constructor(options: RoutedReadsOptions) {
    this.#options = options
  }

  async rows(view: string, query: RowsQuery): Promise<RowsPage> {
    const { placement } = this.#options
    // A cursor of another filter is refused before anybody is asked.
    if (query.cursor !== undefined) decodeCursor(query.cursor, filterId(view, query))
    const all = placement.partitions(view)
    const ask: Ask<PartPage> = (views, scope) => views.rows(view, { ...query, ...scope })
    const parts = await this.#gather(view, all, query, ask)
    const pages = parts.map(({ answer }) => answer)
    return {
      ...mergePages(view, query, pages),
      position: this.#position(pages),
      consistent: false,
      partitions: all,
    }
  }

  async row(view: string, key: string, query: RowQuery): Promise<RowAnswer> {
    const { asOf, ...waiting } = query
    const { clock, engine, local, placement } = this.#options
    const endMs = clock() + (waiting.timeoutMs ?? 0)
    const all = placement.partitions(view)
    const rowKey = local.rowKey(view, key)
    const likely =
      rowKey === undefined
        ? undefined
        : keyPartition(engine.plan, local.viewRows(view).view, rowKey)
    const ask: Ask<RowAnswer> = (views, scope) => views.row(view, { ...scope, key, asOf })
    const first = likely === undefined ? all : [likely.partition]
    const found = await this.#gather(view, first, waiting, ask)
    if (likely?.certain !== true && !found.some(({ answer }) => answer.row !== undefined)) {
      const others = all.filter(partition => !first.includes(partition))
      const left = { ...waiting, timeoutMs: Math.max(endMs - clock(), 0) }
      found.push(...(await this.#gather(view, others, left, ask)))
    }
    const answers = found.map(({ answer }) => answer)
    const partitions = found.flatMap(part => part.partitions).sort((a, b) => a - b)
    const row = answers.find(answer => answer.row !== undefined)?.row
    return { row, position: this.#position(answers), partitions }
  }

  async ready(view: string, waiting: Waiting): Promise<void> {
    const query: RowsQuery = { key: {}, limit: 0 }
    const ask: Ask<PartPage> = (views, scope) => views.rows(view, { ...query, ...scope })
    await this.#gather(view, this.#options.placement.partitions(view), waiting, ask)
  }

  metrics(): MetricSample[] {
    const kind = 'counter'
    const labels = {}
    return [
      {
        name: 'peer_requests_total',
        help: 'Requests to other instances for their partitions of a view',
        kind,
        labels,
        value: this.#asked,
      },
      {
        name: 'peer_requests_failed_total',
        help: 'Times that nobody answered for a partition, here or elsewhere, and it was tried again',
        kind,
        labels,
        value: this.#failed,
      },
    ]
  }

  /** What all the parts cover. */
  #position(parts: readonly { readonly position: string }[]): string {
    const { incarnation } = this.#options
    const offsets = leastOffsets(parts.map(({ position }) => decodePosition(position).offsets))
    return encodePosition({ incarnation, offsets })
  }

  /** Answers for all these partitions, each in one answer. */
  async #gather<T extends { readonly position: string }>(
    view: string,
    partitions: readonly number[],
    waiting: Waiting,
    ask: Ask<T>,
  ): Promise<Part<T>[]> {
    const { signal, timeoutMs = 0 } = waiting
    signal?.throwIfAborted()
    const abort = new AbortController()
    const leave = () => abort.abort(signal!.reason)
    signal?.addEventListener('abort', leave)
    const deadlineMs = this.#options.clock() + timeoutMs
    const request = { view, ask, waiting, deadlineMs, abort, attempt: 0, failingSinceMs: undefined }
    try {
      return await this.#askOwners(partitions, request)
    } catch (error) {
      abort.abort(error)
      throw signal?.aborted ? signal.reason : error
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  async #askOwners<T extends { readonly position: string }>(
    partitions: readonly number[],
    request: Request<T>,
  ): Promise<Part<T>[]> {
    const groups = this.#groups(partitions, request)
    const parts = await Promise.all(groups.map(group => this.#answer(group, request)))
    return parts.flat()
  }

  /** Partitions by who answers for them now. */
  #groups<T>(partitions: readonly number[], { view, attempt }: Request<T>): Group[] {
    const groups = new Map<string, { owner: Owner; partitions: number[] }>()
    for (const partition of partitions) {
      const owner = this.#options.placement.owner(view, partition, attempt)
      const name = owner.kind === 'peer' ? peerName(owner.peer) : owner.kind
      // What nobody has is told of for one partition at a time.
      const id = owner.kind === 'nobody' ? `nobody ${partition}` : name
      const group = groups.get(id) ?? { owner, partitions: [] }
      group.partitions.push(partition)
      groups.set(id, group)
    }
    return [...groups.values()]
  }

  async #answer<T extends { readonly position: string }>(
    group: Group,
    request: Request<T>,
  ): Promise<Part<T>[]> {
    const { clock } = this.#options
    try {
      return [{ partitions: group.partitions, answer: await this.#ask(group, request) }]
    } catch (error) {
      request.abort.signal.throwIfAborted()
      if (!passes(error)) throw error
      this.#failed++
      const failingSinceMs = request.failingSinceMs ?? clock()
      if (clock() - failingSinceMs >= HANDOVER_MS) throw notReady(request.view, group, error)
      await this.#pause(request.abort.signal)
      const next = { ...request, attempt: request.attempt + 1, failingSinceMs }
      return this.#askOwners(group.partitions, next)
    }
  }

  async #ask<T extends { readonly position: string }>(
    { owner, partitions }: Group,
    request: Request<T>,
  ): Promise<T> {
    const { local, remote, clock, incarnation } = this.#options
    const { view, ask, waiting, deadlineMs, abort } = request
    if (owner.kind === 'nobody') {
      const reason = `its partition ${partitions[0]} ${owner.why}`
      throw streamsError('VIEW_NOT_READY', { view, reason, partition: partitions[0] })
    }
    const timeoutMs = Math.max(deadlineMs - clock(), 0)
    const { covering } = waiting
    const wait = covering === undefined ? {} : { covering, timeoutMs }
    if (owner.kind === 'here') return ask(local, { partitions, ...wait, signal: abort.signal })
    this.#asked++
    const peer = peerName(owner.peer)
    const limitMs = (covering === undefined ? 0 : timeoutMs) + ANSWER_MS
    const late = streamsError('PEER_UNREACHABLE', { peer, reason: `it took over ${limitMs} ms` })
    const answer = await this.#within(limitMs, late, abort.signal, signal =>
      ask(remote.at(owner.peer), { partitions, ...wait, signal }),
    )
    if (decodePosition(answer.position).incarnation === incarnation) return answer
    throw streamsError('PEER_UNREACHABLE', { peer, reason: 'it answered from another log' })
  }

  /** Runs a request that is aborted when it takes too long. */
  async #within<T>(
    limitMs: number,
    late: MillraceError,
    outer: AbortSignal,
    run: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const abort = new AbortController()
    const leave = () => abort.abort(outer.reason)
    outer.addEventListener('abort', leave)
    const cancel = this.#options.schedule(() => abort.abort(late), limitMs)
    try {
      return await run(abort.signal)
    } finally {
      cancel()
      outer.removeEventListener('abort', leave)
    }
  }

  #pause(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        cancel()
        reject(signal.reason)
      }
      const cancel = this.#options.schedule(() => {
        signal.removeEventListener('abort', leave)
        resolve()
      }, RETRY_MS)
      signal.addEventListener('abort', leave)
    })
  }
}

function notReady(view: string, { owner, partitions }: Group, error: MillraceError): MillraceError {
  if (owner.kind !== 'peer') return error
  const peer = peerName(owner.peer)
  const said = String(error.details.reason)
  const how = error.code === 'PEER_UNREACHABLE' ? 'which does not answer' : 'which is not ready'
  const [partition] = partitions
  const reason = `its partition ${partition} is at ${peer}, ${how}: ${said}`
  return streamsError('VIEW_NOT_READY', { view, reason, partition, owner: peer }, { cause: error })
}

/**
 * One page of several: rows up to the first place where one of them ends early, and no more than
 * the limit.
 */
export function mergePages(
  view: string,
  query: RowsQuery,
  pages: readonly PartPage[],
): Pick<RowsPage, 'rows' | 'next'> {
  const filters = filterId(view, query)
  let end: RowPlace | undefined
  for (const { next } of pages) {
    if (next === null) continue
    const place = decodeCursor(next, filters)
    if (end === undefined || comparePlaces(place, end) < 0) end = place
  }
  const found = pages
    .flatMap(({ rows }) => rows)
    .filter(place => end === undefined || comparePlaces(place, end) <= 0)
    .sort(comparePlaces)
  const rows = found.slice(0, query.limit)
  if (found.length > rows.length) end = rows.at(-1)!
  return {
    rows: rows.map(({ row }) => row),
    next: end === undefined ? null : encodeCursor(end, filters),
  }
}

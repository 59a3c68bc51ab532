/**
 * Fetch requests under way, and what they brought for nobody.
 *
 * A broker answers the requests of a connection in order, so every long poll holds a connection
 * (a lane) until it returns. A call that is over leaves its polls behind: the next call that asks
 * for the same offsets joins them, and what they bring meanwhile is kept for it, within bounds.
 */
import type { FetchRequest, FetchResponse, TopicPartition } from '../port.ts'
import type { Cluster, Purpose } from './cluster.ts'
import { keepCommitted } from './committed-batches.ts'
import { ErrorCode, isTransient } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { type FetchedPartition, fetchPartitions, type PartitionPlace } from './fetch-api.ts'

/** Polls are asked again after this: the longest that one may hold its connection. */
const POLL_MS_MAX = 500
const LANES_MAX = 8
const RESPONSE_BYTES_MAX = 16 << 20
const KEPT_BYTES_MAX = 32 << 20
/** What nobody asked for in that time nobody will. */
const KEPT_MS_MAX = 30_000
/** What was empty then says little about now. */
const EMPTY_KEPT_MS = 500

/** What became of one partition of a request. */
export type Outcome =
  | { readonly kind: 'answer'; readonly response: FetchResponse }
  /** The broker has more, but others took the answer's bytes: it comes with the next request. */
  | { readonly kind: 'crowded' }
  | { readonly kind: 'out-of-range' }
  | { readonly kind: 'failed'; readonly error: Error; readonly transient: boolean }

/** One partition that a call waits for. */
export interface Place {
  readonly key: string
  readonly request: FetchRequest
  readonly topicId: string
  readonly leaderEpoch: number
}

/** A call, as a poll sees it. True when it took the outcome. */
export interface PollCaller {
  accept(key: string, offset: number, outcome: Outcome): boolean
}

interface Poll {
  readonly places: ReadonlyMap<string, Place>
  readonly callers: Set<PollCaller>
  readonly done: Promise<void>
}

interface Kept {
  readonly topicId: string
  readonly response: FetchResponse
  readonly atMs: number
}

interface Lanes {
  readonly free: number[]
  readonly waiting: (() => void)[]
}

export function keyOf({ topic, partition }: TopicPartition): string {
  return `${topic}/${partition}`
}

export class FetchPolls {
  readonly #cluster: Cluster
  readonly #underWay = new Map<number, Set<Poll>>()
  readonly #lanes = new Map<number, Lanes>()
  /** By partition and offset: a partition may have several readers. Oldest first. */
  readonly #kept = new Map<string, Kept>()
  #keptBytes = 0
  /** Start and end by partition, as last heard. */
  readonly #heard = new Map<string, { readonly startOffset: number; readonly endOffset: number }>()
  /** When a partition last gave data: those that waited longest are asked for first. */
  readonly #served = new Map<string, number>()
  #serving = 0

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /** What a poll brought for these offsets when nobody waited for it. Given once. */
  take({ topic, partition, offset }: FetchRequest): FetchResponse | undefined {
    const id = placeOf(keyOf({ topic, partition }), offset)
    const kept = this.#kept.get(id)
    if (kept === undefined) return undefined
    this.#drop(id, kept)
    const old = this.#cluster.environment.clock() - kept.atMs > EMPTY_KEPT_MS
    const useless = old && kept.response.nextOffset === offset
    const isOther = this.#cluster.topicById(kept.topicId) === undefined
    return useless || isOther ? undefined : kept.response
  }

  /** The answer for a partition whose broker has not given one. */
  pending({ topic, partition, offset }: FetchRequest): FetchResponse {
    const heard = this.#heard.get(keyOf({ topic, partition }))
    const { startOffset = -1, endOffset = -1 } = heard ?? {}
    const bytes = Buffer.alloc(0)
    return { topic, partition, bytes, nextOffset: offset, startOffset, endOffset, pending: true }
  }

  /**
   * Asks one broker, or joins a poll that asks it the same. Resolves when the caller was told of
   * every place; never rejects. `waitMs` is 0 for an answer at once.
   */
  poll(node: number, places: readonly Place[], waitMs: number, caller: PollCaller): Promise<void> {
    let polls = this.#underWay.get(node)
    if (polls === undefined) this.#underWay.set(node, (polls = new Set()))
    if (waitMs > 0) {
      for (const poll of polls) {
        if (!places.every(place => isSame(place, poll.places.get(place.key)))) continue
        poll.callers.add(caller)
        return poll.done
      }
    }
    const callers = new Set([caller])
    const byKey = new Map(places.map(place => [place.key, place]))
    const done = this.#send(node, byKey, Math.min(waitMs, POLL_MS_MAX), callers).finally(() =>
      polls.delete(poll),
    )
    const poll: Poll = { places: byKey, callers, done }
    if (waitMs > 0) polls.add(poll)
    return done
  }

  async #send(
    node: number,
    places: ReadonlyMap<string, Place>,
    waitMsMax: number,
    callers: ReadonlySet<PollCaller>,
  ): Promise<void> {
    const tell = (place: Place, outcome: Outcome) => {
      const { key, request } = place
      let taken = false
      for (const caller of callers) taken = caller.accept(key, request.offset, outcome) || taken
      if (!taken && outcome.kind === 'answer') this.#keep(place, outcome.response)
    }
    const untold = new Map<string, Place>()
    for (const place of places.values()) untold.set(wireKey(place.topicId, place.request), place)
    try {
      const answer = await this.#ask(node, [...places.values()], waitMsMax)
      if (answer.error !== 0) throw refusalOf('Fetch', answer.error)
      for (const fetched of answer.partitions) {
        const key = wireKey(fetched.topicId, fetched)
        const place = untold.get(key)
        if (place === undefined) continue
        untold.delete(key)
        tell(place, this.#outcome(place, fetched, places.size === 1))
      }
      const error = refusalOf('Fetch', ErrorCode.THROTTLING_QUOTA_EXCEEDED)
      for (const place of untold.values()) tell(place, { kind: 'failed', error, transient: true })
    } catch (cause) {
      const error = cause as Error & { code?: string }
      const transient = /^KAFKA_UN(REACHABLE|AVAILABLE)$/.test(error.code ?? '')
      for (const place of untold.values()) tell(place, { kind: 'failed', error, transient })
    }
  }

  async #ask(node: number, places: readonly Place[], waitMsMax: number) {
    const wanted = places
      .toSorted((a, b) => (this.#served.get(a.key) ?? 0) - (this.#served.get(b.key) ?? 0))
      .map(({ topicId, leaderEpoch, request }): PartitionPlace => {
        const { partition, offset, bytesMax } = request
        return { topicId, partition, leaderEpoch, offset, bytesMax: Math.max(1, bytesMax) }
      })
    const sum = wanted.reduce((bytes, { bytesMax }) => bytes + bytesMax, 0)
    const options = { waitMsMax, bytesMax: Math.min(sum, RESPONSE_BYTES_MAX) }
    const lane = await this.#takeLane(node)
    try {
      const purpose: Purpose = lane === 0 ? 'fetch' : `fetch:${lane}`
      return await this.#cluster.call(node, purpose, fetchPartitions, options, wanted)
    } finally {
      this.#freeLane(node, lane)
    }
  }

  #outcome(place: Place, fetched: FetchedPartition, alone: boolean): Outcome {
    const { request, key } = place
    const { error, lastStableOffset: endOffset, startOffset } = fetched
    if (error === ErrorCode.OFFSET_OUT_OF_RANGE) return { kind: 'out-of-range' }
    if (error !== 0) {
      this.#cluster.staleTopic(request.topic)
      return {
        kind: 'failed',
        error: refusalOf(nameOfFetch(request), error, { right: ['Read', request.topic] }),
        transient: isTransient(error),
      }
    }
    const { topic, partition, offset } = request
    this.#heard.set(key, { startOffset, endOffset })
    const { bytes, nextOffset } = keepCommitted(fetched.records, fetched.aborted, offset)
    if (nextOffset === offset && endOffset > offset) {
      if (!alone) return { kind: 'crowded' }
      // The first that has anything gets a batch of any size. Skipping ahead could lose records.
      const details = { topic, partition, offset, endOffset }
      return { kind: 'failed', error: kafkaError('KAFKA_FETCH_EMPTY', details), transient: true }
    }
    if (nextOffset > offset) this.#served.set(key, ++this.#serving)
    return {
      kind: 'answer',
      response: { topic, partition, bytes, nextOffset, startOffset, endOffset },
    }
  }

  #keep({ key, topicId, request }: Place, response: FetchResponse): void {
    const id = placeOf(key, request.offset)
    const before = this.#kept.get(id)
    if (before !== undefined) this.#drop(id, before)
    const atMs = this.#cluster.environment.clock()
    this.#kept.set(id, { topicId, response, atMs })
    this.#keptBytes += response.bytes.length
    for (const [oldest, kept] of this.#kept) {
      if (this.#keptBytes <= KEPT_BYTES_MAX && atMs - kept.atMs <= KEPT_MS_MAX) return
      this.#drop(oldest, kept)
    }
  }

  #drop(id: string, kept: Kept): void {
    this.#kept.delete(id)
    this.#keptBytes -= kept.response.bytes.length
  }

  async #takeLane(node: number): Promise<number> {
    let lanes = this.#lanes.get(node)
    if (lanes === undefined) {
      const free = Array.from({ length: LANES_MAX }, (_, i) => LANES_MAX - 1 - i)
      this.#lanes.set(node, (lanes = { free, waiting: [] }))
    }
    const { free, waiting } = lanes
    while (free.length === 0) await new Promise<void>(resolve => waiting.push(resolve))
    return free.pop()!
  }

  #freeLane(node: number, lane: number): void {
    const lanes = this.#lanes.get(node)
    lanes?.free.push(lane)
    lanes?.waiting.shift()?.()
  }
}

function placeOf(key: string, offset: number): string {
  return `${key}@${offset}`
}

function isSame({ request }: Place, other: Place | undefined): boolean {
  return other?.request.offset === request.offset && other.request.bytesMax === request.bytesMax
}

function wireKey(topicId: string, { partition }: { readonly partition: number }): string {
  return `${topicId}/${partition}`
}

function nameOfFetch({ topic, partition, offset }: FetchRequest): string {
  return `to read ${topic}-${partition} at ${offset}`
}

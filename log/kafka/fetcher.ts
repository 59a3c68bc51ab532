/**
 * The fetch of the log port on Kafka: partitions grouped by leader, each leader polled on its own,
 * back as soon as one has something. Leaders that moved, brokers that are away and codes that pass
 * are retried for as long as the call may wait.
 */
import { logError } from '../errors.ts'
import type { FetchRequest, FetchResponse, OffsetRange, TopicPartition } from '../port.ts'
import type { Cluster } from './cluster.ts'
import { kafkaError } from './errors.ts'
import { FetchPolls, keyOf, type Outcome, type Place, type PollCaller } from './fetch-polls.ts'
import { Backoff, pause } from './pause.ts'

/** How long after its time a broker's answer is waited for. */
const GRACE_MS = 250

export interface FetchWait {
  readonly waitMsMax?: number
  readonly signal?: AbortSignal
}

export interface FetcherOptions {
  readonly cluster: Cluster
  /** Start and end of a partition, for an answer that the broker gives none with. */
  readonly rangeOf: (target: TopicPartition) => Promise<OffsetRange>
}

export class Fetcher {
  readonly #options: FetcherOptions
  readonly #polls: FetchPolls
  readonly #closing = new AbortController()

  constructor(options: FetcherOptions) {
    this.#options = options
    this.#polls = new FetchPolls(options.cluster)
  }

  async fetch(
    requests: readonly FetchRequest[],
    { waitMsMax = 0, signal }: FetchWait,
  ): Promise<readonly FetchResponse[]> {
    const isWaiting = waitMsMax > 0
    if (isWaiting && this.#closing.signal.aborted) throw logError('LOG_CLOSED')
    const call = new FetchCall(requests, this.#polls, this.#options, waitMsMax)
    const ends = [isWaiting ? this.#closing.signal : undefined, signal]
    try {
      const responses = await call.run(AbortSignal.any(ends.filter(one => one !== undefined)))
      if (!isWaiting || !this.#closing.signal.aborted) return responses
    } finally {
      call.end()
    }
    throw logError('LOG_CLOSED')
  }

  /** Calls that wait reject; others are answered. */
  close(): void {
    this.#closing.abort()
  }
}

interface Slot {
  readonly key: string
  readonly request: FetchRequest
  /** What was said last; a waiting call asks again while it is nothing new. */
  response?: FetchResponse
  /** Asked in this round, and not answered yet. */
  open: boolean
}

class FetchCall implements PollCaller {
  readonly #slots: readonly Slot[]
  readonly #polls: FetchPolls
  readonly #options: FetcherOptions
  readonly #waitMsMax: number
  readonly #untilMs: number
  readonly #backoff: Backoff
  readonly #ended = new AbortController()
  /** A waiting call has something to return. */
  readonly #progress = new AbortController()
  readonly #background: Promise<void>[] = []
  /** Why something could not be answered: in this round, and ever. */
  #failure: Error | undefined
  #lastFailure: Error | undefined
  #fatal: Error | undefined

  constructor(
    requests: readonly FetchRequest[],
    polls: FetchPolls,
    options: FetcherOptions,
    waitMsMax: number,
  ) {
    const { environment, requestTimeoutMs } = options.cluster
    this.#slots = requests.map(request => ({
      key: keyOf(request),
      request,
      open: true,
    }))
    this.#polls = polls
    this.#options = options
    this.#waitMsMax = waitMsMax
    this.#untilMs = environment.clock() + (waitMsMax > 0 ? waitMsMax : requestTimeoutMs)
    this.#backoff = new Backoff(environment)
  }

  /** `ended` aborts when the caller does not want to wait any more. */
  async run(ended: AbortSignal): Promise<readonly FetchResponse[]> {
    const { environment } = this.#options.cluster
    const patienceMs = this.#untilMs - environment.clock() + GRACE_MS
    if (this.#waitMsMax > 0) this.#takeKept()
    const over = AbortSignal.any([ended, this.#ended.signal])
    await Promise.race([this.#rounds(), pause(environment, patienceMs, over)])
    if (this.#fatal) throw this.#fatal
    const answered = this.#slots.every(slot => slot.response !== undefined)
    if (this.#waitMsMax === 0 && !answered && !ended.aborted) {
      throw this.#lastFailure ?? unanswered(this.#slots.map(({ request }) => request))
    }
    return this.#slots.map(slot => slot.response ?? this.#polls.pending(slot.request))
  }

  /** Polls that are under way bring nothing for this call any more. */
  end(): void {
    this.#ended.abort()
  }

  get #over(): boolean {
    return this.#ended.signal.aborted
  }

  #takeKept(): void {
    for (const slot of this.#slots) {
      const response = this.#polls.take(slot.request)
      if (response !== undefined) this.#answer(slot, response)
    }
  }

  async #rounds(): Promise<void> {
    const isWaiting = this.#waitMsMax > 0
    const wake = AbortSignal.any([this.#ended.signal, this.#progress.signal])
    while (!this.#over && this.#fatal === undefined) {
      this.#failure = undefined
      const polls = await this.#askAll()
      // What is under way then is for the next call.
      if (isWaiting && this.#progress.signal.aborted) return
      if (polls.length > 0) await (isWaiting ? Promise.race(polls) : Promise.all(polls))
      if (this.#isDone()) return
      if (this.#failure !== undefined) await this.#backoff.wait(isWaiting ? wake : undefined)
    }
  }

  /** Else there is another round. A waiting call asks again for what was empty. */
  #isDone(): boolean {
    if (this.#waitMsMax === 0) return this.#slots.every(slot => !slot.open)
    const late = this.#options.cluster.environment.clock() >= this.#untilMs
    if (this.#progress.signal.aborted || (late && this.#slots.every(slot => slot.response)))
      return true
    for (const slot of this.#slots) slot.open = true
    return false
  }

  /** Starts or joins a poll for every slot that is open. */
  async #askAll(): Promise<readonly Promise<void>[]> {
    const groups = new Map<string, { node: number; places: Place[] }>()
    // A request names a partition once: what is asked for twice goes with a second one.
    const turns = new Map<string, number>()
    const open = this.#slots.filter(slot => slot.open)
    const located = await Promise.all(open.map(slot => this.#locate(slot)))
    if (this.#over) return []
    for (const [i, slot] of open.entries()) {
      const found = located[i]
      if (found === undefined) continue
      const turn = turns.get(slot.key) ?? 0
      turns.set(slot.key, turn + 1)
      const id = `${found.node}/${turn}`
      const group = groups.get(id) ?? { node: found.node, places: [] }
      groups.set(id, group)
      group.places.push(found.place)
    }
    const { clock } = this.#options.cluster.environment
    const leftMs = this.#waitMsMax > 0 ? Math.max(1, this.#untilMs - clock()) : 0
    return [...groups.values()].map(async ({ node, places }) => {
      await this.#polls.poll(node, places, leftMs, this)
      await Promise.all(this.#background.splice(0))
    })
  }

  async #locate(slot: Slot): Promise<{ node: number; place: Place } | undefined> {
    const { cluster } = this.#options
    const { key, request } = slot
    try {
      const topic = await cluster.partitionTopic(request)
      const partition = topic.partitions[request.partition]!
      if (partition.leader < 0) {
        cluster.staleTopic(request.topic)
        this.#fail(unanswered([request], 'it has no leader'), true)
        return undefined
      }
      const { id: topicId } = topic
      const { leader: node, leaderEpoch } = partition
      return { node, place: { key, request, topicId, leaderEpoch } }
    } catch (error) {
      const { code = '' } = error as { code?: string }
      if (/^(TOPIC|PARTITION)_MISSING$/.test(code)) {
        this.#answer(slot, { ...nothing(request), error: 'unknown-topic' })
      } else this.#fail(error as Error, /^KAFKA_UN(REACHABLE|AVAILABLE)$/.test(code))
      return undefined
    }
  }

  accept(key: string, offset: number, outcome: Outcome): boolean {
    if (this.#over) return false
    const waiting = this.#slots.filter(
      slot => slot.open && slot.key === key && slot.request.offset === offset,
    )
    for (const slot of waiting) {
      if (outcome.kind === 'answer') this.#answer(slot, outcome.response)
      else if (outcome.kind === 'failed') this.#fail(outcome.error, outcome.transient)
      else if (outcome.kind === 'out-of-range') this.#background.push(this.#answerOutOfRange(slot))
    }
    return waiting.length > 0
  }

  #answer(slot: Slot, response: FetchResponse): void {
    slot.open = false
    slot.response = response
    const further = response.nextOffset > slot.request.offset
    if (response.error !== undefined || further) this.#progress.abort()
  }

  #fail(error: Error, transient: boolean): void {
    if (transient) this.#failure = this.#lastFailure = error
    else this.#fatal ??= error
  }

  async #answerOutOfRange(slot: Slot): Promise<void> {
    const { request } = slot
    try {
      const { startOffset, endOffset, highWatermark } = await this.#options.rangeOf(request)
      const { offset } = request
      if (offset >= startOffset && offset <= highWatermark) {
        // A leader that has just taken over may not know its end yet.
        this.#fail(logError('OFFSET_OUT_OF_RANGE', { ...request, startOffset, endOffset }), true)
        return
      }
      this.#answer(slot, {
        ...nothing(request),
        startOffset,
        endOffset,
        error: 'offset-out-of-range',
      })
    } catch (error) {
      this.#fail(error as Error, true)
    }
  }
}

function nothing({ topic, partition, offset }: FetchRequest): FetchResponse {
  const bytes = Buffer.alloc(0)
  return { topic, partition, bytes, nextOffset: offset, startOffset: 0, endOffset: 0 }
}

function unanswered(requests: readonly FetchRequest[], reason = 'it did not answer in time') {
  const request = `Fetch of ${requests.map(keyOf).join(', ')}`
  return kafkaError('KAFKA_UNREACHABLE', { broker: 'of the leader', request, reason })
}

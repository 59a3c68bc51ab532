/**
 * The log as one process sees it: every request and every answer takes its time on the network.
 * A request that was sent arrives even when its sender has died meanwhile; an answer reaches
 * only the living.
 */
import type { Database } from '../../../log/database.ts'
import { logError } from '../../../log/errors.ts'
import type {
  AppendReceipt,
  CommitRequest,
  EventLog,
  FetchRequest,
  FetchResponse,
  GroupMember,
  TopicConfig,
  TopicPartition,
  Transaction,
} from '../../../log/port.ts'
import { readBatchHeaders } from '../../../log/record-batch.ts'
import type { SimulatedProcess } from '../streams-group/time.ts'
import type { BrokerTransaction, SimulatedBroker } from './broker.ts'

export interface SimulatedLogOptions {
  readonly broker: SimulatedBroker
  readonly process: SimulatedProcess
  /** Of its transactions; a second process of the same name ends what the first left open. */
  readonly producer: string
  /** Where the state of an epoch is written, after its commit. */
  readonly database: Database
  /** Of one message. */
  readonly delayMs: () => number
  /** A fetch is sometimes answered without a partition that has something. */
  readonly pendingShare?: number
  /** Called before the state of a committed epoch is written. */
  readonly beforeState?: () => void
}

export class SimulatedLog implements EventLog {
  readonly incarnation: string
  /** Records fetched from changelogs. */
  changelogRecords = 0
  readonly #options: SimulatedLogOptions
  readonly #epoch: number
  #closed = false
  #producing: Promise<unknown> = Promise.resolve()
  /** Ends fetches that wait. */
  readonly #waits = new Set<() => void>()
  readonly #calls = new Set<Promise<unknown>>()

  constructor(options: SimulatedLogOptions) {
    this.#options = options
    this.incarnation = options.broker.incarnation
    this.#epoch = options.broker.initProducer(options.producer)
  }

  /** Calls that have no answer yet. */
  get callsOpen(): number {
    return this.#calls.size
  }

  /** Does something at the broker and brings back what came of it. */
  #call<T>(work: (broker: SimulatedBroker) => T | Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(logError('LOG_CLOSED'))
    const { broker, process, delayMs } = this.#options
    const call = async () => {
      const arrived = process.time.after(delayMs(), () => work(broker))
      try {
        const result = await arrived
        await process.after(delayMs(), () => {})
        return result
      } catch (error) {
        await process.after(delayMs(), () => {})
        throw error
      }
    }
    const made = call()
    this.#calls.add(made)
    const done = () => void this.#calls.delete(made)
    made.then(done, done)
    return made
  }

  createTopic(name: string, partitions: number, config?: Partial<TopicConfig>) {
    return this.#call(broker => broker.createTopic(name, partitions, config))
  }

  describeTopic(name: string) {
    return this.#call(broker => broker.describeTopic(name))
  }

  listTopics() {
    return this.#call(broker => broker.listTopics())
  }

  deleteTopic(name: string) {
    return this.#call(broker => broker.deleteTopic(name))
  }

  deleteRecords(target: TopicPartition, beforeOffset: number) {
    return this.#call(broker => broker.deleteRecords(target, beforeOffset))
  }

  offsets(targets: readonly TopicPartition[]) {
    return this.#call(broker => targets.map(target => broker.offsets(target)))
  }

  offsetForTimestamp(target: TopicPartition, timestampMs: number) {
    return this.#call(broker => broker.offsetForTimestamp(target, timestampMs))
  }

  committed(group: string, targets: readonly TopicPartition[], _member?: GroupMember) {
    return this.#call(async broker => {
      await broker.stableOffsets(group, targets)
      return targets.map(target => broker.committed(group, target))
    })
  }

  listGroups() {
    return this.#call(broker => broker.listGroups())
  }

  async fetch(
    requests: readonly FetchRequest[],
    { waitMsMax = 0, signal }: { waitMsMax?: number; signal?: AbortSignal } = {},
  ): Promise<readonly FetchResponse[]> {
    const { process, pendingShare = 0 } = this.#options
    const untilMs = process.environment.clock() + waitMsMax
    for (;;) {
      const responses = await this.#call(async broker => {
        const read = () => requests.map(request => broker.read(request))
        const ready = (list: FetchResponse[]) =>
          list.some(({ error, nextOffset }, i) => error || nextOffset > requests[i]!.offset)
        const found = read()
        if (ready(found) || process.time.nowMs >= untilMs || signal?.aborted) return found
        await this.#change(requests, untilMs, signal)
        return read()
      })
      const over = this.#closed || signal?.aborted || process.environment.clock() >= untilMs
      const got = responses.some(
        ({ error, nextOffset }, i) => error || nextOffset > requests[i]!.offset,
      )
      if (!got && !over) continue
      for (const { topic, bytes } of responses) {
        if (!topic.endsWith('-changelog')) continue
        for (const { recordCount } of readBatchHeaders(bytes)) this.changelogRecords += recordCount
      }
      if (waitMsMax === 0) return responses
      return responses.map((response, i) =>
        process.time.chance(pendingShare) ? unanswered(response, requests[i]!) : response,
      )
    }
  }

  /** Resolves when one of the partitions gets something, or the time is over. */
  #change(requests: readonly FetchRequest[], untilMs: number, signal?: AbortSignal): Promise<void> {
    const { broker, process } = this.#options
    const { time } = process
    return new Promise(resolve => {
      const end = () => {
        cancel()
        signal?.removeEventListener('abort', end)
        this.#waits.delete(end)
        for (const request of requests) broker.find(request)?.waiters.delete(end)
        resolve()
      }
      const cancel = time.schedule(end, untilMs - time.nowMs)
      signal?.addEventListener('abort', end)
      this.#waits.add(end)
      for (const request of requests) broker.find(request)?.waiters.add(end)
    })
  }

  begin(): Transaction {
    const appends: [TopicPartition, Buffer][] = []
    return {
      append: (target, batch) => void appends.push([target, batch]),
      commit: (request = {}) => {
        const before = this.#producing
        const done = (async () => {
          await before
          return this.#commit(appends, request)
        })()
        this.#producing = done.catch(() => {})
        return done
      },
      abort: async () => {},
    }
  }

  async exclusive(): Promise<never> {
    throw new Error('no engine writes so')
  }

  async #commit(
    appends: readonly [TopicPartition, Buffer][],
    request: CommitRequest,
  ): Promise<readonly AppendReceipt[]> {
    const { broker, producer, process, delayMs, database, beforeState } = this.#options
    const { offsets = [], state } = request
    let receipts: readonly AppendReceipt[] = []
    if (appends.length > 0 || offsets.length > 0) {
      const transaction = await this.#call(async () => {
        await broker.finished(producer)
        const begun = broker.begin(producer, this.#epoch)
        try {
          receipts = appends.map(([target, batch]) => broker.produce(begun, target, batch))
        } catch (error) {
          broker.end(begun, 'aborted')
          throw error
        }
        return begun
      })
      await this.#addOffsets(transaction, request)
      await this.#call(() => broker.end(transaction, 'committed'))
    }
    if (state !== undefined) {
      if (process.time.chance(0.3)) await process.after(delayMs(), () => {})
      beforeState?.()
      const batch = database.batch()
      state(receipts, batch)
      await batch.commit()
    }
    return receipts
  }

  async #addOffsets(transaction: BrokerTransaction, request: CommitRequest): Promise<void> {
    try {
      await this.#call(broker => broker.addOffsets(transaction, request))
    } catch (error) {
      await this.#call(broker => {
        if (transaction.state === 'open') broker.end(transaction, 'aborted')
      })
      throw error
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const end of [...this.#waits]) end()
    await Promise.allSettled(this.#calls)
  }
}

function unanswered(response: FetchResponse, { offset }: FetchRequest): FetchResponse {
  return { ...response, bytes: Buffer.alloc(0), nextOffset: offset, pending: true }
}

/**
 * Transactions of one transactional id, as of transaction.version 2 (KIP-890): partitions and
 * groups are enrolled by writing to them, and every end of a transaction gives the producer a new
 * epoch (in time a new id), so that whatever was late belongs to an epoch that is gone.
 *
 *     Produce ...  ->  TxnOffsetCommit  ->  EndTxn(commit)  ->  next epoch, sequences from 0
 *         │                  │                   │
 *         │                  │                   ├ refused: not committed
 *         │                  │                   └ no answer: asked again; in the end unknown
 *         └──────────────────┴ failed: EndTxn(abort), next epoch
 *
 * A transaction that ended without a definite answer is *unsettled*. Nothing else is sent until
 * `settle` has fixed its end: it asks for an abort, which the coordinator carries out or refuses
 * because the commit had come before. Either way the old epoch is closed (law 14).
 *
 * Fenced means that another producer opened the same transactional id, or that the coordinator
 * aborted the transaction after its timeout: this object is of no use then, its owner decides.
 */
import { assert, logError, type MillraceError } from '../errors.ts'
import type { AppendReceipt, LogEnvironment, TopicPartition } from '../port.ts'
import { corrupt } from '../record-batch.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode, kindOf } from './error-codes.ts'
import { kafkaError, refusalOf } from './errors.ts'
import { pause } from './pause.ts'
import { type OutgoingBatch, type ProducerIdentity, splitBatches } from './producer-batches.ts'
import { type Outcome, type Patience, ProducerCalls } from './producer-calls.ts'
import { offsetsError } from './producer-errors.ts'
import { Sender } from './producer-sender.ts'
import type { GroupOffsets, IdentityAnswer } from './producer-wire.ts'

export type { GroupOffsets } from './producer-wire.ts'

/** Law 3: a new owner waits for the open transaction of the old one no longer than this. */
const TIMEOUT_MS = 10_000
const OPEN_TIMEOUT_MS = 60_000
/**
 * Writing sooner after a commit finds its markers unwritten, which the broker answers after a pause
 * of its own, 20 ms (add.partitions.to.txn.retry.backoff.ms). Measured, small transactions back to
 * back, one broker: 36 ms each without this, 9 ms with it.
 */
const MARKERS_MS = 5
/** How long a failed transaction holds its error back to be aborted first. */
const ABORT_WAIT_MS = 2_000

export interface ProducerOptions {
  readonly cluster: Cluster
  /** One process at a time uses it: opening it fences whoever did before. */
  readonly transactionalId: string
  readonly environment: LogEnvironment
  /** Bound on a transaction, and on finding out how it ended; default 10 s. */
  readonly timeoutMs?: number
}

export interface TransactionRequest {
  /** Whole record batches, one or more an append. Owned by the producer from here on. */
  readonly appends: readonly { readonly target: TopicPartition; readonly batch: Buffer }[]
  readonly group?: GroupOffsets
  /**
   * Called when all is written, before the commit is asked for: with KAFKA_OUTCOME_UNKNOWN these
   * are the receipts if `settle` says that it was committed.
   */
  readonly onWritten?: (receipts: readonly ProducerReceipt[]) => void
}

export interface ProducerReceipt extends AppendReceipt {
  /** Of each batch of the append: between two of them there may be records of others. */
  readonly baseOffsets: readonly number[]
}

/** How the last commit without a definite answer ended; `none` when every one had an answer. */
export type Settlement = 'committed' | 'aborted' | 'none'

interface Current {
  readonly controller: AbortController
  sender: Sender | undefined
}

export class TransactionalProducer {
  readonly #options: Required<ProducerOptions>
  readonly #calls: ProducerCalls
  #identity: ProducerIdentity
  /** What the transaction without a definite end was to be. */
  #unsettled: 'commit' | 'abort' | undefined
  /** Kept: the next transaction may have settled the one before it, ahead of who asks. */
  #settlement: Settlement = 'none'
  #fenced: MillraceError | undefined
  #isClosed = false
  #current: Current | undefined
  #tail: Promise<unknown> = Promise.resolve()
  /** By the environment's clock. */
  #endedMs = -Infinity

  private constructor(
    options: Required<ProducerOptions>,
    calls: ProducerCalls,
    identity: ProducerIdentity,
  ) {
    this.#options = options
    this.#calls = calls
    this.#identity = identity
  }

  /**
   * Takes the transactional id over: the open transaction of whoever had it is aborted, and its
   * next request is refused. Rejects with KAFKA_UNREACHABLE or KAFKA_REFUSED.
   */
  static async open(options: ProducerOptions): Promise<TransactionalProducer> {
    const full = { timeoutMs: TIMEOUT_MS, ...options }
    const calls = new ProducerCalls(full)
    const untilMs = full.environment.clock() + OPEN_TIMEOUT_MS
    const identity = requireIdentity(full.transactionalId, await calls.init({ untilMs }))
    return new TransactionalProducer(full, calls, identity)
  }

  /** For logs and tests: who the brokers know this producer by, until the next transaction ends. */
  get identity(): ProducerIdentity {
    return this.#identity
  }

  /**
   * Commits all of it, or nothing. One at a time: further calls wait. Without appends and offsets
   * nothing is sent. Rejects with
   * - KAFKA_TRANSACTION_ABORTED, KAFKA_MEMBER_FENCED, BATCH_TOO_LARGE, TOPIC_MISSING,
   *   PARTITION_MISSING, KAFKA_REFUSED: nothing of it is or will be visible;
   * - KAFKA_PRODUCER_FENCED: as those, and this producer takes no more transactions;
   * - KAFKA_OUTCOME_UNKNOWN: it is committed or not; `settle` fixes which.
   */
  transact(request: TransactionRequest): Promise<readonly ProducerReceipt[]> {
    const { group } = request
    const isNamed = !group?.offsets.length || group.memberId !== ''
    assert(isNamed, 'offsets name a member (law 2), or a non-member by any name at epoch -1')
    return this.#inTurn(() => this.#transact(request))
  }

  /**
   * Fixes how the last transaction ended, if that is open, and tells how the last one did that
   * rejected with KAFKA_OUTCOME_UNKNOWN. Rejects with
   * - KAFKA_OUTCOME_UNKNOWN, or KAFKA_TRANSACTION_ABORTED where that much is known: the coordinator
   *   did not answer within the timeout; to be called again;
   * - KAFKA_PRODUCER_FENCED: the end is fixed, but this producer cannot know it.
   */
  settle(): Promise<Settlement> {
    return this.#inTurn(async () => {
      await this.#settle(this.#patience(this.#options.timeoutMs))
      return this.#settlement
    })
  }

  /**
   * Aborts the transaction under way, unless its commit was asked for already; its `transact`
   * rejects. Resolves when it is over.
   */
  async abort(): Promise<void> {
    const current = this.#current
    if (current === undefined) return
    const { transactionalId } = this.#options
    const reason = 'it was called off'
    current.controller.abort()
    current.sender?.fail(kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason }))
    await this.#tail
  }

  /** Leaves no open transaction, if its coordinator can be reached. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.abort()
    await this.#tail
    await this.#settle(this.#patience(ABORT_WAIT_MS)).catch(() => {})
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(() => {
      if (this.#isClosed) throw logError('LOG_CLOSED')
      return task()
    })
    this.#tail = turn.catch(() => {})
    return turn
  }

  #patience(forMs: number, signal?: AbortSignal): Patience {
    return { untilMs: this.#options.environment.clock() + forMs, signal }
  }

  async #transact(request: TransactionRequest): Promise<readonly ProducerReceipt[]> {
    const { appends, group } = request
    const batches = appends.map(({ target, batch }, i) => {
      const own = splitBatches(target, i, batch)
      if (own.length === 0) throw corrupt(0, 0, 'it is empty')
      return own
    })
    const hasOffsets = group !== undefined && group.offsets.length > 0
    if (batches.length === 0 && !hasOffsets) return []
    const current: Current = { controller: new AbortController(), sender: undefined }
    this.#current = current
    try {
      await this.#requireReady(current)
      try {
        await this.#write(batches.flat(), hasOffsets ? group : undefined, current)
        request.onWritten?.(batches.map(receiptOf))
        await this.#commit()
      } catch (error) {
        await this.#giveUp(error)
      }
    } finally {
      this.#current = undefined
    }
    return batches.map(receiptOf)
  }

  /** Before the first request of a transaction the one before it is over. */
  async #requireReady({ controller }: Current): Promise<void> {
    const { transactionalId, timeoutMs } = this.#options
    try {
      await this.#settle(this.#patience(timeoutMs, controller.signal))
    } catch (cause) {
      if (cause === this.#fenced) throw cause
      const reason = `nothing was sent, the one before it is not settled. ${messageOf(cause)}`
      throw kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason }, { cause })
    }
  }

  /** Offsets go last: their acknowledgement says that all before them are in the transaction. */
  async #write(
    batches: readonly OutgoingBatch[],
    group: GroupOffsets | undefined,
    current: Current,
  ): Promise<void> {
    const { transactionalId, timeoutMs } = this.#options
    const { environment } = this.#options
    const waitMs = this.#endedMs + MARKERS_MS - environment.clock()
    if (waitMs > 0) await pause(environment, waitMs, current.controller.signal)
    this.#requireWanted(current)
    const patience = this.#patience(timeoutMs, current.controller.signal)
    const onSend = () => {
      this.#unsettled = 'abort'
    }
    current.sender = new Sender(batches, { ...this.#options, identity: this.#identity, onSend })
    await current.sender.start()
    environment.reached?.('output-sent')
    if (group !== undefined) {
      onSend()
      const { answer, reason } = await this.#calls.commitOffsets(this.#identity, group, patience)
      if (answer === undefined) {
        throw kafkaError('KAFKA_TRANSACTION_ABORTED', {
          transactionalId,
          reason: `the offsets of group ${group.id} were not acknowledged: ${reason}`,
        })
      }
      if (answer.code !== 0) throw offsetsError(transactionalId, answer, group)
    }
    this.#requireWanted(current)
  }

  #requireWanted({ controller }: Current): void {
    if (!controller.signal.aborted) return
    const { transactionalId } = this.#options
    const reason = 'it was called off'
    throw kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason })
  }

  async #commit(): Promise<void> {
    const { transactionalId, timeoutMs } = this.#options
    this.#unsettled = 'commit'
    const outcome = await this.#calls.end(this.#identity, true, this.#patience(timeoutMs))
    const { answer, isUnsure, reason } = outcome
    if (answer?.errorCode === 0) {
      this.#adopt(answer)
      return
    }
    if (isUnsure) throw kafkaError('KAFKA_OUTCOME_UNKNOWN', { transactionalId, reason })
    this.#unsettled = 'abort'
    throw kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason })
  }

  /** Aborts what failed, for a while, and throws why it failed, or that the producer is fenced. */
  async #giveUp(error: unknown): Promise<never> {
    if (this.#unsettled === 'abort') {
      await this.#settle(this.#patience(ABORT_WAIT_MS)).catch(() => {})
      if (this.#fenced !== undefined) throw this.#fenced
    }
    throw error
  }

  #adopt({ producerId, epoch }: ProducerIdentity): void {
    this.#identity = { producerId, epoch }
    this.#unsettled = undefined
    this.#endedMs = this.#options.environment.clock()
  }

  /** Resolves when nothing is unsettled. */
  async #settle(patience: Patience): Promise<void> {
    if (this.#fenced !== undefined) throw this.#fenced
    if (this.#unsettled === undefined) return
    const wasCommit = this.#unsettled === 'commit'
    const isCommitted = await this.#endUnsettled(wasCommit, patience)
    if (wasCommit) this.#settlement = isCommitted ? 'committed' : 'aborted'
  }

  /** Aborts it, or finds it committed; true says committed. */
  async #endUnsettled(wasCommit: boolean, patience: Patience): Promise<boolean> {
    const aborted = await this.#calls.end(this.#identity, false, patience)
    switch (aborted.answer?.errorCode) {
      case ErrorCode.INVALID_TXN_STATE:
        // Of this epoch there is nothing to abort: it is committed, or nothing ever arrived.
        if (!wasCommit) break
        this.#adoptFrom(await this.#calls.end(this.#identity, true, patience))
        return true
      case ErrorCode.INVALID_PRODUCER_ID_MAPPING:
        // The coordinator has forgotten an id that was idle for days, or gave it away.
        if (wasCommit) this.#fence(aborted.reason)
        break
      default:
        this.#adoptFrom(aborted)
        return false
    }
    this.#adoptFrom(await this.#calls.init(patience, this.#identity))
    return false
  }

  /** Takes the identity that an answer has, or throws what the answer means. */
  #adoptFrom({ answer, reason }: Outcome<IdentityAnswer>): void {
    const { transactionalId } = this.#options
    if (answer === undefined) {
      const isKnown = this.#unsettled === 'abort'
      const code = isKnown ? 'KAFKA_TRANSACTION_ABORTED' : 'KAFKA_OUTCOME_UNKNOWN'
      throw kafkaError(code, { transactionalId, reason })
    }
    if (kindOf(answer.errorCode) === 'fenced') this.#fence(reason)
    if (answer.errorCode !== 0) {
      const request = `the end of the transaction of ${transactionalId}`
      throw refusalOf(request, answer.errorCode, { right: ['Write', transactionalId] })
    }
    this.#adopt(answer)
  }

  #fence(reason: string): never {
    const { transactionalId } = this.#options
    this.#fenced = kafkaError('KAFKA_PRODUCER_FENCED', { transactionalId, reason })
    throw this.#fenced
  }
}

function requireIdentity(
  transactionalId: string,
  { answer, reason }: Outcome<IdentityAnswer>,
): ProducerIdentity {
  if (answer?.errorCode === 0) {
    const { producerId, epoch } = answer
    return { producerId, epoch }
  }
  const request = `InitProducerId for ${transactionalId}`
  if (answer === undefined) {
    throw kafkaError('KAFKA_UNREACHABLE', { broker: 'of the coordinator', request, reason })
  }
  throw refusalOf(request, answer.errorCode, { right: ['Write', transactionalId] })
}

function receiptOf(batches: readonly OutgoingBatch[]): ProducerReceipt {
  const { topic, partition } = batches[0]!.target
  const baseOffsets = batches.map(batch => batch.baseOffset)
  const last = batches.at(-1)!
  return {
    topic,
    partition,
    baseOffset: baseOffsets[0]!,
    nextOffset: last.baseOffset + last.span,
    baseOffsets,
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

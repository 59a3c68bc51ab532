/**
 * The requests of a transactional producer to its coordinators, each sent again until the answer is
 * definite or the time is up.
 *
 * Sending again is safe: InitProducerId and TxnOffsetCommit have the same effect twice, and a
 * coordinator of transaction.version 2 knows a repeated EndTxn by its epoch, which the first one
 * has raised (KIP-890). But once an answer was lost, a refusal does not say any more that nothing
 * was done.
 */
import type { LogEnvironment } from '../port.ts'
import { type Cluster, type CoordinatorKind, isUnreachable } from './cluster.ts'
import { ErrorCode, isTransient, kindOf, nameOf } from './error-codes.ts'
import { pause } from './pause.ts'
import type { ProducerIdentity } from './producer-batches.ts'
import { retryDelayMs } from './producer-errors.ts'
import {
  endTxnV5,
  type GroupOffsets,
  type IdentityAnswer,
  initProducerIdV5,
  type OffsetVerdict,
  txnOffsetCommitV5,
} from './producer-wire.ts'

export interface CallsOptions {
  readonly cluster: Cluster
  readonly environment: LogEnvironment
  readonly transactionalId: string
  /** After this the coordinator aborts a transaction by itself. */
  readonly timeoutMs: number
}

/** How long to try; both by the environment's clock. */
export interface Patience {
  readonly untilMs: number
  readonly signal?: AbortSignal
}

export interface Outcome<Answer> {
  /** The definite answer; undefined when there was none in time. */
  readonly answer: Answer | undefined
  /** A request before it may have been carried out, though no answer says so. */
  readonly isUnsure: boolean
  /** For messages: the last refusal, or why there was no answer. */
  readonly reason: string
}

interface Call<Answer> {
  readonly kind: CoordinatorKind
  readonly key: string
  readonly send: (node: number) => Promise<Answer>
  readonly codeOf: (answer: Answer) => number
}

const NOBODY: ProducerIdentity = { producerId: -1, epoch: -1 }

export class ProducerCalls {
  readonly #options: CallsOptions

  constructor(options: CallsOptions) {
    this.#options = options
  }

  /**
   * Without `current`: takes the transactional id over, ends its open transaction and fences
   * whoever had it. With it: goes on from there, and is refused when somebody else took over.
   */
  init(patience: Patience, current = NOBODY): Promise<Outcome<IdentityAnswer>> {
    const { cluster, transactionalId, timeoutMs } = this.#options
    return this.#repeat(patience, {
      kind: 'transaction',
      key: transactionalId,
      send: node => {
        const args = [transactionalId, timeoutMs, current] as const
        return cluster.call(node, 'coordinator', initProducerIdV5, ...args)
      },
      codeOf: answer => answer.errorCode,
    })
  }

  /** Ends the open transaction; the answer has the identity of the next. */
  end(
    identity: ProducerIdentity,
    isCommit: boolean,
    patience: Patience,
  ): Promise<Outcome<IdentityAnswer>> {
    const { cluster, transactionalId } = this.#options
    return this.#repeat(patience, {
      kind: 'transaction',
      key: transactionalId,
      send: node => {
        const args = [transactionalId, identity, isCommit] as const
        return cluster.call(node, 'coordinator', endTxnV5, ...args)
      },
      codeOf: answer => answer.errorCode,
    })
  }

  /** Adds offsets to the transaction. The answer is of one that was refused, if any. */
  async commitOffsets(
    identity: ProducerIdentity,
    group: GroupOffsets,
    patience: Patience,
  ): Promise<Outcome<OffsetVerdict>> {
    const { cluster, transactionalId } = this.#options
    return this.#repeat(patience, {
      kind: 'group',
      key: group.id,
      send: async node => {
        const args = [transactionalId, identity, group] as const
        return worstOf(await cluster.call(node, 'coordinator', txnOffsetCommitV5, ...args))
      },
      codeOf: ({ code }) => code,
    })
  }

  async #repeat<Answer>(patience: Patience, call: Call<Answer>): Promise<Outcome<Answer>> {
    const { cluster, environment } = this.#options
    let isUnsure = false
    let reason = 'there was no answer in time'
    for (let failures = 0; ; failures++) {
      let wasSent = false
      try {
        const coordinator = cluster.coordinator(call.kind, call.key)
        const node = await this.#within(patience.untilMs, coordinator)
        if (node === undefined) return { answer: undefined, isUnsure, reason }
        wasSent = true
        const answer = await this.#within(patience.untilMs, call.send(node))
        if (answer === undefined) return { answer, isUnsure: true, reason }
        const code = call.codeOf(answer)
        if (code === 0) return { answer, isUnsure, reason: '' }
        reason = nameOf(code)
        if (!isTransient(code) && code !== ErrorCode.UNKNOWN_SERVER_ERROR) {
          return { answer, isUnsure, reason }
        }
        // CONCURRENT_TRANSACTIONS alone says that this request was not carried out.
        isUnsure ||= code !== ErrorCode.CONCURRENT_TRANSACTIONS
        if (kindOf(code) === 'refresh') cluster.staleCoordinator(call.kind, call.key)
      } catch (error) {
        const { message, details } = error as { message: string; details?: { sent?: boolean } }
        reason = message
        isUnsure ||= wasSent && details?.sent !== false
        if (!isUnreachable(error)) {
          // Whatever it was, an EndTxn under way may have arrived.
          if (isUnsure) return { answer: undefined, isUnsure, reason }
          throw error
        }
        cluster.staleCoordinator(call.kind, call.key)
      }
      const delayMs = retryDelayMs(failures)
      const isLate = environment.clock() + delayMs >= patience.untilMs
      if (isLate || patience.signal?.aborted) return { answer: undefined, isUnsure, reason }
      await pause(environment, delayMs, patience.signal)
    }
  }

  /** Undefined when the time is up first; the answer is not waited for then. */
  #within<T>(untilMs: number, answer: Promise<T>): Promise<T | undefined> {
    const { environment } = this.#options
    return new Promise((resolve, reject) => {
      const leftMs = Math.max(0, untilMs - environment.clock())
      const cancel = environment.schedule(() => resolve(undefined), leftMs)
      answer.then(resolve, reject).finally(cancel)
    })
  }
}

const NO_OBJECTION: OffsetVerdict = { code: 0, topic: '' }

/** One for a request's partitions: what cannot be mended goes before what may pass. */
function worstOf(verdicts: readonly OffsetVerdict[]): OffsetVerdict {
  const refused = verdicts.filter(({ code }) => code !== 0)
  return refused.find(({ code }) => !isTransient(code)) ?? refused[0] ?? NO_OBJECTION
}

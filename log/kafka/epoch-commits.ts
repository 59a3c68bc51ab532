/**
 * Commits with state: the transaction, and strictly after its end is acknowledged, the state. A
 * crash in between leaves the state behind the log, never ahead of it: the changelogs' tail brings
 * it up again.
 */
import type { Database, WriteBatch } from '../database.ts'
import { assert } from '../errors.ts'
import type { AppendReceipt, CommitRequest, LogEnvironment } from '../port.ts'
import { kafkaError } from './errors.ts'
import type { TransactionRequest } from './producer.ts'
import type { Producing } from './producer-seat.ts'

export class EpochCommits {
  readonly #producer: Producing
  readonly #database: Database | undefined
  readonly #reached: LogEnvironment['reached']
  #tail: Promise<unknown> = Promise.resolve()
  #failures = 0

  constructor(
    producer: Producing,
    database: Database | undefined,
    reached?: LogEnvironment['reached'],
  ) {
    this.#producer = producer
    this.#database = database
    this.#reached = reached
  }

  /**
   * One at a time. Rejects as the producer does, and with KAFKA_STATE_UNWRITTEN when only the
   * state is missing; those that wait behind it were made on top of it, and fail with it (law 14).
   */
  commit(
    request: TransactionRequest,
    state: CommitRequest['state'],
  ): Promise<readonly AppendReceipt[]> {
    assert(state === undefined || this.#database !== undefined, 'state is written to a database')
    const { transactionalId } = this.#producer
    const failures = this.#failures
    const turn = this.#tail.then(() => {
      if (failures === this.#failures) return this.#commit(request, state)
      const reason = 'nothing was sent, the one before it failed'
      throw kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason })
    })
    this.#tail = turn.catch(() => {
      this.#failures++
    })
    return turn
  }

  async #commit(
    request: TransactionRequest,
    state: CommitRequest['state'],
  ): Promise<readonly AppendReceipt[]> {
    const receipts = await this.#producer.transact(request)
    this.#reached?.('endtxn-acked')
    if (state !== undefined) await this.#write(batch => state(receipts, batch))
    return receipts
  }

  async #write(fill: (batch: WriteBatch) => void): Promise<void> {
    const batch = this.#database!.batch()
    try {
      fill(batch)
      await batch.commit()
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw kafkaError('KAFKA_STATE_UNWRITTEN', { reason }, { cause })
    } finally {
      batch.discard()
    }
  }
}

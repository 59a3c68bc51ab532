/** The place of the one producer of a transactional id: opened when needed, anew once fenced. */
import { MillraceError } from '../errors.ts'
import type { AppendReceipt } from '../port.ts'
import { kafkaError } from './errors.ts'
import { type ProducerOptions, TransactionalProducer, type TransactionRequest } from './producer.ts'

/** What commits see of it. */
export interface Producing {
  readonly transactionalId: string
  transact(request: TransactionRequest): Promise<readonly AppendReceipt[]>
}

export class ProducerSeat implements Producing {
  readonly #options: ProducerOptions
  #producer: Promise<TransactionalProducer> | undefined

  constructor(options: ProducerOptions) {
    this.#options = options
  }

  get transactionalId(): string {
    return this.#options.transactionalId
  }

  producer(): Promise<TransactionalProducer> {
    if (this.#producer === undefined) {
      const opening = TransactionalProducer.open(this.#options)
      this.#producer = opening
      opening.catch(() => this.#leave(opening))
    }
    return this.#producer
  }

  /**
   * As the producer's, but a commit without an answer is settled first: it rejects with
   * KAFKA_OUTCOME_UNKNOWN only when that cannot be done in time, or the producer was fenced.
   */
  async transact(request: TransactionRequest): Promise<readonly AppendReceipt[]> {
    const opening = this.producer()
    const producer = await opening
    let written: readonly AppendReceipt[] = []
    const onWritten = (receipts: readonly AppendReceipt[]) => {
      written = receipts
      this.#options.environment.reached?.('offsets-added')
    }
    try {
      return await producer.transact({ ...request, onWritten })
    } catch (error) {
      if (hasCode(error, 'KAFKA_PRODUCER_FENCED')) this.#leave(opening)
      if (!hasCode(error, 'KAFKA_OUTCOME_UNKNOWN')) throw error
      if (await this.#isCommitted(opening, error)) return written
      const { transactionalId } = this
      const reason = `its commit had no answer and was not carried out: ${error.details.reason}`
      throw kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason }, { cause: error })
    }
  }

  async #isCommitted(
    opening: Promise<TransactionalProducer>,
    unknown: MillraceError,
  ): Promise<boolean> {
    try {
      const producer = await opening
      return (await producer.settle()) === 'committed'
    } catch (error) {
      if (hasCode(error, 'KAFKA_PRODUCER_FENCED')) this.#leave(opening)
      throw unknown
    }
  }

  async close(): Promise<void> {
    const producer = await this.#producer?.catch(() => undefined)
    await producer?.close()
  }

  #leave(opening: Promise<TransactionalProducer>): void {
    if (this.#producer === opening) this.#producer = undefined
  }
}

function hasCode(error: unknown, code: string): error is MillraceError {
  return error instanceof MillraceError && error.code === code
}

/** The place of the one producer of a transactional id: opened when needed, anew once fenced. */
import { MillraceError } from '../errors.ts'
import type { AppendReceipt } from '../port.ts'
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

  async transact(request: TransactionRequest): Promise<readonly AppendReceipt[]> {
    const opening = this.producer()
    const producer = await opening
    try {
      return await producer.transact(request)
    } catch (error) {
      if (error instanceof MillraceError && error.code === 'KAFKA_PRODUCER_FENCED') {
        this.#leave(opening)
      }
      throw error
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

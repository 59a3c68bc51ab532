/**
 * Appends that belong to no epoch: events posted over HTTP, imports, replays. They have a producer
 * of their own, so that they do not wait for epochs nor epochs for them, and all that wait while
 * one transaction commits go into the next one together.
 */
import { logError, MillraceError } from '../errors.ts'
import type { AppendReceipt } from '../port.ts'
import type { GroupOffsets } from './producer.ts'
import type { Producing } from './producer-seat.ts'
import type { PendingAppend } from './transaction.ts'

/** Of one transaction; a single larger one goes alone. */
const TRANSACTION_BYTES_MAX = 4 << 20
const WAITING_BYTES_MAX = 64 << 20

interface Waiting {
  readonly appends: readonly PendingAppend[]
  readonly group: GroupOffsets | undefined
  readonly sizeBytes: number
  readonly resolve: (receipts: readonly AppendReceipt[]) => void
  readonly reject: (error: unknown) => void
}

export class Appender {
  readonly #producer: Producing
  #waiting: Waiting[] = []
  #waitingBytes = 0
  #running: Promise<void> | undefined

  constructor(producer: Producing) {
    this.#producer = producer
  }

  /** Commits in the order of the calls. Rejects with LOG_BUSY when too much waits. */
  append(
    appends: readonly PendingAppend[],
    group?: GroupOffsets,
  ): Promise<readonly AppendReceipt[]> {
    const sizeBytes = appends.reduce((sum, { batch }) => sum + batch.length, 0)
    if (this.#waitingBytes > 0 && this.#waitingBytes + sizeBytes > WAITING_BYTES_MAX) {
      return Promise.reject(logError('LOG_BUSY', { waitingBytes: this.#waitingBytes }))
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ appends, group, sizeBytes, resolve, reject })
      this.#waitingBytes += sizeBytes
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined
      })
    })
  }

  async #run(): Promise<void> {
    // What is called in the same turn goes together.
    await undefined
    while (this.#waiting.length > 0) {
      const together = this.#next()
      await this.#commit(together)
      for (const { sizeBytes } of together) this.#waitingBytes -= sizeBytes
    }
  }

  /** The oldest, and those after it that may share its transaction. */
  #next(): readonly Waiting[] {
    let sizeBytes = 0
    let count = 0
    for (const waiting of this.#waiting) {
      sizeBytes += waiting.sizeBytes
      const isAlone = waiting.group !== undefined
      if (count > 0 && (isAlone || sizeBytes > TRANSACTION_BYTES_MAX)) break
      count++
      if (isAlone) break
    }
    return this.#waiting.splice(0, count)
  }

  async #commit(together: readonly Waiting[]): Promise<void> {
    const [first] = together
    try {
      const appends = together.flatMap(waiting => waiting.appends)
      const receipts = await this.#producer.transact({ appends, group: first!.group })
      let next = 0
      for (const { appends: own, resolve } of together) {
        resolve(receipts.slice(next, next + own.length))
        next += own.length
      }
    } catch (error) {
      if (together.length > 1 && isOfOne(error)) {
        for (const waiting of together) await this.#commit([waiting])
      } else for (const { reject } of together) reject(error)
    }
  }
}

/** A definite refusal that one of the appends has caused: the others can do without it. */
function isOfOne(error: unknown): boolean {
  if (!(error instanceof MillraceError)) return false
  return error.recovery !== 'retry' && !/^KAFKA_(OUTCOME|PRODUCER)/.test(error.code)
}

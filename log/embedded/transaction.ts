/** A transaction of the embedded log: a list, until the writer takes it. */
import { assert, logError, MillraceError } from '../errors.ts'
import type { AppendReceipt, CommitRequest, TopicPartition, Transaction } from '../port.ts'
import { type BatchHeader, readBatchHeaders } from '../record-batch.ts'
import { checkGroup } from '../topics.ts'
import type { PendingAppend, Writer } from './writer.ts'

export class EmbeddedTransaction implements Transaction {
  readonly #writer: Pick<Writer, 'commit'>
  readonly #isClosed: () => boolean
  #appends: PendingAppend[] = []
  #error: MillraceError | undefined
  #ended = false

  constructor(writer: Pick<Writer, 'commit'>, isClosed: () => boolean) {
    this.#writer = writer
    this.#isClosed = isClosed
  }

  append(target: TopicPartition, batch: Buffer): void {
    assert(!this.#ended, 'a transaction that has ended takes no more')
    try {
      const { topic, partition } = target
      this.#appends.push({ target: { topic, partition }, bytes: batch, headers: readAll(batch) })
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      this.#error ??= error
    }
  }

  async commit(request: CommitRequest = {}): Promise<readonly AppendReceipt[]> {
    assert(!this.#ended, 'a transaction ends once')
    this.#ended = true
    assert(!request.offsets?.length || request.group !== undefined, 'offsets belong to a group')
    if (this.#isClosed()) throw logError('LOG_CLOSED')
    if (this.#error) throw this.#error
    if (request.group !== undefined) checkGroup(request.group)
    for (const { topic, partition, offset } of request.offsets ?? []) {
      assert(Number.isSafeInteger(offset) && offset >= 0, `${topic}-${partition} has an offset`)
    }
    if (this.#appends.length === 0 && !request.offsets?.length && !request.state) return []
    return this.#writer.commit(this.#appends, request)
  }

  async abort(): Promise<void> {
    this.#ended = true
    this.#appends = []
  }
}

function readAll(batch: Buffer): BatchHeader[] {
  const headers = readBatchHeaders(batch)
  if (headers.length === 0 || headers[headers.length - 1].end !== batch.length) {
    const position = headers.at(-1)?.end ?? 0
    throw logError('BATCH_CORRUPT', { position, baseOffset: 0, reason: 'it is cut off' })
  }
  return headers
}

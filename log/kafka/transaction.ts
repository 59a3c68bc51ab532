/** A transaction of the log port: a list, checked, until the log commits it. */
import { assert, logError, MillraceError } from '../errors.ts'
import type { AppendReceipt, CommitRequest, TopicPartition, Transaction } from '../port.ts'
import { readBatchHeaders } from '../record-batch.ts'
import { checkGroup } from '../topics.ts'

export interface PendingAppend {
  readonly target: TopicPartition
  readonly batch: Buffer
}

export type CommitTransaction = (
  appends: readonly PendingAppend[],
  request: CommitRequest,
) => Promise<readonly AppendReceipt[]>

export class KafkaTransaction implements Transaction {
  readonly #commit: CommitTransaction
  #appends: PendingAppend[] = []
  #error: MillraceError | undefined
  #ended = false

  constructor(commit: CommitTransaction) {
    this.#commit = commit
  }

  append({ topic, partition }: TopicPartition, batch: Buffer): void {
    assert(!this.#ended, 'a transaction that has ended takes no more')
    try {
      checkWhole(batch)
      this.#appends.push({ target: { topic, partition }, batch })
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      this.#error ??= error
    }
  }

  async commit(request: CommitRequest = {}): Promise<readonly AppendReceipt[]> {
    assert(!this.#ended, 'a transaction ends once')
    this.#ended = true
    assert(!request.offsets?.length || request.group !== undefined, 'offsets belong to a group')
    if (this.#error) throw this.#error
    if (request.group !== undefined) checkGroup(request.group)
    for (const { topic, partition, offset } of request.offsets ?? []) {
      assert(Number.isSafeInteger(offset) && offset >= 0, `${topic}-${partition} has an offset`)
    }
    return this.#commit(this.#appends, request)
  }

  async abort(): Promise<void> {
    this.#ended = true
    this.#appends = []
  }
}

function checkWhole(batch: Buffer): void {
  const last = readBatchHeaders(batch).at(-1)
  if (last?.end === batch.length) return
  const position = last?.end ?? 0
  throw logError('BATCH_CORRUPT', { position, baseOffset: 0, reason: 'it is cut off' })
}

/**
 * The one writer: every change passes its queue, and offsets are given in the order in which
 * batches enter the database (law 20). Transactions that wait together become one database
 * write, so each is atomic and none waits for its own turn at the disk.
 */
import type { Database, WriteBatch } from '../database.ts'
import { logError, type MillraceError } from '../errors.ts'
import type { AppendReceipt, CommitRequest, TopicPartition } from '../port.ts'
import { type BatchHeader, rebase } from '../record-batch.ts'
import { batchKey, encodeGroupOffset, encodeOffset, groupKey, timeKey } from './keys.ts'
import type { Partition, TailBudget } from './partition.ts'

const GROUP_BYTES_MAX = 8 << 20
const GROUP_TRANSACTIONS_MAX = 1024
const QUEUE_BYTES_MAX = 256 << 20

export interface PendingAppend {
  readonly target: TopicPartition
  readonly bytes: Buffer
  /** Of each batch in `bytes`. */
  readonly headers: readonly BatchHeader[]
}

/** What the writer needs of the log. */
export interface WriterHost {
  readonly database: Database
  readonly tail: TailBudget
  /** Throws what is wrong with the name. */
  partition(target: TopicPartition): Partition
  batchBytesMax(topic: string): number
  /** Reads the end of a partition from its data, after a write whose outcome is unknown. */
  recover(partition: Partition): Promise<void>
}

interface Write {
  readonly appends: readonly PendingAppend[]
  readonly request: CommitRequest
  readonly bytes: number
  readonly resolve: (receipts: readonly AppendReceipt[]) => void
  readonly reject: (error: unknown) => void
}

interface Task {
  /** Never rejects: its outcome goes to its own promise. */
  readonly run: () => Promise<void>
}

type Job = Write | Task

interface StagedWrite {
  readonly write: Write
  readonly receipts: readonly AppendReceipt[]
}

export class Writer {
  readonly #host: WriterHost
  #queue: Job[] = []
  #waitingBytes = 0
  #running: Promise<void> | undefined
  #failure: MillraceError | undefined

  constructor(host: WriterHost) {
    this.#host = host
  }

  commit(
    appends: readonly PendingAppend[],
    request: CommitRequest,
  ): Promise<readonly AppendReceipt[]> {
    let bytes = 0
    for (const append of appends) bytes += append.bytes.length
    if (this.#waitingBytes > 0 && this.#waitingBytes + bytes > QUEUE_BYTES_MAX) {
      return Promise.reject(logError('LOG_BUSY', { waitingBytes: this.#waitingBytes }))
    }
    this.#waitingBytes += bytes
    return new Promise((resolve, reject) => {
      this.#push({ appends, request, bytes, resolve, reject })
    })
  }

  /** Runs a task alone: no transaction is being written meanwhile. */
  exclusive<T>(task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#push({
        run: async () => {
          try {
            if (this.#failure) throw this.#failure
            resolve(await task())
          } catch (error) {
            reject(error)
          }
        },
      })
    })
  }

  /** Resolves when everything queued so far has been decided. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running
  }

  #push(job: Job): void {
    this.#queue.push(job)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    // One turn of the microtask queue, so that transactions of the same tick go together.
    await undefined
    while (this.#queue.length > 0) {
      const first = this.#queue[0]
      if ('run' in first) {
        this.#queue.shift()
        await first.run()
      } else await this.#settleGroup(this.#takeGroup())
    }
    this.#running = undefined
  }

  /** Whatever happens to a group, its transactions are told and the writer goes on. */
  async #settleGroup(group: readonly Write[]): Promise<void> {
    try {
      await this.#writeGroup(group)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      this.#failure = logError('LOG_STOPPED', { reason }, { cause })
      for (const write of group) write.reject(this.#failure)
    }
  }

  /**
   * Only the first of a group may have a `state` callback: if it throws, nothing else is lost,
   * and it is called exactly once.
   */
  #takeGroup(): Write[] {
    const group: Write[] = []
    let bytes = 0
    for (const job of this.#queue) {
      if ('run' in job || group.length === GROUP_TRANSACTIONS_MAX) break
      if (group.length > 0 && (job.request.state || bytes + job.bytes > GROUP_BYTES_MAX)) break
      group.push(job)
      bytes += job.bytes
    }
    this.#queue.splice(0, group.length)
    this.#waitingBytes -= bytes
    return group
  }

  async #writeGroup(group: readonly Write[]): Promise<void> {
    if (this.#failure) {
      for (const write of group) write.reject(this.#failure)
      return
    }
    const touched = new Set<Partition>()
    let batch = this.#host.database.batch()
    const staged: StagedWrite[] = []
    for (const write of group) {
      try {
        staged.push({ write, receipts: this.#stage(write, batch, touched) })
      } catch (error) {
        write.reject(error)
        if (!write.request.state) continue
        // The callback may have left a part of its writes behind; it is first, so start over.
        batch.discard()
        for (const partition of touched) partition.rollback()
        touched.clear()
        batch = this.#host.database.batch()
      }
    }
    if (staged.length === 0) {
      batch.discard()
      return
    }
    try {
      if (batch.size > 0) await batch.commit()
      else batch.discard()
    } catch (cause) {
      batch.discard()
      await this.#fail(staged, touched, cause)
      return
    }
    this.#publish(touched)
    for (const { write, receipts } of staged) write.resolve(receipts)
  }

  /** Adds one transaction to the batch. Throws before it has changed anything, but for `state`. */
  #stage(write: Write, batch: WriteBatch, touched: Set<Partition>): AppendReceipt[] {
    const { group, offsets = [], state } = write.request
    const partitions = write.appends.map(append => this.#host.partition(append.target))
    const committed = offsets.map(offset => this.#host.partition(offset))
    for (const append of write.appends) checkSize(append, this.#host)
    const receipts = write.appends.map((append, i) => {
      const partition = partitions[i]
      touched.add(partition)
      const baseOffset = partition.stagedEnd
      for (const header of append.headers) stageBatch(partition, append.bytes, header, batch)
      return { ...append.target, baseOffset, nextOffset: partition.stagedEnd }
    })
    for (let i = 0; i < offsets.length; i++) {
      const value = encodeGroupOffset(offsets[i].offset, offsets[i].metadata)
      batch.put(groupKey(group as string, committed[i].id), value)
    }
    state?.(receipts, batch)
    return receipts
  }

  #publish(touched: ReadonlySet<Partition>): void {
    for (const partition of touched) this.#host.tail.add(partition, partition.publish())
    for (const partition of touched) partition.wake()
  }

  async #fail(
    staged: readonly StagedWrite[],
    touched: ReadonlySet<Partition>,
    cause: unknown,
  ): Promise<void> {
    for (const partition of touched) partition.rollback()
    const reason = cause instanceof Error ? cause.message : String(cause)
    const failure = logError('LOG_WRITE_FAILED', { reason }, { cause })
    try {
      for (const partition of touched) await this.#host.recover(partition)
    } catch {
      // Neither written nor readable: what the ends are is not known any more.
      this.#failure = logError('LOG_STOPPED', { reason }, { cause })
    }
    for (const { write } of staged) write.reject(failure)
  }
}

function checkSize(append: PendingAppend, host: WriterHost): void {
  const limit = host.batchBytesMax(append.target.topic)
  for (const { start, end } of append.headers) {
    if (end - start > limit) {
      throw logError('BATCH_TOO_LARGE', { ...append.target, size: end - start, limit })
    }
  }
}

function stageBatch(
  partition: Partition,
  bytes: Buffer,
  header: BatchHeader,
  batch: WriteBatch,
): void {
  const baseOffset = partition.stagedEnd
  const part =
    header.start === 0 && header.end === bytes.length
      ? bytes
      : bytes.subarray(header.start, header.end)
  rebase(part, baseOffset)
  batch.put(batchKey(partition.id, baseOffset), part)
  if (partition.stage(header, part)) {
    batch.put(timeKey(partition.id, header.maxTimestamp), encodeOffset(baseOffset))
  }
}

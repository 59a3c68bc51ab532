/**
 * The log port: what the engine asks of an event log. Drivers: `log/embedded` (one machine,
 * on the instance's own database) and, later, `log/kafka`. Both pass `test/conformance/`.
 *
 * Records travel as Kafka record batches v2 (`record-batch.ts`), raw, in both directions.
 * Offsets and timestamps are JS numbers: safe to 2^53 (docs/decisions/0001).
 */
import type { WriteBatch } from './database.ts'

export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

export interface TopicConfig {
  /** `delete` drops old segments by retention, `compact` keeps the last record of each key. */
  readonly cleanup: 'delete' | 'compact'
  /** Records older than this (record timestamp) may go; -1 keeps them for ever. */
  readonly retentionMs: number
  /** How long a tombstone survives compaction, so that a lagging reader still sees it. */
  readonly deleteRetentionMs: number
  /** Largest record batch accepted, bytes. */
  readonly batchBytesMax: number
}

export interface TopicDescription {
  readonly name: string
  /** Changes when a topic of the same name is created anew. */
  readonly id: string
  readonly partitions: number
  readonly config: TopicConfig
}

export interface FetchRequest extends TopicPartition {
  /** First offset wanted. */
  readonly offset: number
  /** Soft limit: at least one batch is returned when there is one. */
  readonly bytesMax: number
}

export interface FetchResponse extends TopicPartition {
  /**
   * Whole batches back to back; the first may begin before the requested offset. Shared with
   * the log: it is not to be changed, and to be copied before it is appended anywhere.
   */
  readonly bytes: Buffer
  /** End of what a read_committed reader may see. */
  readonly endOffset: number
  readonly startOffset: number
  /** Set instead of `bytes`: the request named something the log does not hold. */
  readonly error?: 'unknown-topic' | 'offset-out-of-range'
}

export interface OffsetRange {
  readonly startOffset: number
  readonly endOffset: number
}

/** What a group has committed for a partition; `metadata` is the committer's own text. */
export interface CommittedOffset extends TopicPartition {
  /** The next offset to read. */
  readonly offset: number
  readonly metadata: string
}

export interface AppendReceipt extends TopicPartition {
  /** Offset given to the batch's first record. */
  readonly baseOffset: number
  /** Offset after its last record. */
  readonly nextOffset: number
}

export interface CommitRequest {
  readonly group?: string
  readonly offsets?: readonly CommittedOffset[]
  /**
   * Called once the offsets of all appends are known, in append order, to add the state
   * writes of the epoch. The embedded log commits them in the same atomic write; a driver
   * without a shared database commits them strictly after the transaction.
   */
  readonly state?: (receipts: readonly AppendReceipt[], batch: WriteBatch) => void
}

/** One atomic change over many partitions. Readers see all of it or nothing. */
export interface Transaction {
  /**
   * Queues one or more whole record batches for a partition. The log owns the buffer from here
   * on and writes the base offset into it; its other bytes stay as they are. Errors, also of
   * this call's arguments, come out of `commit`.
   */
  append(target: TopicPartition, batch: Buffer): void
  /** Resolves when durable. After a rejection nothing of it is visible. */
  commit(request?: CommitRequest): Promise<readonly AppendReceipt[]>
  abort(): Promise<void>
}

export interface EventLog {
  /** Changes when the log may have lost an acknowledged tail (law 20). */
  readonly incarnation: string
  createTopic(
    name: string,
    partitions: number,
    config?: Partial<TopicConfig>,
  ): Promise<TopicDescription>
  describeTopic(name: string): Promise<TopicDescription | undefined>
  listTopics(): Promise<readonly TopicDescription[]>
  deleteTopic(name: string): Promise<void>
  /** Moves the start of a partition forward; what lies before is gone. */
  deleteRecords(target: TopicPartition, beforeOffset: number): Promise<void>
  /**
   * Returns what is there, at once when any request has data, else after `waitMsMax` or when
   * `signal` aborts, whichever is first. All partitions are read at one moment, between
   * transactions.
   */
  fetch(
    requests: readonly FetchRequest[],
    options?: { waitMsMax?: number; signal?: AbortSignal },
  ): Promise<readonly FetchResponse[]>
  offsets(targets: readonly TopicPartition[]): Promise<readonly OffsetRange[]>
  /** First offset whose record timestamp is at or after `timestampMs`, or the end offset. */
  offsetForTimestamp(target: TopicPartition, timestampMs: number): Promise<number>
  committed(
    group: string,
    targets: readonly TopicPartition[],
  ): Promise<readonly (CommittedOffset | null)[]>
  listGroups(): Promise<readonly string[]>
  begin(): Transaction
  close(): Promise<void>
}

/** A log from which single batches are read by their base offset: blocks of a store. */
export interface BatchReader {
  /** One round trip for all; null where no batch begins at that offset. Order follows. */
  readBatches(
    target: TopicPartition,
    baseOffsets: readonly number[],
  ): Promise<readonly (Buffer | null)[]>
}

/** Effects a driver may use: the caller's clock and timers, so that a simulation can own them. */
export interface LogEnvironment {
  readonly clock: () => number
  /** Runs `task` after `delayMs`; the result cancels it. */
  readonly schedule: (task: () => void, delayMs: number) => () => void
  /** Cryptographic or seeded, as the caller decides. */
  readonly randomBytes: (size: number) => Buffer
}

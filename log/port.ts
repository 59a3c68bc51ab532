/**
 * The log port: what the engine asks of an event log. Drivers: `log/embedded` (one machine,
 * on the instance's own database) and `log/kafka` (Apache Kafka). Both pass `test/conformance/`.
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
  /**
   * Settings, `name=value`, by which the topic loses or changes records by itself, where others
   * can set them: retention, and times of the broker's clock. Compaction is none of them.
   */
  readonly hazards?: readonly string[]
}

export interface FetchRequest extends TopicPartition {
  /** First offset wanted. */
  readonly offset: number
  /** Soft limit: at least one batch is returned when there is one. */
  readonly bytesMax: number
}

export interface FetchResponse extends TopicPartition {
  /**
   * Whole batches back to back, none of them of an aborted transaction; the first may begin
   * before the requested offset. Shared with the log: it is not to be changed, and to be copied
   * before it is appended anywhere.
   */
  readonly bytes: Buffer
  /**
   * Where to read on after `bytes`: past them, and past what no reader gets to see, such as
   * aborted transactions and their markers. So it may be beyond the requested offset without
   * bytes. A reader that finds `bytes` corrupt goes by what it could read instead.
   */
  readonly nextOffset: number
  /** End of what a read_committed reader may see. */
  readonly endOffset: number
  readonly startOffset: number
  /** Set instead of `bytes`: the request named something the log does not hold. */
  readonly error?: 'unknown-topic' | 'offset-out-of-range'
  /**
   * True when the partition's broker has not answered in time: nothing is known about what the
   * partition holds now, and the offsets are those last heard (-1: never).
   */
  readonly pending?: boolean
}

export interface OffsetRange {
  readonly startOffset: number
  /** End of what a read_committed reader may see: the last stable offset. */
  readonly endOffset: number
  /**
   * End of all that is in the log, transactions under way included: a restore ends when a
   * read_committed reader has passed it (law 3).
   */
  readonly highWatermark: number
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

/** A member of a group, at one epoch of its membership. */
export interface GroupMember {
  readonly id: string
  readonly epoch: number
}

export interface CommitRequest {
  readonly group?: string
  /**
   * Who commits for the group, as of when the transaction began: refused when one of the offsets'
   * tasks has moved since (law 2). Absent on a log without membership.
   */
  readonly member?: GroupMember
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

/** Writes under a name as long as nobody else has taken it over. */
export interface ExclusiveWriter {
  /** Its commit rejects with WRITER_REPLACED, nothing being visible, once somebody else has it. */
  begin(): Pick<Transaction, 'append' | 'commit'>
  close(): Promise<void>
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
   * Returns what is there, at once when any request has data or gets further, else after
   * `waitMsMax` or when `signal` aborts, whichever is first. Without `waitMsMax` every partition
   * is asked and answers, or the call rejects.
   *
   * Only what is committed is returned. The embedded log reads all partitions at one moment,
   * between transactions. On Kafka each partition is read by itself: of a transaction over
   * several, one may be visible before the other.
   */
  fetch(
    requests: readonly FetchRequest[],
    options?: { waitMsMax?: number; signal?: AbortSignal },
  ): Promise<readonly FetchResponse[]>
  offsets(targets: readonly TopicPartition[]): Promise<readonly OffsetRange[]>
  /** First offset whose record timestamp is at or after `timestampMs`, or the end offset. */
  offsetForTimestamp(target: TopicPartition, timestampMs: number): Promise<number>
  /**
   * What the group has committed, once no transaction holds it open any more; null where it has
   * committed nothing. As `member`, refused when its epoch is not the current one.
   */
  committed(
    group: string,
    targets: readonly TopicPartition[],
    member?: GroupMember,
  ): Promise<readonly (CommittedOffset | null)[]>
  listGroups(): Promise<readonly string[]>
  begin(): Transaction
  /**
   * Takes a name over from whoever writes under it, in any process: what that one left open is
   * ended, and what it has committed is below the high watermarks that are asked for after this
   * resolves. For reading what there is and writing by it, with nobody in between.
   */
  exclusive(name: string): Promise<ExclusiveWriter>
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

/** Places in a commit on Kafka where a crash test kills or stops the process. */
export type CommitCrashPoint =
  /** Every append of the transaction is acknowledged; its offsets are not sent. */
  | 'output-sent'
  /** The offsets are in the transaction; its end is not asked for. */
  | 'offsets-added'
  /** The end is acknowledged; the state is not written. */
  | 'endtxn-acked'

/** Effects a driver may use: the caller's clock and timers, so that a simulation can own them. */
export interface LogEnvironment {
  readonly clock: () => number
  /** Runs `task` after `delayMs`; the result cancels it. */
  readonly schedule: (task: () => void, delayMs: number) => () => void
  /** Cryptographic or seeded, as the caller decides. */
  readonly randomBytes: (size: number) => Buffer
  readonly reached?: (point: CommitCrashPoint) => void
}

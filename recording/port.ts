/**
 * What recording and replay ask of the world: a file, a log to read, a place to send to, a clock
 * and timers. `cli/` gives the real ones.
 */
import type { EventLog, LogEnvironment, TopicConfig } from '../log/port.ts'
import { recordingError } from './errors.ts'

/** A file that grows at its end. Errors are those of the system. */
export interface RecordingFile {
  /** For messages. */
  readonly path: string
  size(): Promise<number>
  /** Fewer bytes than asked for only at the end of the file. */
  read(position: number, length: number): Promise<Buffer>
  append(bytes: Buffer): Promise<void>
  truncate(size: number): Promise<void>
  /** What was appended survives a power cut. */
  sync(): Promise<void>
  close(): Promise<void>
}

/** What is read of a log: every `EventLog` is one. */
export type RecordSource = Pick<
  EventLog,
  'incarnation' | 'describeTopic' | 'offsets' | 'offsetForTimestamp' | 'fetch'
>

/** A topic as it was when the recording began. */
export interface RecordedTopic {
  readonly name: string
  /** Changes when a topic of the same name is created anew. */
  readonly id: string
  readonly partitions: number
  readonly config: TopicConfig
  /** Offset of each partition at which the recording began. */
  readonly from: readonly number[]
}

/** Whole record batches for one partition of a recorded topic. */
export interface OutgoingRecords {
  readonly topic: string
  readonly partition: number
  readonly records: number
  /** The target's own from here on. */
  readonly bytes: Buffer
}

/** Throws TARGET_PARTITIONS where a target's topic has other partitions than the recorded one. */
export function requirePartitions({ name, partitions }: RecordedTopic, actual: number): void {
  if (actual === partitions) return
  throw recordingError('TARGET_PARTITIONS', { topic: name, actual, expected: partitions })
}

/** Records that a target looked at and refused, by the code of the reason. */
export type Refusals = Readonly<Record<string, number>>

/** A send that failed with `cause` after some of its records had been answered. */
export class SendCutShort extends Error {
  readonly answered: number
  /** Of those that were answered. */
  readonly refusals: Refusals

  constructor(cause: unknown, { answered, refusals }: { answered: number; refusals: Refusals }) {
    super('A send was cut short.', { cause })
    this.answered = answered
    this.refusals = refusals
  }
}

/** Where a replay sends to. */
export interface ReplayTarget {
  /** How it is called in reports. */
  readonly name: string
  /** Sends and bytes that may be under way; they take effect in the order of the calls. */
  readonly sendsMax: number
  readonly bytesMax: number
  /** Makes missing topics. Rejects with TARGET_PARTITIONS where one does not fit. */
  prepare(topics: readonly RecordedTopic[]): Promise<void>
  /** Largest batch of a topic, once it is prepared; any unless it says so. */
  batchBytesMax?(topic: string): number | undefined
  /**
   * Resolves when the records are acknowledged, or refused one by one. Rejects with a SendCutShort
   * where a part of them was.
   */
  send(records: readonly OutgoingRecords[]): Promise<Refusals>
}

/** `clock` may be finer than a millisecond, and must not jump. */
export type ReplayEnvironment = Pick<LogEnvironment, 'clock' | 'schedule'>

/** What a refusal means for a transaction, as Java's producer tells them apart. */
import { logError, type MillraceError } from '../errors.ts'
import type { Cluster } from './cluster.ts'
import { ErrorCode, kindOf, nameOf } from './error-codes.ts'
import { forbidden, kafkaError, type Right } from './errors.ts'
import type { OutgoingBatch } from './producer-batches.ts'
import { type GroupOffsets, type OffsetVerdict, topicConfigV4 } from './producer-wire.ts'

const TOO_LARGE: ReadonlySet<number> = new Set([
  ErrorCode.MESSAGE_TOO_LARGE,
  ErrorCode.RECORD_LIST_TOO_LARGE,
])

/** Pauses grow with the failures in a row, from one that a coordinator needs to end its work. */
const PAUSES_MS = [2, 5, 10, 20, 40, 80, 160, 320, 640, 1000]

export function retryDelayMs(failures: number): number {
  return PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]!
}

export interface Refused {
  readonly transactionalId: string
  readonly code: number
  /** What was refused, and the broker's words. */
  readonly reason: string
  /** That the request needs, beside writing as `transactionalId`. */
  readonly right: Right
}

/**
 * A code that sending again cannot cure, of Produce or TxnOffsetCommit. Whether the producer itself
 * is fenced shows when the transaction is ended: a code like INVALID_PRODUCER_EPOCH has two causes.
 */
export function refusalError({ transactionalId, code, reason, right }: Refused): MillraceError {
  const isId = code === ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
  const denial = forbidden('a transaction', code, isId ? ['Write', transactionalId] : right)
  if (denial !== undefined) return denial
  const kind = kindOf(code)
  if (kind === 'abortable' || kind === 'fenced') {
    return kafkaError('KAFKA_TRANSACTION_ABORTED', { transactionalId, reason })
  }
  const detail = '. Nothing of the transaction is visible'
  return kafkaError('KAFKA_REFUSED', { request: 'a transaction', error: reason, detail })
}

export function isTooLarge(code: number): boolean {
  return TOO_LARGE.has(code)
}

/** The limit is looked up for the message: the refusal does not say it. */
export async function tooLargeError(
  cluster: Cluster,
  node: number,
  { target, sizeBytes }: OutgoingBatch,
): Promise<MillraceError> {
  const { topic } = target
  let limit: string | null = null
  try {
    limit = await cluster.call(node, 'metadata', topicConfigV4, topic, 'max.message.bytes')
  } catch {
    // The refusal is what counts; it is told without the limit then.
  }
  const details = { size: sizeBytes, topic, limit: limit === null ? undefined : Number(limit) }
  return logError('BATCH_TOO_LARGE', details)
}

/** Codes by which a group refuses a member: its place or its epoch is not what it was. */
const MEMBER_FENCED: ReadonlySet<number> = new Set([
  ErrorCode.ILLEGAL_GENERATION,
  ErrorCode.UNKNOWN_MEMBER_ID,
  ErrorCode.FENCED_INSTANCE_ID,
  ErrorCode.FENCED_MEMBER_EPOCH,
  ErrorCode.STALE_MEMBER_EPOCH,
])

export function offsetsError(
  transactionalId: string,
  { code, topic }: OffsetVerdict,
  { id, memberId, memberEpoch }: GroupOffsets,
): MillraceError {
  const reason = nameOf(code)
  if (MEMBER_FENCED.has(code)) {
    return kafkaError('KAFKA_MEMBER_FENCED', { group: id, memberId, memberEpoch, reason })
  }
  const refused = `the offsets of group ${id}: ${reason}`
  const isTopic = code === ErrorCode.TOPIC_AUTHORIZATION_FAILED
  const right: Right = ['Read', isTopic ? topic : id]
  return refusalError({ transactionalId, code, reason: refused, right })
}

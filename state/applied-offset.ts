/**
 * How far a store's local rows have come in its changelog, written in the same batch as the rows
 * under 'M' … `applied`, version 2:
 *
 *     applied = offset:float64 wallTime:float64 topicId:utf8
 *
 * The offset is that after the last record applied. The time is when the log held nothing behind
 * it that is not here, epoch ms; the id is the changelog topic's, for a topic created anew has the
 * old name. Version 1 was the offset alone: its time and id are unknown.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import { metadataKey } from './keys.ts'

interface StoreName {
  readonly name: string
  readonly partition: number
}

export interface Applied {
  /** 0 when there are no local rows. */
  readonly offset: number
  /** 0 when unknown. */
  readonly timeMs: number
  /** Empty when unknown. */
  readonly topicId: string
}

const HEAD_BYTES = 16

const keyOf = ({ name, partition }: StoreName) => metadataKey(name, partition, 'applied')

export async function readApplied(database: Database, store: StoreName): Promise<Applied> {
  const [bytes] = await database.getMany([keyOf(store)])
  if (!bytes) return { offset: 0, timeMs: 0, topicId: '' }
  const offset = bytes.readDoubleBE(0)
  if (bytes.length < HEAD_BYTES) return { offset, timeMs: 0, topicId: '' }
  return { offset, timeMs: bytes.readDoubleBE(8), topicId: bytes.utf8Slice(HEAD_BYTES) }
}

export function writeApplied(batch: WriteBatch, store: StoreName, applied: Applied): void {
  const { offset, timeMs, topicId } = applied
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + Buffer.byteLength(topicId))
  bytes.writeDoubleBE(offset, 0)
  bytes.writeDoubleBE(timeMs, 8)
  bytes.write(topicId, HEAD_BYTES)
  batch.put(keyOf(store), bytes)
}

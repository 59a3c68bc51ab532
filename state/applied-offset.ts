/**
 * How far a store's local rows have come in its changelog: the offset after the last record
 * applied, written in the same batch as the rows. `float64 big-endian` under 'M' … `applied`.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import { metadataKey } from './keys.ts'

interface StoreName {
  readonly name: string
  readonly partition: number
}

const keyOf = ({ name, partition }: StoreName) => metadataKey(name, partition, 'applied')

/** 0 when there are no local rows. */
export async function appliedOffset(database: Database, store: StoreName): Promise<number> {
  const [bytes] = await database.getMany([keyOf(store)])
  return bytes ? bytes.readDoubleBE(0) : 0
}

export function writeAppliedOffset(batch: WriteBatch, store: StoreName, offset: number): void {
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeDoubleBE(offset, 0)
  batch.put(keyOf(store), bytes)
}

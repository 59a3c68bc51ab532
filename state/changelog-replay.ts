/**
 * Brings a store up to its changelog. It reads by position to the end captured first, and writes
 * what it read and the position reached in one batch, so it goes on where it was stopped.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { appliedOffset, writeAppliedOffset } from './applied-offset.ts'
import { stateError } from './errors.ts'

export interface ReplayOptions {
  readonly store: { readonly name: string; readonly partition: number }
  readonly log: EventLog
  readonly changelog: TopicPartition
  readonly database: Database
  readonly onProgress?: (position: number, end: number) => void
}

/** What is different from one kind of store to the other. */
export interface ReplaySteps {
  /** Deletes the local rows: they are ahead of the log, so of one that is gone. */
  clear(batch: WriteBatch): void
  /** Adds what the bytes hold from `position` on; `committed` is called once it is durable. */
  read(bytes: Buffer, position: number, batch: WriteBatch): { next: number; committed?(): void }
}

const FETCH_BYTES = 4 * 1024 * 1024

/** Throws RESTORE_STUCK when the log gives nothing more before its end. */
export async function replayChangelog(options: ReplayOptions, steps: ReplaySteps): Promise<void> {
  const { store, log, changelog, database, onProgress } = options
  const [range] = await log.offsets([changelog])
  const { startOffset, endOffset } = range!
  const applied = await appliedOffset(database, store)
  let position = Math.max(applied, startOffset)
  if (applied > endOffset) {
    const batch = database.batch()
    steps.clear(batch)
    writeAppliedOffset(batch, store, 0)
    await batch.commit()
    position = startOffset
  }
  while (position < endOffset) {
    const [response] = await log.fetch([{ ...changelog, offset: position, bytesMax: FETCH_BYTES }])
    const batch = database.batch()
    try {
      const { next, committed } = steps.read(response!.bytes, position, batch)
      if (next <= position) {
        throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset })
      }
      writeAppliedOffset(batch, store, next)
      await batch.commit()
      committed?.()
      position = next
    } finally {
      batch.discard()
    }
    onProgress?.(position, endOffset)
  }
}

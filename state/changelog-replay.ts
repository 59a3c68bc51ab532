/**
 * Brings a store up to its changelog. It reads by position to the high watermark captured first
 * (law 3: what ended below it may be committed elsewhere already), and writes what it read and
 * the position reached in one batch, so it goes on where it was stopped.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog, FetchResponse, TopicPartition } from '../log/port.ts'
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
const WAIT_MS = 1000
/** Waits for one transaction that is still open: five minutes, far beyond any of ours. */
const WAITS_MAX = 300

/** Throws RESTORE_STUCK when the log gives nothing more before the end. */
export async function replayChangelog(options: ReplayOptions, steps: ReplaySteps): Promise<void> {
  const { store, log, changelog, database, onProgress } = options
  const [range] = await log.offsets([changelog])
  const { startOffset, highWatermark } = range!
  const applied = await appliedOffset(database, store)
  let position = Math.max(applied, startOffset)
  if (applied > highWatermark) {
    const batch = database.batch()
    steps.clear(batch)
    writeAppliedOffset(batch, store, 0)
    await batch.commit()
    position = startOffset
  }
  for (let waits = 0; position < highWatermark; ) {
    const request = { ...changelog, offset: position, bytesMax: FETCH_BYTES }
    const [response] = await log.fetch([request], { waitMsMax: WAIT_MS })
    const next = await replayResponse(options, steps, response!, position)
    if (next > position) waits = 0
    else if (!mayGoOn(response!, highWatermark) || ++waits === WAITS_MAX) {
      throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset: highWatermark })
    }
    position = next
    onProgress?.(position, highWatermark)
  }
}

/** Nothing came: is there something that a reader may get to see later? */
function mayGoOn({ error, pending, endOffset }: FetchResponse, highWatermark: number): boolean {
  return error === undefined && (pending === true || endOffset < highWatermark)
}

/** Writes what came with the position that it leads to; returns that. */
async function replayResponse(
  { store, database }: ReplayOptions,
  steps: ReplaySteps,
  response: FetchResponse,
  position: number,
): Promise<number> {
  if (response.bytes.length === 0 && response.nextOffset <= position) return position
  const batch = database.batch()
  try {
    const read = steps.read(response.bytes, position, batch)
    const next = Math.max(read.next, response.nextOffset)
    writeAppliedOffset(batch, store, next)
    await batch.commit()
    read.committed?.()
    return next
  } finally {
    batch.discard()
  }
}

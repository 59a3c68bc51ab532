/**
 * Brings a store up to its changelog. It reads by position to the high watermark captured first
 * (law 3: what ended below it may be committed elsewhere already), and writes what it read and
 * the position reached in one batch, so it goes on where it was stopped.
 */
import type { Database, WriteBatch } from '../log/database.ts'
import type { EventLog, FetchResponse, TopicPartition } from '../log/port.ts'
import { type Applied, readApplied, writeApplied } from './applied-offset.ts'
import { stateError } from './errors.ts'
import type { RestorePace, RestoreProgress } from './port.ts'

export interface ReplayOptions {
  readonly store: { readonly name: string; readonly partition: number }
  readonly log: EventLog
  readonly changelog: TopicPartition
  readonly database: Database
  /** Wall time, epoch ms; without it the age of local rows is not checked. */
  readonly clock?: () => number
  readonly onProgress?: RestoreProgress
  readonly pace?: RestorePace
}

/** What is different from one kind of store to the other. */
export interface ReplaySteps {
  /** The changelog holds the last record of each key: what is deleted below its start was state. */
  readonly compacted: boolean
  /** Deletes the local rows: they cannot be brought up to the log. */
  clear(batch: WriteBatch): void
  /** Deletes local rows that the writer has expired, as the log begins at `startOffset` now. */
  expire?(startOffset: number, batch: WriteBatch): void
  /** Adds what the bytes hold from `position` on; `committed` is called once it is durable. */
  read(bytes: Buffer, position: number, batch: WriteBatch): { next: number; committed?(): void }
}

const FETCH_BYTES = 4 * 1024 * 1024
const WAIT_MS = 1000
/** Waits for one transaction that is still open: five minutes, far beyond any of ours. */
const WAITS_MAX = 300
/** A standby that stays where it is says so now and then. */
const CONFIRM_MS = 60_000

/**
 * Resolves with the id of the changelog topic. Throws RESTORE_STUCK when the log gives nothing
 * more before the end, CHANGELOG_RECREATED and CHANGELOG_TRUNCATED when it is not the log that
 * the local rows, or the records needed, were in.
 */
export async function replayChangelog(options: ReplayOptions, steps: ReplaySteps): Promise<string> {
  const { store, log, changelog, database, clock } = options
  const startedMs = clock?.() ?? 0
  const topic = await log.describeTopic(changelog.topic)
  if (topic === undefined) throw stateError('CHANGELOG_MISSING', { ...changelog })
  const [range] = await log.offsets([changelog])
  const { startOffset, highWatermark } = range!
  const local = await readApplied(database, store)
  checkSame(changelog, local, topic.id)
  let position = Math.max(local.offset, startOffset)
  const behindMs = clock === undefined || local.timeMs === 0 ? 0 : startedMs - local.timeMs
  // Tombstones of what was deleted meanwhile may be gone: such rows would come back.
  const isOld =
    steps.compacted && local.offset < highWatermark && behindMs > topic.config.deleteRetentionMs
  if (local.offset > 0 && (local.offset > highWatermark || isOld)) {
    await clear(options, steps, topic.id)
    position = startOffset
  } else if (steps.compacted && startOffset > local.offset) {
    throw stateError('CHANGELOG_TRUNCATED', { ...changelog, startOffset, offset: local.offset })
  }
  await expire(options, steps, startOffset)
  // Until the end is reached, the rows are as old as what they began with.
  const timeMs = position > startOffset ? local.timeMs : startedMs
  if (position < highWatermark)
    position = await readTo(options, steps, { position, highWatermark, timeMs, topicId: topic.id })
  await confirm(options, { offset: position, timeMs: startedMs, topicId: topic.id }, local)
  return topic.id
}

interface Stretch {
  readonly position: number
  readonly highWatermark: number
  readonly timeMs: number
  readonly topicId: string
}

/** Reads and writes until the position has passed the high watermark; returns it. */
async function readTo(
  options: ReplayOptions,
  steps: ReplaySteps,
  { position: from, highWatermark, timeMs, topicId }: Stretch,
): Promise<number> {
  const { log, changelog, onProgress, pace } = options
  const signal = pace?.signal
  const endTurn = await pace?.turn?.()
  let position = from
  try {
    for (let waits = 0; position < highWatermark; ) {
      signal?.throwIfAborted()
      const request = { ...changelog, offset: position, bytesMax: FETCH_BYTES }
      const [response] = await log.fetch([request], { waitMsMax: WAIT_MS, signal })
      signal?.throwIfAborted()
      const applied = { offset: position, timeMs, topicId }
      const next = await replayResponse(options, steps, response!, applied)
      if (next > position) waits = 0
      else if (!mayGoOn(response!, highWatermark) || ++waits === WAITS_MAX) {
        throw stateError('RESTORE_STUCK', { ...changelog, position, endOffset: highWatermark })
      }
      position = next
      onProgress?.({ position, end: highWatermark, bytes: response!.bytes.length })
    }
    return position
  } finally {
    endTurn?.()
  }
}

function checkSame(changelog: TopicPartition, local: Applied, topicId: string): void {
  if (local.topicId === '' || local.topicId === topicId) return
  throw stateError('CHANGELOG_RECREATED', { ...changelog, was: local.topicId, is: topicId })
}

async function clear({ database, store }: ReplayOptions, steps: ReplaySteps, topicId: string) {
  const batch = database.batch()
  steps.clear(batch)
  writeApplied(batch, store, { offset: 0, timeMs: 0, topicId })
  await batch.commit()
}

async function expire({ database }: ReplayOptions, steps: ReplaySteps, startOffset: number) {
  const batch = database.batch()
  try {
    steps.expire?.(startOffset, batch)
    if (batch.size > 0) await batch.commit()
  } finally {
    batch.discard()
  }
}

/** Notes that the rows were all there was when the replay began. */
async function confirm({ database, store }: ReplayOptions, now: Applied, before: Applied) {
  const known = now.offset === before.offset && now.topicId === before.topicId
  if (now.offset === 0 || (known && now.timeMs - before.timeMs < CONFIRM_MS)) return
  const batch = database.batch()
  writeApplied(batch, store, now)
  await batch.commit()
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
  applied: Applied,
): Promise<number> {
  const position = applied.offset
  if (response.bytes.length === 0 && response.nextOffset <= position) return position
  const batch = database.batch()
  try {
    const read = steps.read(response.bytes, position, batch)
    const next = Math.max(read.next, response.nextOffset)
    writeApplied(batch, store, { ...applied, offset: next })
    await batch.commit()
    read.committed?.()
    return next
  } finally {
    batch.discard()
  }
}

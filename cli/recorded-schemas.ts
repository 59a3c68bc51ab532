/**
 * The schemas of a recording's events. Their ids are those of the log that it was taken from: the
 * fixed ones, or, from Kafka, those of its registry.
 */
import { pino } from 'pino'
import { ContractError } from '../contracts/errors.ts'
import { eventCodec, frameBytes, schemaIdAt } from '../contracts/event-codec.ts'
import { isEventType, isInputTopic } from '../contracts/topics.ts'
import type { RecordColumns } from '../log/record-columns.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'
import { inspect } from '../recording/inspection.ts'
import { type Recording, readBlock, spanRecords } from '../recording/reader.ts'
import { effects } from './effects.ts'
import { cliError } from './errors.ts'
import { connectSchemas } from './schemas.ts'

export interface RecordedRegistry {
  readonly registryUrl: string | undefined
  /** `write`: this version's schemas are registered where they are not. */
  readonly to: 'read' | 'write'
  /** Ends waiting for a registry that is down. */
  readonly signal?: AbortSignal
}

const ASK_AGAIN_MS = 20

/**
 * Has the process read and write the events of a recording by the ids of the registry: one from
 * Kafka, where a registry is named. All ids of the recording are looked up before, which reads all
 * of it, as a record cannot wait later.
 */
export async function connectRecordedSchemas(
  recording: Recording,
  { registryUrl, to, signal }: RecordedRegistry,
): Promise<void> {
  if (registryUrl === undefined || recording.header.source.kind !== 'kafka') return
  const logger = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }))
  const ending = signal && { signal }
  const keeps = to === 'read' ? 'all' : 'rules'
  await connectSchemas(undefined, { registryUrl, keeps, logger, ...ending })
  const { schemaIds } = await inspect(recording)
  for (const [topic, ids] of Object.entries(schemaIds)) {
    if (!isInputTopic(topic)) continue
    for (const id of Object.keys(ids)) if (Number(id) > 0) await lookUp(Number(id), signal)
  }
}

async function lookUp(id: number, signal: AbortSignal | undefined): Promise<void> {
  const { schemas } = eventCodec
  const isPending = () => schemas.byId(id) === undefined && schemas.missing?.(id) === undefined
  while (signal?.aborted !== true && isPending()) {
    await new Promise<void>(resolve => void effects.schedule(resolve, ASK_AGAIN_MS))
  }
}

/**
 * Throws RECORDED_SCHEMA by the first records of each topic: a recording of another registry is
 * known before anything is sent.
 */
export async function requireOwnSchemas(recording: Recording): Promise<void> {
  const unseen = new Set(recording.header.topics.keys())
  for (const entry of recording.blocks) {
    const firsts = new Set(entry.spans.map(({ topic }) => topic).filter(at => unseen.delete(at)))
    if (firsts.size === 0) continue
    // What is damaged is told when it is its turn.
    const spans = await readBlock(recording, entry).catch(() => [])
    for (const data of spans) {
      if (!firsts.has(data.span.topic)) continue
      const { name: topic } = recording.header.topics[data.span.topic]!
      const place = { topic, partition: data.span.partition }
      for (const columns of spanRecords(recording, data)) {
        for (let i = 0; i < columns.length; i++) requireOwnSchema(place, columns, i)
      }
    }
  }
}

/** Where a recorded record lies. */
export interface RecordedPlace {
  readonly topic: string
  readonly partition: number
}

/** What a record says that it is, and what its schema id stands for here. */
export interface ForeignSchema {
  readonly type: string
  readonly id: number
  readonly actual: string
}

/**
 * A record that says that it is an event of one type, and whose schema id is of another or of none:
 * its id is of a registry that is not asked here. Undefined for any other.
 */
export function foreignSchema(
  columns: RecordColumns,
  i: number,
  headers: readonly Header[] = readHeaders(columns, i),
): ForeignSchema | undefined {
  const { bytes, valueStart, valueEnd } = columns
  const type = headers.find(([name]) => name === 'ce_type')?.[1]?.toString()
  if (type === undefined || !isEventType(type) || valueStart[i]! < 0) return undefined
  const [start, end] = [valueStart[i]!, valueEnd[i]!]
  // Bytes that no producer of events wrote are poison by any registry.
  if (end - start < frameBytes || bytes[start] !== 0) return undefined
  const actual = typeAt(bytes, start, end)
  return actual === type ? undefined : { type, id: schemaIdAt(bytes, start, end), actual }
}

/** Throws RECORDED_SCHEMA where the schema of a record is foreign. */
export function requireOwnSchema(
  place: RecordedPlace,
  columns: RecordColumns,
  i: number,
  headers?: readonly Header[],
): void {
  const foreign = foreignSchema(columns, i, headers)
  if (foreign === undefined) return
  throw cliError('RECORDED_SCHEMA', { ...place, offset: columns.offsets[i], ...foreign })
}

function typeAt(bytes: Buffer, start: number, end: number): string {
  try {
    return eventCodec.typeAt(bytes, start, end)
  } catch (error) {
    if (error instanceof ContractError) return 'no event'
    throw error
  }
}

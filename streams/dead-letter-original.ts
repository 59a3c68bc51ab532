/** The record that a dead letter was made of: from the letter itself, else from its place. */
import type { MillraceError } from '../log/errors.ts'
import type { EventLog, TopicPartition } from '../log/port.ts'
import { type Header, readHeaders } from '../log/record-headers.ts'
import {
  type DeadLetter,
  type Digest,
  digestOf,
  isDigest,
  keyAndValue,
} from './dead-letter-record.ts'
import { readRange } from './read-range.ts'

export interface OriginalRecord extends TopicPartition {
  readonly timestampMs: number
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: readonly Header[]
}

/** Throws what `refuse` makes of the reason why there is none. */
export async function originalOf(
  log: EventLog,
  letter: DeadLetter,
  refuse: (reason: string) => MillraceError,
): Promise<OriginalRecord> {
  const { place, content, key, value, headers, timestampMs } = letter
  if (content === 'batch') throw refuse('it is a batch of records that cannot be read')
  if (place === null) throw refuse('no single record made it')
  const { topic, partition } = place
  const description = await log.describeTopic(topic)
  if (description === undefined) throw refuse(`the topic ${topic} is gone`)
  if (partition >= description.partitions) throw refuse(`${topic} has no partition ${partition}`)
  if (content === 'record' && !isDigest(key) && !isDigest(value) && headers !== undefined) {
    return { topic, partition, timestampMs, key, value, headers }
  }
  const found = await readPlace(log, place)
  if (found === undefined) {
    throw refuse(`it holds not all of its record, which is no longer at ${topic}-${partition}`)
  }
  if (!isSame(found.key, key) || !isSame(found.value, value)) {
    throw refuse(`the record at ${topic}-${partition}@${place.offset} is another one by now`)
  }
  return found
}

async function readPlace(
  log: EventLog,
  { topic, partition, offset }: TopicPartition & { readonly offset: number },
): Promise<OriginalRecord | undefined> {
  const [range] = await log.offsets([{ topic, partition }])
  if (offset < range!.startOffset || offset >= range!.endOffset) return undefined
  let found: OriginalRecord | undefined
  const span = { topic, partition, from: offset, to: offset + 1 }
  await readRange(log, span, (columns, row) => {
    found = {
      ...{ topic, partition, timestampMs: columns.timestamps[row]! },
      ...keyAndValue(columns, row),
      headers: readHeaders(columns, row),
    }
  })
  return found
}

/** Only what the letter has a digest of can be compared. */
function isSame(bytes: Buffer | null, told: Buffer | Digest | null): boolean {
  if (!isDigest(told) || told.sha256 === '') return true
  return bytes !== null && digestOf(bytes).sha256 === told.sha256
}

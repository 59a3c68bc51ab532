/** Whether the topics of an application keep what it writes to them (law 4). */
import type { EventLog } from '../log/port.ts'
import { TOPIC_CONFIG_DEFAULT } from '../log/topics.ts'
import { streamsError } from './errors.ts'

const ANY = `message.timestamp.type=CreateTime,max.message.bytes=${TOPIC_CONFIG_DEFAULT.batchBytesMax}`
const COMPACTED = `cleanup.policy=compact,${ANY}`
const UNTOUCHED = `cleanup.policy=delete,retention.ms=-1,retention.bytes=-1,${ANY}`

/** What brokers have taken by default since ever; batches are sealed well below it. */
const MESSAGE_BYTES_MIN = 1_000_000

/**
 * Internal topics that somebody set otherwise would lose state without a word. Throws
 * TOPIC_UNSAFE; topics that are missing are left to who needs them.
 */
export async function checkInternalTopics(
  log: EventLog,
  topics: readonly { readonly name: string; readonly compacted: boolean }[],
): Promise<void> {
  const check = async ({ name, compacted }: (typeof topics)[number]) => {
    const topic = await log.describeTopic(name)
    const hazards = [...(topic?.hazards ?? [])]
    if (!compacted && topic?.config.cleanup === 'compact') hazards.push('cleanup.policy=compact')
    const bytesMax = topic?.config.batchBytesMax ?? MESSAGE_BYTES_MIN
    if (bytesMax < MESSAGE_BYTES_MIN) hazards.push(`max.message.bytes=${bytesMax}`)
    if (hazards.length === 0) return
    const wanted = compacted ? COMPACTED : UNTOUCHED
    throw streamsError('TOPIC_UNSAFE', { topic: name, hazards: hazards.join(', '), wanted })
  }
  await Promise.all(topics.map(check))
}

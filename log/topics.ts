/** Names and settings of topics and groups, as Kafka has them. */
import { logError } from './errors.ts'
import type { TopicConfig } from './port.ts'

const TOPIC_NAME = /^[a-zA-Z0-9._-]+$/
const TOPIC_NAME_CHARACTERS_MAX = 249
const PARTITIONS_MAX = 10_000
const GROUP_NAME_BYTES_MAX = 1024

/**
 * `batchBytesMax` of 2 MiB: a record of 1 MiB with its key and headers fits, and so does a
 * store's changelog batch, sealed at 256 KiB and one record.
 */
export const TOPIC_CONFIG_DEFAULT: TopicConfig = {
  cleanup: 'delete',
  retentionMs: -1,
  deleteRetentionMs: 86_400_000,
  batchBytesMax: 2 << 20,
}

/** The settings given, and the defaults for those that are not (or are undefined). */
export function topicConfig(given: Partial<TopicConfig>): TopicConfig {
  return {
    cleanup: given.cleanup ?? TOPIC_CONFIG_DEFAULT.cleanup,
    retentionMs: given.retentionMs ?? TOPIC_CONFIG_DEFAULT.retentionMs,
    deleteRetentionMs: given.deleteRetentionMs ?? TOPIC_CONFIG_DEFAULT.deleteRetentionMs,
    batchBytesMax: given.batchBytesMax ?? TOPIC_CONFIG_DEFAULT.batchBytesMax,
  }
}

const CONFIG_BOUNDS = [
  ['retentionMs', -1],
  ['deleteRetentionMs', 0],
  ['batchBytesMax', 1],
] as const

export function checkTopic(topic: string, partitions: number, config: TopicConfig): void {
  const invalid = (reason: string) => logError('TOPIC_INVALID', { topic, reason })
  if (!TOPIC_NAME.test(topic)) {
    throw invalid('a name has only letters, digits, dot, underscore and hyphen, at least one')
  }
  if (topic === '.' || topic === '..') throw invalid('its name may not be "." or ".."')
  if (topic.length > TOPIC_NAME_CHARACTERS_MAX) {
    throw invalid(`a name has at most ${TOPIC_NAME_CHARACTERS_MAX} characters`)
  }
  if (!(Number.isInteger(partitions) && partitions > 0 && partitions <= PARTITIONS_MAX)) {
    throw invalid(`it may have 1 to ${PARTITIONS_MAX} partitions, not ${partitions}`)
  }
  if (config.cleanup !== 'delete' && config.cleanup !== 'compact') {
    throw invalid('its cleanup is "delete" or "compact"')
  }
  for (const [name, min] of CONFIG_BOUNDS) {
    if (!(Number.isSafeInteger(config[name]) && config[name] >= min)) {
      throw invalid(`${name} is an integer of at least ${min}`)
    }
  }
}

export function checkGroup(group: string): void {
  if (group === '' || Buffer.byteLength(group) > GROUP_NAME_BYTES_MAX) {
    throw logError('GROUP_INVALID', {
      group,
      reason: `a name has 1 to ${GROUP_NAME_BYTES_MAX} bytes`,
    })
  }
}

/** The event log on Apache Kafka, `millrace/kafka`. */
export type { ClusterOptions } from './cluster.ts'
export { KafkaLog, type KafkaLogOptions, openKafkaLog } from './log.ts'
export { joinStreamsGroup, type StreamsGroupOptions } from './streams-group.ts'
export type { StreamsGroupMember } from './streams-group-member.ts'
export { configureGroup, type GroupSettings, groupSettings } from './streams-group-settings.ts'

/** The event log on Apache Kafka, `millrace/kafka`. */
export type { ClusterOptions, SaslOptions } from './cluster.ts'
export { KafkaLog, type KafkaLogOptions, openKafkaLog } from './log.ts'
export { joinStreamsGroup, type StreamsGroupOptions } from './streams-group.ts'
export type { StreamsGroupMember } from './streams-group-member.ts'
export { type PreparedGroup, prepareGroup } from './streams-group-migration.ts'
export { configureGroup, type GroupSettings, groupSettings } from './streams-group-settings.ts'

/** The event log on Apache Kafka, `millrace/kafka`. */
export type { ClusterOptions } from './cluster.ts'
export { KafkaLog, type KafkaLogOptions, openKafkaLog } from './log.ts'

/** `millrace/testing`: run a topology without a broker, the clock in your hand. */
export type { OutputRecord, ReadSerdes } from './read-topic.ts'
export { readTopic } from './read-topic.ts'
export {
  type TestDriverOptions,
  type TestRecord,
  TopologyTestDriver,
} from './topology-test-driver.ts'

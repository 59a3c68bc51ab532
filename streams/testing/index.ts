/** `millrace/testing`: run a topology without a broker, the clock in your hand. */
export {
  type OutputRecord,
  type TestDriverOptions,
  type TestRecord,
  TopologyTestDriver,
} from './topology-test-driver.ts'

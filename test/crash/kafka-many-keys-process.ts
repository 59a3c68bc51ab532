/** Much state on real Kafka, as a process that is killed and started again. */
import { runInstance } from './kafka-instance.ts'
import { manyKeys } from './many-keys.ts'

await runInstance(manyKeys)

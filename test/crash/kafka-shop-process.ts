/** The shop on real Kafka, as a process that crash tests kill. */
import { PARTITIONS, shopTopology } from '../support/shop.ts'
import { runInstance } from './kafka-instance.ts'

await runInstance(prefix => ({
  topology: shopTopology(prefix),
  settings: { createPartitions: PARTITIONS, epochRecordsMax: 200, storeCacheBytes: 64 * 1024 },
}))

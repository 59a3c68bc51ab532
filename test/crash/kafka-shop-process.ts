/** The shop on real Kafka, or parts of it, as a process that crash tests kill. */
import { PARTITIONS, type ShopPart, shopParts, shopTopology } from '../support/shop.ts'
import { runInstance } from './kafka-instance.ts'

await runInstance((prefix, variant = shopParts.join()) => ({
  topology: shopTopology(prefix, variant.split(',') as ShopPart[]),
  settings: { createPartitions: PARTITIONS, epochRecordsMax: 200, storeCacheBytes: 64 * 1024 },
}))

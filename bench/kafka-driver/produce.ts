/**
 * One transactional producer of records of 100 B, as a process: `produce.ts JOB`, a JSON of type
 * ProduceJob. Transactions of about 100 ms, batches of about 256 KB, the partitions in turn.
 * Counted from the first begin to the last commit; one line of JSON on stdout.
 */
import { CompressionTypes, Kafka, logLevel, Partitioners } from 'kafkajs'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { AppendReceipt } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { environment } from '../environment.ts'
import { type ProduceJob, TRANSACTION_MS } from './jobs.ts'
import { BATCH_RECORDS, batchOf, RECORD_BYTES, value } from './records.ts'
import { Watch } from './watch.ts'

const BATCHES_MAX = 128

/** The next transaction is built while the last one commits. */
async function millrace({ bootstrap, topic, records }: ProduceJob, watch: Watch): Promise<void> {
  const transactionalId = `bench-${process.pid}`
  const log = await openKafkaLog({ bootstrap: [bootstrap], environment, transactionalId })
  const { partitions } = (await log.describeTopic(topic))!
  const builder = new RecordBatchBuilder()
  let batches = 4
  let built = 0
  let turn = 0
  let last: Promise<readonly AppendReceipt[]> = Promise.resolve([])
  watch.start()
  while (built < records) {
    const transaction = log.begin()
    let count = 0
    for (let i = 0; i < batches && built + count < records; i++) {
      const size = Math.min(BATCH_RECORDS, records - built - count)
      transaction.append({ topic, partition: turn++ % partitions }, batchOf(builder, size))
      count += size
    }
    built += count
    await last
    const startedMs = performance.now()
    last = transaction.commit()
    last.then(
      () => {
        watch.add(count, count * RECORD_BYTES)
        batches = resized(batches, performance.now() - startedMs)
      },
      () => {},
    )
  }
  await last
  watch.stop()
  await log.close()
}

/** So that a transaction takes about 100 ms. */
function resized(batches: number, tookMs: number): number {
  const factor = Math.min(2, Math.max(0.5, TRANSACTION_MS / tookMs))
  return Math.min(BATCHES_MAX, Math.max(1, Math.round(batches * factor)))
}

/** One send carries a batch of every partition; its own compression and order stay as they are. */
async function kafkajs({ bootstrap, topic, records }: ProduceJob, watch: Watch): Promise<void> {
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR })
  const admin = kafka.admin()
  await admin.connect()
  const { partitions } = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0]!
  await admin.disconnect()
  const producer = kafka.producer({
    transactionalId: `bench-${process.pid}`,
    idempotent: true,
    maxInFlightRequests: 1,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  watch.start()
  while (watch.records < records) {
    const transaction = await producer.transaction()
    const endMs = performance.now() + TRANSACTION_MS
    while (watch.records < records && performance.now() < endMs) {
      const count = Math.min(BATCH_RECORDS * partitions.length, records - watch.records)
      const messages = Array.from({ length: count }, (_, i) => ({
        value,
        partition: i % partitions.length,
      }))
      await transaction.send({ topic, messages, compression: CompressionTypes.None })
      watch.add(count, count * RECORD_BYTES)
    }
    await transaction.commit()
  }
  watch.stop()
  await producer.disconnect()
}

const job = JSON.parse(process.argv[2]!) as ProduceJob
const watch = new Watch()
await { millrace, kafkajs }[job.contender](job, watch)
watch.tell()
process.exit(0)

/**
 * One instance of the reference job on Kafka, as a process. Arguments: brokers, application id,
 * output topic, data folder, prefix of the input topics (none). Prints `first-fetch <epoch ms>` and runs until it is ended.
 */
import { joinStreamsGroup, openKafkaLog } from '../../log/kafka/index.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import { environment } from '../environment.ts'
import { referenceTopology } from './topology.ts'

const [brokers, application, output, folder] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
]
const prefix = process.argv[6] ?? ''
const database = await openRocksDB(folder)
const log = await openKafkaLog({
  bootstrap: brokers.split(','),
  environment,
  transactionalId: `${application}-${process.pid}`,
  database,
})
const fetch = log.fetch.bind(log)
let told = false
log.fetch = async (requests, options) => {
  const responses = await fetch(requests, options)
  if (!told && responses.some(({ bytes }) => bytes.length > 0)) {
    told = true
    process.stdout.write(`first-fetch ${Date.now()}\n`)
  }
  return responses
}
const engine = await Engine.open({
  topology: referenceTopology({ application, output, prefix }),
  log,
  database,
  environment,
  settings: { idleAfterMs: Number.POSITIVE_INFINITY, epochMsMin: 20 },
  join: plan =>
    joinStreamsGroup({
      cluster: log.cluster,
      group: application,
      memberId: `bench-${process.pid}`,
      processId: `bench-${process.pid}`,
      topology: groupTopology(plan),
    }),
  onError: error => process.stderr.write(`${error instanceof Error ? error.stack : error}\n`),
})
process.once('SIGTERM', async () => {
  await engine.stop({ leave: true })
  await log.close()
  await database.close()
  process.exit(0)
})
await engine.run()

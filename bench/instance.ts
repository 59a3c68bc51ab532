/** One instance of a benchmark's application on Kafka, as the whole of a process. */
import { mkdirSync } from 'node:fs'
import { joinStreamsGroup, type KafkaLog, openKafkaLog } from '../log/kafka/index.ts'
import type { EventLog } from '../log/port.ts'
import { openRocksDB } from '../state/rocksdb.ts'
import { Engine } from '../streams/engine.ts'
import { groupTopology } from '../streams/group-topology.ts'
import type { Topology } from '../streams/index.ts'
import { environment } from './environment.ts'

export interface InstanceOptions {
  readonly brokers: string
  readonly topology: Topology
  readonly folder: string
  /** Tells the instances of an application apart; the same each time it comes back. */
  readonly instance?: string
  readonly onLog?: (log: KafkaLog) => void
}

/** Prints when the first records of the input were fetched: `first-fetch <epoch ms>`. */
export function tellFirstFetch(log: EventLog): void {
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
}

/** Runs until SIGTERM. Its name in the group is always the same, so that it comes back as it. */
export async function runInstance(
  { brokers, topology, folder, instance = '1', onLog }: InstanceOptions,
  onEngine?: (engine: Engine) => void,
): Promise<void> {
  const { application } = topology
  mkdirSync(folder, { recursive: true })
  const database = await openRocksDB(folder)
  const id = `${application}-bench-${instance}`
  const log = await openKafkaLog({
    bootstrap: brokers.split(','),
    environment,
    transactionalId: id,
    database,
  })
  onLog?.(log)
  const engine = await Engine.open({
    topology,
    log,
    database,
    environment,
    settings: { idleAfterMs: Number.POSITIVE_INFINITY, epochMsMin: 20 },
    join: plan =>
      joinStreamsGroup({
        cluster: log.cluster,
        group: application,
        memberId: id,
        processId: id,
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
  onEngine?.(engine)
  await engine.run()
}

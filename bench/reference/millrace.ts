/**
 * One instance of the reference job on Kafka, as a process. Arguments: brokers, application id,
 * output topic, data folder, prefix of the input topics (none), `windows` (default) or `join`,
 * number of the instance (1). Prints `first-fetch <epoch ms>` and runs until it is ended.
 */
import { runInstance, tellFirstFetch } from '../instance.ts'
import { joinTopology, referenceTopology } from './topology.ts'

const [brokers, application, output, folder, prefix, job, instance] = process.argv.slice(2) as [
  ...[string, string, string, string],
  ...(string | undefined)[],
]

const names = { application, output, prefix: prefix ?? '' }
const topology = job === 'join' ? joinTopology(names) : referenceTopology(names)
await runInstance({ brokers, topology, folder, instance: instance ?? '1', onLog: tellFirstFetch })

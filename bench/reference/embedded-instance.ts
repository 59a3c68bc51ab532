/**
 * The reference job on the embedded log, as a process. Argument: a folder whose log holds the
 * input. Prints `first-fetch <epoch ms>`, when all is done `last-commit <epoch ms>`, and then waits
 * to be killed.
 */
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import { environment } from '../environment.ts'
import { tellFirstFetch } from '../instance.ts'
import { referenceTopology } from './topology.ts'

const database = await openRocksDB(process.argv[2]!)
const log = await openEmbeddedLog(database, environment, { bootId: 'bench' })
tellFirstFetch(log)
const engine = await Engine.open({
  topology: referenceTopology({ application: 'reference', output: 'out' }),
  log,
  database,
  environment,
  settings: { idleAfterMs: Number.POSITIVE_INFINITY },
})
await engine.drain()
process.stdout.write(`last-commit ${Date.now()}\n`)
setInterval(() => {}, 60_000)

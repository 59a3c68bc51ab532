/** `npm run bench -- NAME [--json] [--variant NAME]`; bench/README.md has the vocabulary. */
import { parseArgs } from 'node:util'
import { applicationsBench } from './applications.ts'
import { job } from './job.ts'
import { kafkaDriver } from './kafka-driver/kafka-driver.ts'
import { latency } from './latency/latency.ts'
import { logBench } from './log.ts'
import { reference } from './reference/reference.ts'
import { replayBench } from './replay.ts'
import { type Figure, report } from './report.ts'
import { restore } from './restore/restore.ts'
import { startup } from './startup.ts'
import { stateBench } from './state/state.ts'
import { storeBench } from './store.ts'
import { tracingBench } from './tracing/tracing.ts'
import { viewsBench } from './views.ts'

const benches: Record<string, () => Promise<Figure[]>> = {
  log: logBench,
  store: storeBench,
  job,
  views: viewsBench,
  replay: replayBench,
  startup,
  tracing: tracingBench,
  applications: applicationsBench,
  reference: () => reference(values.variant),
  latency,
  restore,
  state: stateBench,
  'kafka-driver': kafkaDriver,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, variant: { type: 'string' } },
})
// Those that need Java and minutes are run when they are asked for.
const slow = ['reference', 'latency', 'restore', 'state', 'kafka-driver', 'tracing']
const quick = Object.keys(benches).filter(name => !slow.includes(name))
const names = positionals.length > 0 ? positionals : quick
if (values.variant !== undefined && names.join() !== 'reference') {
  process.stderr.write('Only the bench reference has variants.\n')
  process.exit(2)
}
for (const name of names) {
  const bench = benches[name]
  if (bench === undefined) {
    process.stderr.write(
      `There is no bench ${name}. There are: ${Object.keys(benches).join(', ')}\n`,
    )
    process.exit(2)
  }
  report(name, await bench(), values.json)
}

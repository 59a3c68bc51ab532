/**
 * The last value of every key, as a process. Arguments: brokers, application id, data folder.
 * Prints `running <epoch ms>` once all its state is there, and runs until it is ended.
 */
import { Topology, text, textKey } from '../../streams/index.ts'
import { runInstance } from '../instance.ts'

const [brokers, application, folder] = process.argv.slice(2) as [string, string, string]
const topology = new Topology(application)
const key = textKey()
topology
  .stream('updates', { key, value: text() })
  .groupByKey({ name: 'by-key', key })
  .reduce({ name: 'last', reduce: (_, value) => value })
await runInstance({ brokers, topology, folder }, engine => {
  const watch = setInterval(() => {
    const running = engine.tasks().filter(({ state }) => state === 'running').length
    if (engine.state !== 'running' || running < engine.plan.origins.length) return
    clearInterval(watch)
    process.stdout.write(`running ${Date.now()}\n`)
  }, 2)
})

/**
 * `npm run kafka`: Apache Kafka in the foreground, for development. Ctrl-C ends it.
 *
 *   npm run kafka -- [--port N] [--brokers 1|3] [--data DIR] [--registry]
 *   npm run kafka -- tool NAME ARGS…      one of Kafka's own tools: topics, streamsGroups, …
 *   npm run registry -- [--port N]        the schema registry alone, in memory
 *
 *   --port N      of the first broker; 0 takes a free one. Default: 9092, a free one if taken
 *   --brokers 3   a cluster of three in one
 *   --data DIR    keeps the data there; without it, it is temporary
 *   --registry    a schema registry beside it
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import { watchSignals } from '../../../cli/signals.ts'
import { ensureDebianPackages, kafkaPackages } from '../debian.ts'
import { isFree } from '../ports.ts'
import { javaPath, kafkaVersion, whatIsMissing } from './jars.ts'
import { type KafkaUnderTest, startKafka } from './kafka.ts'
import { type RegistryUnderTest, startRegistry } from './registry.ts'
import { toolArguments, toolClasses } from './tool.ts'

const DEFAULT_PORT = 9092
const DEFAULT_REGISTRY_PORT = 8081
const jvmFlags = ['-Xms256m', '-Xmx1g']

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

class UsageError extends Error {}

/** The port that was asked for; undefined takes a free one. */
async function choosePort(text: string | undefined, preferred: number) {
  if (text === undefined) {
    if (await isFree(preferred)) return preferred
    print(`port ${preferred} is taken, so a free one is used`)
    return undefined
  }
  if (!/^\d{1,5}$/.test(text)) throw new UsageError(`--port takes a port, not '${text}'.`)
  return Number(text) === 0 ? undefined : Number(text)
}

function brokerCount(text: string): 1 | 3 {
  if (text === '1') return 1
  if (text === '3') return 3
  throw new UsageError(`--brokers takes 1 or 3, not '${text}'.`)
}

function explain(kafka: KafkaUnderTest, registry: RegistryUnderTest | undefined, kept: boolean) {
  const servers = kafka.bootstrap
  const environment = [`MILLRACE_BROKERS=${servers}`]
  if (registry !== undefined) environment.push(`REGISTRY_URL=${registry.url}`)
  print('')
  print(`Apache Kafka ${kafkaVersion} runs at ${servers}`)
  print(`  data, settings, logs   ${kafka.folder} (${kept ? 'kept' : 'deleted at the end'})`)
  if (registry !== undefined) print(`  schema registry        ${registry.url} (in memory)`)
  print('In another terminal:')
  print(`  ${environment.join(' ')} npm start`)
  print(`  npm run kafka -- tool topics --bootstrap-server ${servers.split(',')[0]} --list`)
  print('Ctrl-C ends it.')
}

async function runKafka(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      port: { type: 'string' },
      brokers: { type: 'string', default: '1' },
      data: { type: 'string' },
      registry: { type: 'boolean', default: false },
    },
  })
  const brokers = brokerCount(values.brokers)
  const port = await choosePort(values.port, DEFAULT_PORT)
  let stopping = false
  const signal = watchSignals(name => {
    stopping = true
    print(`${name}: stopping`)
  })
  const running: { stop(): Promise<void> }[] = []
  const started = (async () => {
    const kafka = await startKafka({ brokers, port, dataDir: values.data, jvmFlags, print })
    running.push(kafka)
    const registry = values.registry && !stopping ? await startRegistry({ print }) : undefined
    if (registry !== undefined) running.unshift(registry)
    if (!stopping) explain(kafka, registry, values.data !== undefined)
    return kafka
  })()
  const ended = started.then(({ nodes }) => Promise.race(nodes.map(node => node.exited())))
  const crash = await Promise.race([signal, ended.then(code => `A broker ended with ${code}.`)])
  await Promise.all(running.map(one => one.stop()))
  if (typeof crash !== 'string') return 0
  print(crash)
  return 1
}

async function runRegistry(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { port: { type: 'string' } } })
  const port = await choosePort(values.port, DEFAULT_REGISTRY_PORT)
  const signal = watchSignals(name => print(`${name}: stopping`))
  const registry = await Promise.race([signal, startRegistry({ port, print })])
  if (registry === undefined) return 0
  print(`REGISTRY_URL=${registry.url} is what its users need. Ctrl-C ends it.`)
  await signal
  await registry.stop()
  return 0
}

async function runTool([name = '', ...args]: readonly string[]): Promise<number> {
  const named: Readonly<Record<string, string>> = toolClasses
  const className = named[name] ?? (name.includes('.') ? name : undefined)
  if (className === undefined) {
    throw new UsageError(`The tools are ${Object.keys(named).join(', ')}, or a class of Kafka's.`)
  }
  const flags = await toolArguments(className, print)
  const child = spawn(javaPath(), [...flags, ...args], { stdio: 'inherit' })
  // The tool gets the terminal's Ctrl-C itself.
  process.on('SIGINT', () => {})
  const [code] = await once(child, 'exit')
  return code ?? 130
}

async function main([command = '', ...rest]: readonly string[]): Promise<number> {
  if (whatIsMissing() !== undefined) await ensureDebianPackages(print, kafkaPackages)
  const missing = whatIsMissing()
  if (missing !== undefined) throw new UsageError(missing)
  if (command === 'tool') return runTool(rest)
  if (command === 'registry') return runRegistry(rest)
  return runKafka(command === '' ? [] : [command, ...rest])
}

const usage = 'Usage: npm run kafka -- [--port N] [--brokers 1|3] [--data DIR] [--registry]'

function complaint(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const isUsage = error instanceof UsageError || ('code' in error && /ARGS/.test(`${error.code}`))
  return isUsage ? `${error.message}\n${usage}` : error.message
}

main(process.argv.slice(2)).then(
  code => process.exit(code),
  error => {
    process.stderr.write(`${complaint(error)}\n`)
    process.exit(1)
  },
)

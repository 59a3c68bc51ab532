/** `npm run bench -- NAME [--json] [--variant NAME]`; bench/README.md has the vocabulary. */
import { parseArgs } from 'node:util'
import { contain } from './contained.ts'
import { peerVersions, requireJava } from './peer.ts'
import { type Figure, report } from './report.ts'
import { Unusable } from './settings.ts'

interface Bench {
  readonly run: () => Promise<Figure[]>
  /** Runs minutes: only when it is named. */
  readonly isSlow?: boolean
  readonly needsJava?: boolean
}

const withJava = { isSlow: true, needsJava: true }

const benches: Readonly<Record<string, Bench>> = {
  log: { run: async () => (await import('./log.ts')).logBench() },
  store: { run: async () => (await import('./store.ts')).storeBench() },
  job: { run: async () => (await import('./job.ts')).job() },
  views: { run: async () => (await import('./views.ts')).viewsBench() },
  replay: { run: async () => (await import('./replay.ts')).replayBench() },
  startup: { run: async () => (await import('./startup.ts')).startup() },
  applications: { run: async () => (await import('./applications.ts')).applicationsBench() },
  tracing: { run: async () => (await import('./tracing/tracing.ts')).tracingBench(), isSlow: true },
  state: { run: async () => (await import('./state/state.ts')).stateBench(), isSlow: true },
  reference: {
    run: async () => (await import('./reference/reference.ts')).reference(asked.variant),
    ...withJava,
  },
  latency: { run: async () => (await import('./latency/latency.ts')).latency(), ...withJava },
  restore: { run: async () => (await import('./restore/restore.ts')).restore(), ...withJava },
  'kafka-driver': {
    run: async () => (await import('./kafka-driver/kafka-driver.ts')).kafkaDriver(),
    ...withJava,
  },
}

const usage = `npm run bench -- [NAME …] [--json] [--variant NAME] [--rounds N]

Without a name all benches that take no minutes. Those that do are marked with *, those that need
Java and Maven with **:
  ${Object.entries(benches)
    .map(([name, { isSlow, needsJava }]) => name + (needsJava ? '**' : isSlow ? '*' : ''))
    .join(' ')}
--json     one line of JSON on stdout for each, as its last
--variant  of reference: bench/README.md has them, and what each bench measures
--rounds   how often, in turn (BENCH_ROUNDS)
`

interface Asked {
  readonly names: readonly string[]
  readonly json: boolean
  readonly variant?: string
}

function whatIsAsked(): Asked {
  const { values, positionals } = parsed()
  if (values.help) {
    process.stdout.write(usage)
    process.exit(0)
  }
  const quick = Object.keys(benches).filter(name => !benches[name]!.isSlow)
  const names = positionals.length > 0 ? positionals : quick
  for (const name of names) {
    if (Object.hasOwn(benches, name)) continue
    throw new Unusable(`There is no bench ${name}. There are: ${Object.keys(benches).join(', ')}.`)
  }
  const { json, variant, rounds } = values
  if (variant !== undefined && names.join() !== 'reference') {
    throw new Unusable('Only the bench reference has variants.')
  }
  if (rounds !== undefined) process.env.BENCH_ROUNDS = rounds
  return { names, json, variant }
}

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h', default: false },
        json: { type: 'boolean', default: false },
        rounds: { type: 'string' },
        variant: { type: 'string' },
      },
    })
  } catch (error) {
    throw new Unusable((error as Error).message)
  }
}

async function main({ names, json }: Asked): Promise<void> {
  for (const name of names) if (benches[name]!.needsJava) requireJava()
  contain()
  for (const name of names) {
    const { run, needsJava } = benches[name]!
    const figures = await run()
    report(name, figures, { json, versions: needsJava ? peerVersions() : {} })
    const wrong = figures.find(figure => figure.name === 'correct' && figure.value === false)
    if (wrong !== undefined) process.exitCode = 1
  }
}

function failed(error: unknown): never {
  const isUnusable = error instanceof Unusable
  const text = isUnusable ? error.message : error instanceof Error ? error.stack : String(error)
  process.stderr.write(`${text}\n`)
  process.exit(isUnusable ? 2 : 1)
}

let asked: Asked
try {
  asked = whatIsAsked()
  await main(asked)
} catch (error) {
  failed(error)
}

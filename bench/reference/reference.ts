/**
 * `reference`: the reference job on Kafka, by Millrace and by Kafka Streams in turn, on the same
 * broker and cores, exactly once; or a variant of it. inputs/s is inputs ÷ (first record fetched →
 * last output committed), taken alike: each process tells its first fetch, and the end of the
 * output topic that a read_committed reader may see is watched from outside.
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { type KafkaUnderTest, startKafka, steady } from '../../test/support/kafka/kafka.ts'
import { environment, startSettings } from '../environment.ts'
import { buildPeers, peerCommand, peerThreads } from '../peer.ts'
import { PARTITIONS, produceReference } from '../reference-input.ts'
import { compared, type Figure, peers, type Sides } from '../report.ts'
import { setting, Unusable } from '../settings.ts'
import { type Contender, contend, type Run } from './contender.ts'
import { prepareEmbedded, runEmbedded } from './embedded.ts'
import { type Variant, variants } from './variants.ts'

/** The input of which the truth is known. */
const WHOLE = 1_000_000
const ORDERS = setting('BENCH_ORDERS', WHOLE)
const ROUNDS = setting('BENCH_ROUNDS', 3)
const HOUR_MS = 3_600_000

const say = (text: string) => process.stderr.write(`reference: ${text}\n`)

interface Bench {
  readonly variant: Variant
  readonly kafka: KafkaUnderTest
  readonly log: EventLog
  readonly folder: string
  readonly inputs: number
}

/** `name`: a variant, the main job when absent. */
export async function reference(name = 'main'): Promise<Figure[]> {
  const variant = Object.hasOwn(variants, name) ? variants[name] : undefined
  if (variant === undefined) {
    throw new Unusable(
      `There is no variant ${name}. There are: ${Object.keys(variants).join(', ')}.`,
    )
  }
  if (variant.peer === 'kafka-streams') buildPeers(say)
  const kafka = await startKafka({ config: steady, jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-reference-'))
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  try {
    say(`producing ${ORDERS} orders and their payments`)
    const inputs = await produceInput(log, variant)
    const bench = { variant, kafka, log, folder, inputs }
    return await (variant.peer === 'embedded' ? compareEmbedded(bench) : compare(bench))
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function produceInput(log: EventLog, { shuffled }: Variant): Promise<number> {
  for (const topic of inputs) await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
  return produceReference(log, { orders: ORDERS, shuffled })
}

async function compare(bench: Bench): Promise<Figure[]> {
  const { variant } = bench
  const ours: Measured[] = []
  const theirs: Measured[] = []
  // What the first run finds cold is the broker: it does not count.
  await run(bench, await millrace(bench, 0))
  for (let round = 1; round <= ROUNDS; round++) {
    ours.push(await run(bench, await millrace(bench, round)))
    theirs.push(await run(bench, await kafkaStreams(bench, `grace-1h-${round}`, HOUR_MS)))
  }
  const names = { name: 'brokerMiB', ratio: 'ratioBrokerBytes', unit: 'MiB written to the broker' }
  const brokerBytes = [ours, theirs].map(runs => runs.map(one => one.brokerMiB))
  const list: Figure[] = [
    ...figures(ours, theirs, peers),
    ...compared(names, [brokerBytes[0]!, brokerBytes[1]!], peers),
    ...judged(variant, [...ours, ...theirs]),
  ]
  if (variant.name !== 'main') return list
  const strict = await run(bench, await kafkaStreams(bench, 'grace-30s', 30_000))
  const lost = variant.totals(ours[0]!.results).joined - variant.totals(strict.results).joined
  return [...list, { name: 'kafkaStreamsLostAtGrace30s', value: lost, unit: 'records not counted' }]
}

/** The same job on the embedded log and on Kafka in turn, each a process that is measured whole. */
async function compareEmbedded(bench: Bench): Promise<Figure[]> {
  const { folder, inputs, variant } = bench
  const onKafka: Measured[] = []
  const embedded: Run[] = []
  say('producing the same into the embedded log')
  await prepareEmbedded(folder, log => produceInput(log, variant))
  await run(bench, await millrace(bench, 0))
  for (let round = 1; round <= ROUNDS; round++) {
    embedded.push(tell('embedded', await runEmbedded(folder, round, inputs)))
    onKafka.push(await run(bench, await millrace(bench, round)))
  }
  return [
    ...figures(embedded, onKafka, { prefix: 'kafka', ratios: 'embedded ÷ Kafka' }),
    ...judged(variant, [...embedded, ...onKafka]),
  ]
}

const units = {
  inputsPerSecond: 'inputs/s',
  cpuPerInput: 'µs/input',
  rssMiB: 'MiB at most',
} as const

const ratioNames = {
  inputsPerSecond: 'ratioInputsPerSecond',
  cpuPerInput: 'ratioCpuPerInput',
  rssMiB: 'ratioRss',
} as const

function figures(ours: readonly Run[], theirs: readonly Run[], sides: Sides): Figure[] {
  return (['inputsPerSecond', 'cpuPerInput', 'rssMiB'] as const).flatMap(name => {
    const of = (runs: readonly Run[]) => runs.map(one => one[name])
    const names = { name, ratio: ratioNames[name], unit: units[name] }
    return compared(names, [of(ours), of(theirs)], sides)
  })
}

/** Whether all runs wrote the same, and what is known to be true. */
function judged(variant: Variant, runs: readonly Run[]): Figure[] {
  const digests = new Set(runs.map(({ results }) => digestOf(results)))
  const found = variant.totals(runs[0]!.results)
  const { truth } = variant
  const isTrue = isDeepStrictEqual(found, truth)
  const isKnown = truth !== undefined && ORDERS === WHOLE
  const correct = digests.size === 1 && (!isKnown || isTrue)
  if (!correct) say(`outputs differ: ${JSON.stringify({ ...found, digests: digests.size })}`)
  return [
    {
      name: 'correct',
      value: correct,
      unit: `all outputs are equal${isKnown ? ', and true' : ''}`,
    },
    { name: 'joined', value: found.joined, unit: 'records joined' },
  ]
}

type Measured = Run & { readonly brokerMiB: number }

async function run({ log, kafka, inputs }: Bench, contender: Contender): Promise<Measured> {
  const before = bytesIn(kafka.folder)
  const measured = await contend(log, contender, inputs)
  const brokerMiB = (bytesIn(kafka.folder) - before) / 2 ** 20
  return { ...tell(contender.name, measured), brokerMiB }
}

function tell(name: string, run: Run): Run {
  const { inputsPerSecond, cpuPerInput, rssMiB, seconds } = run
  say(
    `${name}: ${Math.round(inputsPerSecond)} inputs/s in ${seconds.toFixed(1)} s, ` +
      `${cpuPerInput.toFixed(2)} µs/input, ${Math.round(rssMiB)} MiB`,
  )
  return run
}

async function millrace(bench: Bench, round: number): Promise<Contender> {
  const { kafka, log, folder, variant } = bench
  const group = `millrace-${round}`
  const output = `${group}-out`
  await log.createTopic(output, PARTITIONS, { retentionMs: -1 })
  const files = ['../kept.ts', 'millrace.ts'].map(file => join(import.meta.dirname, file))
  const processes = numbers(variant.instances).map(instance => [
    ...[...files, kafka.bootstrap, group, output],
    ...[join(folder, `${group}-${instance}`), '', variant.job, `${instance}`],
  ])
  const program = { command: process.execPath, env: startSettings(), processes }
  return { name: 'Millrace', ...program, output, group, inputs }
}

async function kafkaStreams(bench: Bench, label: string, graceMs: number): Promise<Contender> {
  const { kafka, log, folder, variant } = bench
  const group = `kafka-streams-${label}`
  const output = `${group}-out`
  await log.createTopic(output, PARTITIONS, { retentionMs: -1 })
  // One thread a core, however many processes.
  const threads = `${Math.max(1, peerThreads / variant.instances)}`
  const commands = numbers(variant.instances).map(instance =>
    peerCommand(
      'Reference',
      [
        ...[kafka.bootstrap, group, output, join(folder, `${group}-${instance}`)],
        ...[`${graceMs}`, threads, '', variant.job, variant.guarantee],
      ],
      variant.tuning,
    ),
  )
  const [command] = commands[0]!
  const processes = commands.map(([, args]) => args)
  return { name: `Kafka Streams, ${label}`, command, processes, output, group, inputs }
}

const inputs = ['orders', 'payments']
const numbers = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

function digestOf(results: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256')
  for (const line of [...results].map(([key, value]) => `${key}=${value}\n`).sort()) {
    hash.update(line)
  }
  return hash.digest('hex')
}

function bytesIn(folder: string): number {
  let bytes = 0
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.log')) continue
    bytes += statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
  }
  return bytes
}

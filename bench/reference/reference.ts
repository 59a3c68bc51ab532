/**
 * `reference`: the reference job on Kafka, by Millrace and by Kafka Streams in turn, on the same
 * broker and cores, exactly once; or a variant of it. inputs/s is inputs ÷ (first record fetched →
 * last output committed), taken alike: each process tells its first fetch, and the end of the
 * output topic that a read_committed reader may see is watched from outside.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { javaPath } from '../../test/support/kafka/jars.ts'
import { type KafkaUnderTest, startKafka } from '../../test/support/kafka/kafka.ts'
import { environment } from '../environment.ts'
import { PARTITIONS, produceReference } from '../reference-input.ts'
import { type Figure, median } from '../report.ts'
import { type Contender, contend, type Run } from './contender.ts'
import { type Variant, variants } from './variants.ts'

const ORDERS = Number(process.env.BENCH_ORDERS ?? 1_000_000)
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3)
const peer = join(import.meta.dirname, '../peers')
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
  const variant = variants[name]
  if (variant === undefined) {
    throw new Error(`there is no variant ${name}; there are: ${Object.keys(variants).join(', ')}`)
  }
  if (variant.peer === 'kafka-streams') {
    say('building the Kafka Streams peer')
    execFileSync('mvn', ['--quiet', '--batch-mode', 'package'], { cwd: peer, stdio: 'inherit' })
  }
  const kafka = await startKafka({ jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-reference-'))
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  try {
    say(`producing ${ORDERS} orders and their payments`)
    for (const topic of ['orders', 'payments']) {
      await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
    }
    const inputs = await produceReference(log, { orders: ORDERS, shuffled: variant.shuffled })
    const bench = { variant, kafka, log, folder, inputs }
    return await (variant.peer === 'embedded' ? compareEmbedded(bench) : compare(bench))
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
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
  const digests = new Set([...ours, ...theirs].map(({ results }) => digestOf(results)))
  const found = variant.totals(ours[0]!.results)
  const { truth } = variant
  const isTrue = truth === undefined || isDeepStrictEqual(found, truth)
  const correct = digests.size === 1 && (ORDERS < 1_000_000 || isTrue)
  if (!correct) say(`outputs differ: ${JSON.stringify({ ...found, digests: digests.size })}`)
  const list: Figure[] = [
    ...figures(ours, theirs),
    { name: 'correct', value: correct, unit: 'all outputs are equal, and true' },
    { name: 'joined', value: found.joined, unit: 'records joined' },
  ]
  if (variant.name !== 'main') return list
  const strict = await run(bench, await kafkaStreams(bench, 'grace-30s', 30_000))
  const lost = found.joined - variant.totals(strict.results).joined
  return [...list, { name: 'kafkaStreamsLostAtGrace30s', value: lost, unit: 'records not counted' }]
}

/** The same job on the embedded log, in a process of its own, beside the one on Kafka. */
async function compareEmbedded(bench: Bench): Promise<Figure[]> {
  const onKafka: Measured[] = []
  const embedded: Record<'inputsPerSecond' | 'cpuPerInput' | 'rssMiB', number>[] = []
  const args = [join(import.meta.dirname, '../main.ts'), 'job', '--json']
  for (let round = 1; round <= ROUNDS; round++) {
    onKafka.push(await run(bench, await millrace(bench, round)))
    const output = execFileSync(process.execPath, args, { encoding: 'utf8' })
    const figures = JSON.parse(output.trim().split('\n').at(-1)!)
    say(`embedded: ${Math.round(figures.inputsPerSecond)} inputs/s`)
    embedded.push(figures)
  }
  return (['inputsPerSecond', 'cpuPerInput', 'rssMiB'] as const).flatMap(name => {
    const value = median(embedded.map(one => one[name]))
    const other = median(onKafka.map(one => one[name]))
    const ratio = `ratio${name[0]!.toUpperCase()}${name.slice(1)}`
    return [
      { name, value, unit: units[name] },
      { name: `kafka.${name}`, value: other, unit: units[name] },
      { name: ratio, value: value / other, unit: 'embedded ÷ Kafka' },
    ]
  })
}

const units = {
  inputsPerSecond: 'inputs/s',
  cpuPerInput: 'µs/input',
  rssMiB: 'MiB at most',
  brokerMiB: 'MiB written to the broker',
} as const

function figures(ours: readonly Measured[], theirs: readonly Measured[]): Figure[] {
  const list: Figure[] = []
  for (const [name, unit] of Object.entries(units) as [keyof typeof units, string][]) {
    const mine = median(ours.map(one => one[name]))
    const its = median(theirs.map(one => one[name]))
    const short = { inputsPerSecond: 'InputsPerSecond', cpuPerInput: 'CpuPerInput', rssMiB: 'Rss' }
    list.push({ name, value: mine, unit })
    list.push({ name: `kafkaStreams.${name}`, value: its, unit })
    const ratio = name === 'brokerMiB' ? 'BrokerBytes' : short[name]
    list.push({ name: `ratio${ratio}`, value: mine / its, unit: 'ours ÷ Kafka Streams' })
  }
  return list
}

type Measured = Run & { readonly brokerMiB: number }

async function run({ log, kafka, inputs }: Bench, contender: Contender): Promise<Measured> {
  const before = bytesIn(kafka.folder)
  const measured = await contend(log, contender, inputs)
  const brokerMiB = (bytesIn(kafka.folder) - before) / 2 ** 20
  const { inputsPerSecond, cpuPerInput, rssMiB, seconds } = measured
  say(
    `${contender.name}: ${Math.round(inputsPerSecond)} inputs/s in ${seconds.toFixed(1)} s, ` +
      `${cpuPerInput.toFixed(2)} µs/input, ${Math.round(rssMiB)} MiB`,
  )
  return { ...measured, brokerMiB }
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
  return { name: 'Millrace', command: process.execPath, processes, output, group, inputs }
}

async function kafkaStreams(bench: Bench, label: string, graceMs: number): Promise<Contender> {
  const { kafka, log, folder, variant } = bench
  const group = `kafka-streams-${label}`
  const output = `${group}-out`
  await log.createTopic(output, PARTITIONS, { retentionMs: -1 })
  const classPath = `${peer}/target/reference.jar:${peer}/target/lib/*`
  // One thread a core, however many processes.
  const threads = `${2 / variant.instances}`
  const processes = numbers(variant.instances).map(instance => [
    ...['-Xmx2g', '-cp', classPath, 'Reference', kafka.bootstrap, group, output],
    ...[join(folder, `${group}-${instance}`), `${graceMs}`, threads],
    ...['', variant.job, variant.guarantee],
  ])
  const name = `Kafka Streams, ${label}`
  return { name, command: javaPath(), processes, output, group, inputs }
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

/**
 * `reference`: the reference job on Kafka, by Millrace and by Kafka Streams in turn, on the same
 * broker and cores, exactly once. inputs/s is inputs ÷ (first record fetched → last output
 * committed), taken alike: each process tells its first fetch, and the end of the output topic
 * that a read_committed reader may see is watched from outside.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { javaPath } from '../../test/support/kafka/jars.ts'
import { type KafkaUnderTest, startKafka } from '../../test/support/kafka/kafka.ts'
import { environment } from '../environment.ts'
import { PARTITIONS, produceReference } from '../reference-input.ts'
import { type Figure, median } from '../report.ts'
import { type Contender, contend, type Run } from './contender.ts'

const ORDERS = Number(process.env.BENCH_ORDERS ?? 1_000_000)
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3)
/** Of the whole input; of a smaller one the contenders are only compared with each other. */
const TRUTH = { joined: 949_905, amount: 23_981_953_270, windows: 5_286 }
const peer = join(import.meta.dirname, '../peers')
const HOUR_MS = 3_600_000

const say = (text: string) => process.stderr.write(`reference: ${text}\n`)

interface Bench {
  readonly kafka: KafkaUnderTest
  readonly log: EventLog
  readonly folder: string
  readonly inputs: number
}

export async function reference(): Promise<Figure[]> {
  say('building the Kafka Streams peer')
  execFileSync('mvn', ['--quiet', '--batch-mode', 'package'], { cwd: peer, stdio: 'inherit' })
  const kafka = await startKafka({ jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-reference-'))
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  try {
    say(`producing ${ORDERS} orders and their payments`)
    for (const topic of ['orders', 'payments']) {
      await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
    }
    const inputs = await produceReference(log, ORDERS)
    return await compare({ kafka, log, folder, inputs })
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function compare(bench: Bench): Promise<Figure[]> {
  const ours: Measured[] = []
  const theirs: Measured[] = []
  for (let round = 1; round <= ROUNDS; round++) {
    ours.push(await run(bench, await millrace(bench, round)))
    theirs.push(await run(bench, await kafkaStreams(bench, `grace-1h-${round}`, HOUR_MS)))
  }
  const strict = await run(bench, await kafkaStreams(bench, 'grace-30s', 30_000))
  const digests = new Set([...ours, ...theirs].map(({ results }) => digestOf(results)))
  const truth = totals(ours[0]!.results)
  const whole = ORDERS === 1_000_000
  const isTrue =
    truth.joined === TRUTH.joined &&
    truth.amount === TRUTH.amount &&
    ours[0]!.results.size === TRUTH.windows
  const correct = digests.size === 1 && (!whole || isTrue)
  if (!correct) say(`outputs differ: ${JSON.stringify({ truth, digests: digests.size })}`)
  const lost = truth.joined - totals(strict.results).joined
  return [
    ...figures(ours, theirs),
    { name: 'correct', value: correct, unit: 'all outputs are equal, and true' },
    { name: 'joined', value: truth.joined, unit: 'records joined and counted' },
    { name: 'kafkaStreamsLostAtGrace30s', value: lost, unit: 'records it did not count' },
  ]
}

function figures(ours: readonly Measured[], theirs: readonly Measured[]): Figure[] {
  const list: Figure[] = []
  const units = {
    inputsPerSecond: 'inputs/s',
    cpuPerInput: 'µs/input',
    rssMiB: 'MiB at most',
    brokerMiB: 'MiB written to the broker',
  } as const
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

async function millrace({ kafka, log, folder }: Bench, round: number): Promise<Contender> {
  const group = `millrace-${round}`
  const output = `${group}-out`
  await log.createTopic(output, PARTITIONS, { retentionMs: -1 })
  const script = join(import.meta.dirname, 'millrace.ts')
  const args = [script, kafka.bootstrap, group, output, join(folder, group)]
  return { name: 'Millrace', command: process.execPath, args, output, group }
}

async function kafkaStreams(
  { kafka, log, folder }: Bench,
  label: string,
  graceMs: number,
): Promise<Contender> {
  const group = `kafka-streams-${label}`
  const output = `${group}-out`
  await log.createTopic(output, PARTITIONS, { retentionMs: -1 })
  const classPath = `${peer}/target/reference.jar:${peer}/target/lib/*`
  const program = [kafka.bootstrap, group, output, join(folder, group), `${graceMs}`, '2']
  const args = ['-Xmx2g', '-cp', classPath, 'Reference', ...program]
  return { name: `Kafka Streams, ${label}`, command: javaPath(), args, output, group }
}

function totals(results: ReadonlyMap<string, string>): { joined: number; amount: number } {
  let joined = 0
  let amount = 0
  for (const value of results.values()) {
    const [count, sum] = value.split(',').map(Number) as [number, number]
    joined += count
    amount += sum
  }
  return { joined, amount }
}

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

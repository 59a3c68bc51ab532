/**
 * `kafka-driver`: reading and transactional writing of records of 100 B, by Millrace's driver, by
 * kafkajs, by the classes of @platformatic/kafka and by Kafka's own tools, in turn, each as a
 * process of its own, on one broker that shares the cores.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { startKafka } from '../../test/support/kafka/kafka.ts'
import { toolClasses } from '../../test/support/kafka/tool.ts'
import { environment } from '../environment.ts'
import { type Figure, median } from '../report.ts'
import { setting } from '../settings.ts'
import {
  type ConsumeJob,
  type ProduceJob,
  type Rate,
  runJava,
  runNode,
  TRANSACTION_MS,
} from './jobs.ts'
import { BATCH_BYTES, countRecords, fillTopic, PARTITIONS, value } from './records.ts'

const RECORDS = setting('BENCH_RECORDS', 1_000_000)
const ROUNDS = setting('BENCH_ROUNDS', 2)
const INPUT = 'bench-input'

const say = (text: string) => process.stderr.write(`kafka-driver: ${text}\n`)

export interface Bed {
  readonly bootstrap: string
  readonly log: EventLog
  /** For files of Kafka's tools. */
  readonly folder: string
}

type Contender = (bed: Bed) => Promise<Rate>
type Rates = Map<string, Rate[]>

/** A broker with the input topic on it. */
export async function withInput<T>(work: (bed: Bed) => Promise<T>): Promise<T> {
  const kafka = await startKafka({ jvmFlags: ['-Xmx512m', '-Xms512m'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-kafka-driver-'))
  try {
    const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
    say(`filling a topic with ${RECORDS} records`)
    await fillTopic(log, INPUT, RECORDS)
    return await work({ bootstrap: kafka.bootstrap, log, folder }).finally(() => log.close())
  } finally {
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

export function kafkaDriver(): Promise<Figure[]> {
  return withInput(async bed => {
    const fetched = await inTurn(bed, 'fetch', {
      millrace: consumes('millrace'),
      kafkajs: consumes('kafkajs'),
      platformatic: consumes('platformatic'),
      java: javaConsumes,
    })
    const produced = await inTurn(bed, 'produce', {
      millrace: produces('millrace'),
      kafkajs: produces('kafkajs'),
      java: javaProduces,
    })
    const ratios = {
      ratioFetchToKafkajs: ratioOf(fetched, 'kafkajs'),
      ratioFetchToPlatformatic: ratioOf(fetched, 'platformatic'),
      ratioFetchToJava: ratioOf(fetched, 'java'),
      ratioFetchCpuToKafkajs: cpuRatioOf(fetched, 'kafkajs'),
      ratioFetchCpuToPlatformatic: cpuRatioOf(fetched, 'platformatic'),
      ratioProduceToKafkajs: ratioOf(produced, 'kafkajs'),
      ratioProduceToJava: ratioOf(produced, 'java'),
    }
    return [
      ...figures('fetch', fetched),
      ...figures('produce', produced),
      ...Object.entries(ratios).map(([name, value]) => ({ name, value, unit: 'ours ÷ theirs' })),
    ]
  })
}

/** Every contender once a round, so that a busy minute hits all of them. */
export async function inTurn(
  bed: Bed,
  what: string,
  contenders: Record<string, Contender>,
): Promise<Rates> {
  const rates: Rates = new Map(Object.keys(contenders).map(name => [name, []]))
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [name, contender] of Object.entries(contenders)) {
      const rate = await contender(bed)
      const cpu = rate.cpuPerRecord === undefined ? '' : `, ${rate.cpuPerRecord.toFixed(2)} µs each`
      say(`${what}, ${name}: ${Math.round(rate.recordsPerSecond)} records/s${cpu}`)
      rates.get(name)!.push(rate)
    }
  }
  return rates
}

export function figures(what: string, rates: Rates): Figure[] {
  return [...rates.keys()].flatMap(name => {
    const cpu = cpuOf(rates, name)
    const rate = { name: `${what}.${name}`, value: rateOf(rates, name), unit: 'records/s' }
    if (Number.isNaN(cpu)) return [rate]
    return [rate, { name: `${what}Cpu.${name}`, value: cpu, unit: 'µs/record' }]
  })
}

export function ratioOf(rates: Rates, name: string): number {
  return rateOf(rates, 'millrace') / rateOf(rates, name)
}

function cpuRatioOf(rates: Rates, name: string): number {
  return cpuOf(rates, 'millrace') / cpuOf(rates, name)
}

function rateOf(rates: Rates, name: string): number {
  return median(rates.get(name)!.map(one => one.recordsPerSecond))
}

/** NaN where it is not known. */
function cpuOf(rates: Rates, name: string): number {
  return median(rates.get(name)!.flatMap(one => one.cpuPerRecord ?? []))
}

export function consumes(contender: ConsumeJob['contender'], library?: string): Contender {
  return ({ bootstrap }) => {
    const job = { contender, bootstrap, topic: INPUT, records: RECORDS }
    return runNode('consume.ts', library === undefined ? job : { ...job, folder: library })
  }
}

async function javaConsumes({ bootstrap }: Bed): Promise<Rate> {
  const stdout = await runJava('org.apache.kafka.tools.ConsumerPerformance', [
    ...['--bootstrap-server', bootstrap, '--topic', INPUT, '--num-records', `${RECORDS}`],
    ...['--command-property', 'isolation.level=read_committed'],
  ])
  const lines = stdout.trim().split('\n')
  const names = lines.find(line => line.startsWith('start.time'))?.split(', ') ?? []
  const row = lines.at(-1)!.split(', ')
  const count = Number(row[names.indexOf('data.consumed.in.nMsg')])
  // Of the time after the group was joined, as for the others.
  const ms = Number(row[names.indexOf('fetch.time.ms')])
  if (count !== RECORDS || !(ms > 0)) throw new Error(`Kafka's tool said: ${stdout}`)
  return { recordsPerSecond: (count / ms) * 1000 }
}

/** The topic of one run: made, checked and deleted here. */
async function withOutput(
  { log }: Bed,
  name: string,
  work: (topic: string) => Promise<Rate>,
): Promise<Rate> {
  const topic = `bench-output-${name}-${Date.now()}`
  await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
  const rate = await work(topic)
  const found = await countRecords(log, topic)
  if (found !== RECORDS) throw new Error(`${name} left ${found} committed records of ${RECORDS}`)
  await log.deleteTopic(topic)
  return rate
}

function produces(contender: ProduceJob['contender']): Contender {
  return bed =>
    withOutput(bed, contender, topic =>
      runNode('produce.ts', { contender, bootstrap: bed.bootstrap, topic, records: RECORDS }),
    )
}

function javaProduces(bed: Bed): Promise<Rate> {
  return withOutput(bed, 'java', async topic => {
    // One value for all: making random ones would cost the tool more than sending them.
    const payload = join(bed.folder, 'payload')
    writeFileSync(payload, value)
    const properties = [
      ...['acks=all', 'compression.type=none', `batch.size=${BATCH_BYTES}`],
      ...['linger.ms=5', `buffer.memory=${64 << 20}`],
    ]
    const stdout = await runJava(toolClasses.producerPerformance, [
      ...['--bootstrap-server', bed.bootstrap, '--topic', topic, '--num-records', `${RECORDS}`],
      ...['--payload-file', payload, '--throughput', '-1'],
      ...['--transactional-id', topic, '--transaction-duration-ms', `${TRANSACTION_MS}`],
      ...['--command-property', ...properties],
    ])
    const total = /^(\d+) records sent, ([\d.]+) records\/sec/m.exec(
      stdout.trim().split('\n').at(-1)!,
    )
    if (Number(total?.[1]) !== RECORDS) throw new Error(`Kafka's tool said: ${stdout}`)
    return { recordsPerSecond: Number(total![2]) }
  })
}

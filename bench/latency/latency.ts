/**
 * `latency`: the reference job live. Inputs come at a fixed rate; the latency of a payment is the
 * time from its event time, which is when it was to be sent, to when a read_committed reader has an
 * output record whose count covers it. Millrace and Kafka Streams in turn, with their defaults for
 * exactly once (epochs of up to 100 ms; commit interval 100 ms), on one broker and the same cores.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { startKafka, steady } from '../../test/support/kafka/kafka.ts'
import { environment } from '../environment.ts'
import { buildPeers, peerCommand, peerThreads } from '../peer.ts'
import { PARTITIONS } from '../reference-input.ts'
import { compared, type Figure, peers } from '../report.ts'
import { setting } from '../settings.ts'
import { sendPaced } from './pace.ts'

const RATE = setting('BENCH_RATE', 10_000)
const SECONDS = setting('BENCH_SECONDS', 60)
const ROUNDS = setting('BENCH_ROUNDS', 2)
/** Not counted: code is compiled, caches fill. */
const WARM_SECONDS = 15
const START_MS = 6_000
const DRAIN_MS = 3_000
const HOUR_MS = 3_600_000

const say = (text: string) => process.stderr.write(`latency: ${text}\n`)

interface Bed {
  readonly bootstrap: string
  readonly log: EventLog
  readonly folder: string
}

interface Latencies {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export async function latency(): Promise<Figure[]> {
  buildPeers(say)
  const kafka = await startKafka({ config: steady, jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const folder = mkdtempSync(join(tmpdir(), 'millrace-latency-'))
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  const bed = { bootstrap: kafka.bootstrap, log, folder }
  try {
    const ours: Latencies[] = []
    const theirs: Latencies[] = []
    for (let round = 1; round <= ROUNDS; round++) {
      ours.push(await measure(bed, `millrace-${round}`, millrace))
      theirs.push(await measure(bed, `kafka-streams-${round}`, kafkaStreams))
    }
    return figures(ours, theirs)
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

function figures(ours: readonly Latencies[], theirs: readonly Latencies[]): Figure[] {
  return (['p50', 'p95', 'p99', 'max'] as const).flatMap(name => {
    const of = (all: readonly Latencies[]) => all.map(one => one[name])
    const ratio = `ratio${name[0]!.toUpperCase()}${name.slice(1)}`
    return compared({ name, ratio, unit: 'ms' }, [of(ours), of(theirs)], peers)
  })
}

type Command = (bed: Bed, group: string) => ReturnType<typeof peerCommand>

const millrace: Command = ({ bootstrap, folder }, group) => [
  process.execPath,
  [
    join(import.meta.dirname, '../reference/millrace.ts'),
    ...[bootstrap, group, `${group}-out`, join(folder, group), `${group}-`],
  ],
]

const kafkaStreams: Command = ({ bootstrap, folder }, group) =>
  peerCommand('Reference', [
    ...[bootstrap, group, `${group}-out`, join(folder, group), `${HOUR_MS}`],
    ...[`${peerThreads}`, `${group}-`],
  ])

async function measure(bed: Bed, group: string, command: Command): Promise<Latencies> {
  const { bootstrap, log } = bed
  const prefix = `${group}-`
  for (const topic of [`${prefix}orders`, `${prefix}payments`, `${group}-out`]) {
    await log.createTopic(topic, PARTITIONS, { retentionMs: -1 })
  }
  const [program, args] = command(bed, group)
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const exited = once(child, 'exit')
  try {
    await new Promise(resolve => setTimeout(resolve, START_MS))
    const counted = new Counted(Date.now() + WARM_SECONDS * 1000)
    const reading = new AbortController()
    const read = readOutput(bed, `${group}-out`, counted, reading.signal)
    const { latestMs, sent } = await sendPaced({
      bootstrap,
      prefix,
      inputsPerSecond: RATE,
      seconds: WARM_SECONDS + SECONDS,
      onPayment: (output, timeMs) => counted.expect(output, timeMs),
    })
    await new Promise(resolve => setTimeout(resolve, DRAIN_MS))
    reading.abort()
    await read
    const ended = child.signalCode ?? child.exitCode
    if (ended !== null) throw new Error(`${group} ended with ${ended}`)
    const found = counted.latencies(group)
    const shown = Object.entries(found).map(([name, ms]) => `${name} ${Math.round(ms)} ms`)
    say(`${group}: ${shown.join(', ')}; ${sent} sent, at most ${latestMs} ms late`)
    return found
  } finally {
    child.kill('SIGTERM')
    await exited
  }
}

/** What each output key should come to count, and when it was seen to. */
class Counted {
  readonly #fromMs: number
  readonly #times = new Map<string, number[]>()
  readonly #seen = new Map<string, number>()
  readonly #latencies: number[] = []

  constructor(fromMs: number) {
    this.#fromMs = fromMs
  }

  expect(output: string, timeMs: number): void {
    const times = this.#times.get(output)
    if (times === undefined) this.#times.set(output, [timeMs])
    else times.push(timeMs)
  }

  see(output: string, count: number, nowMs: number): void {
    const times = this.#times.get(output)
    if (times === undefined || times.length < count) throw new Error(`${output}: ${count} is wrong`)
    for (let i = this.#seen.get(output) ?? 0; i < count; i++) {
      if (times[i]! >= this.#fromMs) this.#latencies.push(nowMs - times[i]!)
    }
    this.#seen.set(output, count)
  }

  /** Throws unless every payment was counted. */
  latencies(group: string): Latencies {
    for (const [output, times] of this.#times) {
      const seen = this.#seen.get(output) ?? 0
      if (seen !== times.length) {
        throw new Error(`${group} counts ${seen} of ${times.length} at ${output}`)
      }
    }
    const sorted = this.#latencies.sort((a, b) => a - b)
    const at = (share: number) => sorted[Math.min(sorted.length - 1, sorted.length * share) | 0]!
    return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1)! }
  }
}

async function readOutput(
  { log }: Bed,
  topic: string,
  counted: Counted,
  signal: AbortSignal,
): Promise<void> {
  const requests = Array.from({ length: PARTITIONS }, (_, partition) => {
    return { topic, partition, offset: 0, bytesMax: 1 << 20 }
  })
  while (!signal.aborted) {
    const responses = await log.fetch(requests, { waitMsMax: 500, signal })
    const nowMs = Date.now()
    responses.forEach(({ bytes, nextOffset: after }, i) => {
      const request = requests[i]!
      const { runs, nextOffset } = decodeBatches(bytes, { fromOffset: request.offset })
      for (const { bytes, length, keyStart, keyEnd, valueStart, valueEnd } of runs) {
        for (let row = 0; row < length; row++) {
          const value = bytes.latin1Slice(valueStart[row]!, valueEnd[row]!)
          const output = bytes.latin1Slice(keyStart[row]!, keyEnd[row]!)
          counted.see(output, Number(value.slice(0, value.indexOf(','))), nowMs)
        }
      }
      request.offset = Math.max(request.offset, nextOffset, after)
    })
  }
}

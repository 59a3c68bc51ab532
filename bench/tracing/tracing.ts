/**
 * `tracing`: what tracing costs. The reference job on the embedded log, as a backlog, without and
 * with tracing, 1 % of its input sampled; spans go to a receiver in a process of its own. Once
 * where the other records have no headers, and once where each has those of an event, every
 * second one with a traceparent that is not sampled: all of them have to be looked through.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { openTracing, type ProcessTracing, SPANS_PER_SECOND_MAX } from '../../cli/tracing.ts'
import type { Header } from '../../log/record-headers.ts'
import { Engine } from '../../streams/engine.ts'
import { type Bed, environment, withBed } from '../environment.ts'
import { referenceTopology } from '../reference/topology.ts'
import { PARTITIONS, produceReference } from '../reference-input.ts'
import { type Figure, measured, median, root } from '../report.ts'
import { setting } from '../settings.ts'
import { shareOf } from './profile.ts'

const ORDERS = setting('BENCH_ORDERS', 1_000_000)
const ROUNDS = setting('BENCH_ROUNDS', 3)
const SAMPLED_EVERY = 100
const TURN_MS = 500
const PAUSE_MS = 60

const inputKinds = ['bare', 'headed'] as const
type InputKind = (typeof inputKinds)[number]

const eventHeaders = Object.entries({
  ce_id: 'order-000000001.created',
  ce_type: 'OrderCreated',
  ce_source: 'millrace/bench',
  ce_time: '2025-06-15T15:06:40.000Z',
  ce_specversion: '1.0',
  correlationid: 'order-000000001',
}).map(([name, text]): Header => [name, Buffer.from(text)])

/** An order and its payment are of one trace. */
function headersOf(kind: InputKind, number: number): readonly Header[] | undefined {
  const isSampled = number % SAMPLED_EVERY === 0
  if (kind === 'bare' && !isSampled) return undefined
  const id = Math.imul(number + 1, 0x9e3779b1) >>> 0
  const digits = id.toString(16).padStart(8, '0')
  const traceparent = `00-${digits.repeat(4)}-${digits.repeat(2)}-0${isSampled ? 1 : 0}`
  const header: Header = ['traceparent', Buffer.from(traceparent)]
  if (kind === 'bare') return [header]
  return isSampled || number % 2 === 0 ? [...eventHeaders, header] : eventHeaders
}

const modes = ['off', 'on'] as const
type Mode = (typeof modes)[number]

/** What one mode took over the whole input; `threadUs` without the threads of store and garbage. */
interface Run {
  ms: number
  cpuUs: number
  threadUs: number
}

interface Job {
  readonly bed: Bed
  readonly kind: InputKind
  readonly round: number
  readonly tracing: ProcessTracing
}

/**
 * Both modes over the same input at the same time, half a second each in turn, so that whatever
 * else the machine does falls on both alike.
 */
async function runBoth(job: Job): Promise<Record<Mode, Run>> {
  const none = { ms: 0, cpuUs: 0, threadUs: 0 }
  const runs: Record<Mode, Run> = { off: { ...none }, on: { ...none } }
  const engines = { off: await open(job, 'off'), on: await open(job, 'on') }
  const left = new Set<Mode>(modes)
  for (let turn = 0; left.size > 0; turn++) {
    const order = turn % 2 === 0 ? modes : modes.toReversed()
    for (const mode of order) {
      if (!left.has(mode)) continue
      const before = process.threadCpuUsage()
      const { ms, cpuUs } = await measured(async () => {
        if (await goOn(engines[mode])) left.delete(mode)
      })
      const { user, system } = process.threadCpuUsage(before)
      runs[mode].ms += ms - PAUSE_MS
      runs[mode].cpuUs += cpuUs
      runs[mode].threadUs += user + system
    }
  }
  for (const mode of modes) await engines[mode].stop()
  return runs
}

function open({ bed, kind, round, tracing }: Job, mode: Mode): Promise<Engine> {
  const name = `${kind}-${mode}-${round}`
  return Engine.open({
    topology: referenceTopology({ application: name, output: name, prefix: `${kind}-` }),
    log: bed.log,
    database: bed.database,
    environment: { ...environment, ...(mode === 'on' && { tracing: tracing.application(name) }) },
    settings: { idleAfterMs: Number.POSITIVE_INFINITY },
  })
}

/** What of the thread's time goes into tracing, and into the sending of spans. */
async function profiled(job: Job): Promise<number> {
  const engine = await open(job, 'on')
  const files = /@opentelemetry|\/streams\/(spans|trace-context|trace-limit)\.ts/
  const share = await shareOf(files, () => engine.drain())
  await engine.stop()
  return share
}

/** Half a second of work, its commits, and time for its spans to be sent; true at the end. */
async function goOn(engine: Engine): Promise<boolean> {
  const untilMs = performance.now() + TURN_MS
  let isOver = false
  while (!isOver && performance.now() < untilMs) {
    isOver = !(await engine.step()) && engine.atEnd
  }
  await engine.settle()
  await new Promise(resolve => setTimeout(resolve, PAUSE_MS))
  return isOver
}

async function startReceiver(): Promise<{ url: string; stop: () => Promise<number> }> {
  const child: ChildProcess = spawn(process.execPath, ['bench/tracing/receiver.ts'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]()
  const { value: url } = await lines.next()
  return {
    url: String(url),
    async stop() {
      child.kill('SIGTERM')
      const { value } = await lines.next()
      if (child.exitCode === null) await once(child, 'exit')
      return Number(value)
    },
  }
}

function standardError(values: readonly number[]): number {
  const mean = values.reduce((sum, one) => sum + one, 0) / values.length
  const squares = values.reduce((sum, one) => sum + (one - mean) ** 2, 0)
  return Math.sqrt(squares / (values.length - 1) / values.length)
}

function figuresOf(
  kind: InputKind,
  inputs: number,
  rounds: readonly Record<Mode, Run>[],
): Figure[] {
  const of = (mode: Mode, figure: (run: Run) => number) =>
    median(rounds.map(round => figure(round[mode])))
  const rate = ({ ms }: Run) => (inputs / ms) * 1000
  const cpu = ({ cpuUs }: Run) => cpuUs / inputs
  const sum = (mode: Mode, field: keyof Run) =>
    rounds.reduce((total, round) => total + round[mode][field], 0)
  const unit = `tracing ÷ none, ${kind}`
  const ratios = rounds.map(({ on, off }) => on.threadUs / off.threadUs)
  return [
    { name: `${kind}InputsPerSecondOff`, value: of('off', rate), unit: 'inputs/s' },
    { name: `${kind}InputsPerSecondOn`, value: of('on', rate), unit: 'inputs/s' },
    { name: `${kind}CpuPerInputOff`, value: of('off', cpu), unit: 'µs/input' },
    { name: `${kind}CpuPerInputOn`, value: of('on', cpu), unit: 'µs/input' },
    { name: `${kind}RatioInputsPerSecond`, value: sum('off', 'ms') / sum('on', 'ms'), unit },
    { name: `${kind}RatioCpuPerInput`, value: sum('on', 'cpuUs') / sum('off', 'cpuUs'), unit },
    { name: `${kind}RatioThread`, value: sum('on', 'threadUs') / sum('off', 'threadUs'), unit },
    { name: `${kind}RatioThreadError`, value: standardError(ratios), unit: 'of its mean' },
  ]
}

async function tracingTo(url: string, spansPerSecondMax: number) {
  const tracing = await openTracing({
    endpoint: url,
    share: 0,
    spansPerSecondMax,
    // As many as are sent at once come in a second, and are sent in the turn that made the last.
    environment: {},
    logger: pino({ level: 'warn' }, pino.destination(2)),
  })
  return tracing!
}

export async function tracingBench(): Promise<Figure[]> {
  const figures: Figure[] = []
  const receiver = await startReceiver()
  const tracing = await tracingTo(receiver.url, SPANS_PER_SECOND_MAX)
  // In turns, tracing has half of each second, and so much of what a second may have.
  const halved = await tracingTo(receiver.url, SPANS_PER_SECOND_MAX / 2)
  for (const kind of inputKinds) {
    await withBed(async bed => {
      const topics = ['orders', 'payments'].map(topic => `${kind}-${topic}`)
      for (const topic of topics) await bed.log.createTopic(topic, PARTITIONS)
      process.stderr.write(`tracing: producing ${ORDERS} orders and their payments, ${kind}\n`)
      const headers = (number: number) => headersOf(kind, number)
      const options = { orders: ORDERS, prefix: `${kind}-`, headers }
      const inputs = await produceReference(bed.log, options)
      const rounds: Record<Mode, Run>[] = []
      // The first does not count: code is compiled.
      for (let round = 0; round <= ROUNDS; round++) {
        const both = await runBoth({ bed, kind, round, tracing: halved })
        const ratio = (of: 'cpuUs' | 'threadUs') => (both.on[of] / both.off[of]).toFixed(3)
        process.stderr.write(
          `  round ${round}: CPU ${ratio('cpuUs')}, thread ${ratio('threadUs')}\n`,
        )
        if (round > 0) rounds.push(both)
      }
      figures.push(...figuresOf(kind, inputs, rounds))
      const last = { bed, kind, round: ROUNDS + 1, tracing }
      const value = await profiled(last)
      figures.push({ name: `${kind}Share`, value, unit: 'of the thread’s busy time, profiled' })
    })
  }
  await tracing.close()
  await halved.close()
  figures.push({ name: 'spans', value: await receiver.stop(), unit: 'spans received, in all' })
  return figures
}

/**
 * `applications`: several applications in one process. Idle, what they cost; with a backlog,
 * whether they keep each other, timers and HTTP from their turn. Each counts the records of one
 * topic by key behind an exchange, and in windows. On Kafka where `BENCH_BROKERS` names brokers.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { pino } from 'pino'
import { Type } from 'typebox'
import { noAuth } from '../api/index.ts'
import { openService, type Service } from '../cli/service.ts'
import { inputPartitions } from '../contracts/topics.ts'
import type { EventLog } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { json, Topology, textKey, tumbling } from '../streams/index.ts'
import { type Figure, measured } from './report.ts'
import { setting } from './settings.ts'

const APPLICATIONS = setting('BENCH_APPLICATIONS', 8)
const RECORDS = setting('BENCH_RECORDS', 200_000)
const IDLE_MS = 1000 * setting('BENCH_SECONDS', 20)
const BROKERS = process.env.BENCH_BROKERS
const RUN = `bench${process.pid}`

function counting(i: number, topic: string): Topology {
  const topology = new Topology(`${RUN}_${i}`)
  const value = { count: Type.Integer() }
  const row = (count: number) => ({ count })
  const records = topology.stream(topic, { key: textKey(), value: json<number>() })
  records
    .groupBy(value => `k${value % 1000}`, { name: 'by-value', key: textKey('key') })
    .count({ name: 'counts' })
    .view({ name: `counts-${i}`, description: 'By value', value, row })
  records
    .groupByKey({ name: 'by-key', key: textKey('key') })
    .windowedBy(tumbling(60_000, { graceMs: 0 }))
    .count({ name: 'windows', retentionMs: 1e9 })
    .view({ name: `windows-${i}`, description: 'By time', value, row })
  return topology
}

async function withService(
  applications: number,
  work: (service: Service, topic: string) => Promise<void>,
): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'millrace-bench-'))
  const topic = `${RUN}_records_${applications}`
  const service = await openService({
    dataDir,
    ...(BROKERS && {
      kafka: { connection: { bootstrap: BROKERS.split(',') }, standbyReplicas: 0 },
    }),
    topologies: Array.from({ length: applications }, (_, i) => counting(i, topic)),
    leaveOnStop: true,
    idleAfterMs: 30_000,
    auth: noAuth,
    createTopics: true,
    logger: pino({ level: 'silent' }),
  })
  try {
    await work(service, topic)
  } finally {
    await service.close()
    await rm(dataDir, { recursive: true, force: true })
  }
}

const run = (service: Service) => {
  // What stops one stops the bench.
  for (const { engine } of service.applications) void engine.run()
}

async function untilRunning({ applications }: Service): Promise<void> {
  while (!applications.every(({ engine }) => engine.state === 'running')) await sleep(50)
}

async function produce(log: EventLog, topic: string): Promise<void> {
  const builder = new RecordBatchBuilder()
  for (let i = 0; i < RECORDS; ) {
    const transaction = log.begin()
    for (let partition = 0; partition < inputPartitions; partition++) {
      for (let n = 0; n < 1000; n++, i++) {
        builder.append(1_700_000_000_000 + i * 10, slice(`r${i % 5000}`), slice(String(i)))
      }
      transaction.append({ topic, partition }, builder.finish())
      builder.reset()
    }
    await transaction.commit()
  }
}

function slice(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

/** Asks an URL again and again from a thread of its own; posts how long each answer took, ms. */
const asker = `
  const { parentPort, workerData } = require('node:worker_threads')
  let going = true
  parentPort.once('message', () => { going = false })
  const run = async () => {
    const times = []
    while (going) {
      const begun = performance.now()
      await (await fetch(workerData)).text()
      times.push(performance.now() - begun)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    parentPort.postMessage(times)
  }
  run()
`

async function busy(applications: number): Promise<Figure[]> {
  const figures: Figure[] = []
  await withService(applications, async (service, topic) => {
    await produce(service.log, topic)
    const url = await service.server.listen({ host: '127.0.0.1', port: 0 })
    const worker = new Worker(asker, { eval: true, workerData: `${url}/livez` })
    await new Promise(resolve => worker.once('online', resolve))
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const ends: number[] = []
    const begunMs = performance.now()
    const { ms, cpuUs } = await measured(async () => {
      run(service)
      const through = service.applications.map(async ({ engine }) => {
        const isThrough = () => {
          const { sources } = engine.assembly
          return (
            sources.length === inputPartitions &&
            sources.every(({ position, endOffset }) => endOffset > 0 && position >= endOffset)
          )
        }
        while (!isThrough()) await sleep(10)
        ends.push(performance.now() - begunMs)
      })
      await Promise.all(through)
    })
    delay.disable()
    const times = await new Promise<number[]>(resolve => {
      worker.once('message', resolve)
      worker.postMessage('end')
    })
    await worker.terminate()
    times.sort((a, b) => a - b)
    const total = RECORDS * applications
    figures.push(
      { name: `inputsPerSecond${applications}`, value: (total / ms) * 1000, unit: 'inputs/s' },
      { name: `cpuPerInput${applications}`, value: cpuUs / total, unit: 'µs/input' },
      { name: `loopDelayP99${applications}`, value: delay.percentile(99) / 1e6, unit: 'ms' },
      { name: `loopDelayMax${applications}`, value: delay.max / 1e6, unit: 'ms' },
      {
        name: `livezP99${applications}`,
        value: times[Math.floor(times.length * 0.99)]!,
        unit: 'ms',
      },
      {
        name: `firstToLast${applications}`,
        value: Math.min(...ends) / Math.max(...ends),
        unit: 'end of the first ÷ of the last',
      },
    )
  })
  return figures
}

async function idle(applications: number): Promise<Figure> {
  let share = Number.NaN
  await withService(applications, async service => {
    run(service)
    await untilRunning(service)
    await sleep(2000)
    const { ms, cpuUs } = await measured(async () => {
      await sleep(IDLE_MS)
    })
    share = cpuUs / 10 / ms
  })
  return { name: `idleCpu${applications}`, value: share, unit: '% of a core' }
}

export async function applicationsBench(): Promise<Figure[]> {
  return [
    await idle(1),
    await idle(APPLICATIONS),
    ...(await busy(1)),
    ...(await busy(APPLICATIONS)),
  ]
}

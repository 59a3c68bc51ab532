/**
 * `restore`: the last value of `BENCH_KEYS` keys is state. How long it takes from a kill -9, and
 * from an empty disk, to running, for Millrace and for Kafka Streams on the same broker.
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { javaPath } from '../../test/support/kafka/jars.ts'
import { startKafka } from '../../test/support/kafka/kafka.ts'
import { environment } from '../environment.ts'
import { PARTITIONS } from '../reference-input.ts'
import { type Figure, median } from '../report.ts'

const KEYS = Number(process.env.BENCH_KEYS ?? 10_000_000)
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3)
const VALUE_BYTES = 100
/** Input, two changelogs and two stores, and what compaction needs beside them. */
const DISK_BYTES_PER_KEY = 1_200
const GIVE_UP_MS = 900_000
const BATCH_RECORDS = 2_000
const peer = join(import.meta.dirname, '../peers')

const say = (text: string) => process.stderr.write(`restore: ${text}\n`)
const sleep = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

interface Bed {
  readonly bootstrap: string
  readonly log: EventLog
  readonly folder: string
  readonly keys: number
}

interface Contender {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly folder: string
}

interface Restored {
  readonly afterKillMs: number
  readonly fromEmptyMs: number
}

export async function restore(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-restore-'))
  const keys = keysThatFit(folder)
  say('building the Kafka Streams peer')
  execFileSync('mvn', ['--quiet', '--batch-mode', 'package'], { cwd: peer, stdio: 'inherit' })
  const kafka = await startKafka({ jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  const bed = { bootstrap: kafka.bootstrap, log, folder, keys }
  try {
    await produce(bed)
    const ours = await measure(bed, millrace(bed))
    const theirs = await measure(bed, kafkaStreams(bed))
    return figures(keys, ours, theirs)
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

function keysThatFit(folder: string): number {
  const { bavail, bsize } = statfsSync(folder)
  const fit = Math.floor((bavail * bsize) / DISK_BYTES_PER_KEY)
  if (fit >= KEYS) return KEYS
  say(`${KEYS} keys need ${(KEYS * DISK_BYTES_PER_KEY) / 1e9} GB of disk; ${fit} keys fit`)
  return fit
}

function figures(keys: number, ours: Restored, theirs: Restored): Figure[] {
  const rate = (ms: number) => (keys / ms) * 1000
  return [
    { name: 'keys', value: keys, unit: `keys, values of ${VALUE_BYTES} B` },
    { name: 'afterKill', value: ours.afterKillMs, unit: 'ms from start to running' },
    { name: 'kafkaStreams.afterKill', value: theirs.afterKillMs, unit: 'ms from start to running' },
    {
      name: 'ratioAfterKill',
      value: ours.afterKillMs / theirs.afterKillMs,
      unit: 'ours ÷ Kafka Streams',
    },
    { name: 'fromEmpty', value: rate(ours.fromEmptyMs), unit: 'records/s, start included' },
    {
      name: 'kafkaStreams.fromEmpty',
      value: rate(theirs.fromEmptyMs),
      unit: 'records/s, start included',
    },
    {
      name: 'ratioFromEmpty',
      value: theirs.fromEmptyMs / ours.fromEmptyMs,
      unit: 'ours ÷ Kafka Streams',
    },
  ]
}

async function produce({ log, keys }: Bed): Promise<void> {
  say(`producing ${keys} keys`)
  await log.createTopic('updates', PARTITIONS, { retentionMs: -1 })
  const builder = new RecordBatchBuilder()
  const value = Buffer.alloc(VALUE_BYTES, 'v')
  const timeMs = Date.now()
  let state = 42
  for (let from = 0; from < keys; from += BATCH_RECORDS * PARTITIONS) {
    const transaction = log.begin()
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const end = Math.min(keys, from + (partition + 1) * BATCH_RECORDS)
      for (let i = from + partition * BATCH_RECORDS; i < end; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0
        // Random order of keys, each once; random bytes, so that nothing compresses it away.
        const key = Buffer.from(`${state.toString(16).padStart(8, '0')}-${i}`)
        value.write(state.toString(36).repeat(12), 0, VALUE_BYTES, 'latin1')
        builder.append(timeMs, whole(key), whole(value))
      }
      if (builder.count > 0) transaction.append({ topic: 'updates', partition }, builder.finish())
    }
    await transaction.commit()
  }
}

const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })

function millrace({ bootstrap, folder }: Bed): Contender {
  const own = join(folder, 'millrace')
  const files = ['../kept.ts', 'millrace.ts'].map(file => join(import.meta.dirname, file))
  const args = [...files, bootstrap, 'millrace', own]
  return { name: 'millrace', command: process.execPath, args, folder: own }
}

function kafkaStreams({ bootstrap, folder }: Bed): Contender {
  const own = join(folder, 'kafka-streams')
  const classPath = `${peer}/target/reference.jar:${peer}/target/lib/*`
  const args = ['-Xmx2g', '-cp', classPath, 'Restore', bootstrap, 'kafka-streams', own]
  return { name: 'kafka-streams', command: javaPath(), args, folder: own }
}

async function measure(bed: Bed, contender: Contender): Promise<Restored> {
  const first = run(contender)
  say(`${contender.name}: building its state`)
  await Promise.race([untilDone(bed, contender.name), first.ended])
  let running = first
  const afterKill: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    await running.kill()
    running = run(contender)
    afterKill.push(await running.untilRunning())
  }
  await running.kill()
  rmSync(contender.folder, { recursive: true, force: true })
  running = run(contender)
  const fromEmptyMs = await running.untilRunning()
  await running.kill()
  const shown = afterKill.map(Math.round).join(', ')
  say(`${contender.name}: ${shown} ms after a kill, ${Math.round(fromEmptyMs)} ms from empty`)
  return { afterKillMs: median(afterKill), fromEmptyMs }
}

function run({ name, command, args }: Contender) {
  const startedMs = Date.now()
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const lines = createInterface({ input: child.stdout! })
  const running = new Promise<number>(resolve => {
    lines.on('line', line => {
      if (line.startsWith('running ')) resolve(Number(line.slice(8)) - startedMs)
    })
  })
  const ended = exited.then(([code]) => Promise.reject(new Error(`${name} ended with ${code}`)))
  ended.catch(() => {})
  return {
    ended,
    untilRunning: () => Promise.race([running, ended]),
    async kill() {
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Its group has committed the end of every input partition. */
async function untilDone({ log, keys }: Bed, group: string): Promise<void> {
  const topics = Array.from({ length: PARTITIONS }, (_, partition) => {
    return { topic: 'updates', partition }
  })
  const ends = await log.offsets(topics)
  const all = ends.reduce((sum, { endOffset }) => sum + endOffset, 0)
  const startedMs = Date.now()
  for (let toldMs = startedMs; ; ) {
    const committed = await log.committed(group, topics)
    const done = committed.reduce((sum, offset) => sum + (offset?.offset ?? 0), 0)
    if (done >= all) return
    const nowMs = Date.now()
    if (nowMs - startedMs > GIVE_UP_MS) throw new Error(`${group} is not done: ${done} of ${all}`)
    if (nowMs - toldMs > 10_000) {
      toldMs = nowMs
      say(`${group}: ${Math.round((done / all) * keys)} of ${keys}`)
    }
    await sleep(100)
  }
}

/**
 * `restore`: the last value of `BENCH_KEYS` keys is state. How long it takes from a kill -9, and
 * from an empty disk, to running, for Millrace and for Kafka Streams on the same broker.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { startKafka, steady } from '../../test/support/kafka/kafka.ts'
import { environment } from '../environment.ts'
import { buildPeers, peerCommand, peerThreads } from '../peer.ts'
import { PARTITIONS } from '../reference-input.ts'
import { compared, type Figure, peers } from '../report.ts'
import { setting } from '../settings.ts'

const KEYS = setting('BENCH_KEYS', 10_000_000)
const ROUNDS = setting('BENCH_ROUNDS', 3)
const VALUE_BYTES = 100
/** Input, two changelogs and two stores, and what compaction needs beside them. */
const DISK_BYTES_PER_KEY = 1_200
/** Of what is free. */
const DISK_SHARE = 0.9
const GIVE_UP_MS = 900_000
const BATCH_RECORDS = 2_000

const say = (text: string) => process.stderr.write(`restore: ${text}\n`)

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

export async function restore(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-restore-'))
  const keys = keysThatFit(folder)
  buildPeers(say)
  const kafka = await startKafka({ config: steady, jvmFlags: ['-Xmx1g', '-Xms1g'] })
  const log = await openKafkaLog({ bootstrap: [kafka.bootstrap], environment })
  const bed = { bootstrap: kafka.bootstrap, log, folder, keys }
  try {
    await produce(bed)
    const ours = new Restored(millrace(bed))
    const theirs = new Restored(kafkaStreams(bed))
    for (const one of [ours, theirs]) await one.build(bed)
    for (let round = 0; round < ROUNDS; round++) {
      for (const one of [ours, theirs]) await one.afterKill()
    }
    for (let round = 0; round < ROUNDS; round++) {
      for (const one of [ours, theirs]) await one.fromEmpty()
    }
    return figures(keys, ours, theirs)
  } finally {
    await log.close()
    await kafka.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

function keysThatFit(folder: string): number {
  const { bavail, bsize } = statfsSync(folder)
  const fit = Math.floor((bavail * bsize * DISK_SHARE) / DISK_BYTES_PER_KEY)
  if (fit >= KEYS) return KEYS
  say(`${KEYS} keys need ${(KEYS * DISK_BYTES_PER_KEY) / 1e9} GB of disk; ${fit} keys fit`)
  return fit
}

function figures(keys: number, ours: Restored, theirs: Restored): Figure[] {
  const killed = { name: 'afterKill', ratio: 'ratioAfterKill', unit: 'ms from start to running' }
  const emptied = {
    name: 'fromEmpty',
    ratio: 'ratioFromEmpty',
    unit: 'records/s, start included',
  }
  const rates = (all: readonly number[]) => all.map(ms => (keys / ms) * 1000)
  return [
    { name: 'keys', value: keys, unit: `keys, values of ${VALUE_BYTES} B` },
    ...compared(killed, [ours.afterKillMs, theirs.afterKillMs], peers),
    ...compared(emptied, [rates(ours.fromEmptyMs), rates(theirs.fromEmptyMs)], peers),
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
  const settings = [bootstrap, 'kafka-streams', own, `${peerThreads}`]
  const [command, args] = peerCommand('Restore', settings)
  return { name: 'kafka-streams', command, args, folder: own }
}

/** What a contender's starts take; between them nothing of it runs. */
class Restored {
  readonly afterKillMs: number[] = []
  readonly fromEmptyMs: number[] = []
  readonly #contender: Contender

  constructor(contender: Contender) {
    this.#contender = contender
  }

  async build(bed: Bed): Promise<void> {
    const { name } = this.#contender
    say(`${name}: building its state`)
    const running = run(this.#contender)
    await Promise.race([untilDone(bed, name), running.ended])
    await running.kill()
  }

  /** Killed while it runs, and started again at once. */
  async afterKill(): Promise<void> {
    const killed = run(this.#contender)
    await killed.untilRunning()
    await killed.kill()
    const ms = await this.#start()
    this.afterKillMs.push(ms)
    say(`${this.#contender.name}: ${Math.round(ms)} ms after a kill`)
  }

  async fromEmpty(): Promise<void> {
    rmSync(this.#contender.folder, { recursive: true, force: true })
    const ms = await this.#start()
    this.fromEmptyMs.push(ms)
    say(`${this.#contender.name}: ${Math.round(ms)} ms from empty`)
  }

  async #start(): Promise<number> {
    const running = run(this.#contender)
    const ms = await running.untilRunning()
    await running.kill()
    return ms
  }
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
  const ended = exited.then(([code, signal]) =>
    Promise.reject(new Error(`${name} ended with ${signal ?? code}`)),
  )
  ended.catch(() => {})
  return {
    ended,
    async untilRunning() {
      const timer = new AbortController()
      const { signal } = timer
      const tooLong = sleep(GIVE_UP_MS, undefined, { signal }).then(() => {
        throw new Error(`${name} does not run after ${GIVE_UP_MS} ms`)
      })
      tooLong.catch(() => {})
      return Promise.race([running, ended, tooLong]).finally(() => timer.abort())
    },
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

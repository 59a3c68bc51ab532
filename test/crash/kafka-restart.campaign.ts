/**
 * How soon an instance with a million keys runs again after kill -9: it is loaded once, then fed
 * slowly, killed and started at once, again and again. A round is a restart: every second one after
 * a kill between an epoch's commit and its writing. It must not wipe, and replay that one epoch and
 * no more; the time from process start to all tasks running is told in its parts.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type KafkaLog, openKafkaLog } from '../../log/kafka/index.ts'
import { environment } from '../log/kafka/environment.ts'
import type { Campaign } from '../support/campaigns.ts'
import { type KafkaUnderTest, startKafka } from '../support/kafka/kafka.ts'
import { percentiles } from '../support/percentiles.ts'
import { Random } from '../support/random.ts'
import { InstanceProcess } from './instance-process.ts'
import { appendFacts } from './many-keys.ts'

const KEYS = 1_000_000
const KEYS_CI = 50_000
const ROUNDS = 30
const ROUNDS_CI = 3
const LOAD_MS_MAX = 600_000
const RUNNING_MS_MAX = 60_000
const KILL_MS_MAX = 30_000
const PREFIX = 'k-'
/** Slow input: so many records, so often. */
const FED = 50
const FEED_MS = 50

const PARTS = ['code', 'open', 'assignment', 'restore', 'all', 'cpu'] as const

interface Restart {
  /** In order, each from the end of the one before, ms; all of them; and their CPU. */
  readonly parts: Readonly<Record<(typeof PARTS)[number], number>>
  readonly records: number
  readonly transactions: number
}

export const campaign: Campaign = {
  name: 'kafka-restart',
  async run({ seed, rounds, ci, log }) {
    const total = rounds ?? (ci ? ROUNDS_CI : ROUNDS)
    const kafka = await startKafka({ print: log })
    const folder = await mkdtemp(join(tmpdir(), 'millrace-kafka-restart-'))
    const many = new ManyKeys(kafka, folder, new Random(seed))
    try {
      await many.load(ci ? KEYS_CI : KEYS, log)
      const restarts: Restart[] = []
      const bad: string[] = []
      for (let round = 0; round < total; round++) {
        const committed = round % 2 === 1
        const restart = await many.restart(committed)
        restarts.push(restart)
        log(JSON.stringify(restart))
        const { transactions } = restart
        if (transactions > 1 || (committed && transactions === 0)) {
          bad.push(`${transactions} transactions replayed`)
        }
      }
      bad.push(...many.wipes)
      const notes = [
        ...bad,
        ...describe(restarts),
        `load of the machine ${loadavg()[0]!.toFixed(1)}`,
      ]
      return { passed: total - bad.length, failed: bad.length, notes }
    } finally {
      await many.close()
      await kafka.destroy()
      await rm(folder, { recursive: true, force: true })
    }
  },
}

function describe(restarts: readonly Restart[]): string[] {
  const replayed = restarts.filter(({ records }) => records > 0)
  return [
    ...PARTS.map(part => `${part}, ms: ${percentiles(restarts.map(one => one.parts[part]))}`),
    `records replayed: ${percentiles(restarts.map(({ records }) => records))}`,
    `${replayed.length} of ${restarts.length} replayed a transaction, the others nothing`,
  ]
}

class ManyKeys {
  readonly #kafka: KafkaUnderTest
  readonly #instance: InstanceProcess
  readonly #random: Random
  #log!: KafkaLog
  #next = 0
  #feeding: Promise<void> | undefined
  #isOver = false

  constructor(kafka: KafkaUnderTest, folder: string, random: Random) {
    this.#kafka = kafka
    this.#random = random
    this.#instance = new InstanceProcess('one', join(folder, 'one'), 'kafka-many-keys-process.ts')
  }

  get wipes(): readonly string[] {
    return this.#instance.wipes
  }

  #start(): void {
    this.#instance.start({
      bootstrap: this.#kafka.bootstrap,
      prefix: PREFIX,
      sessionTimeoutMs: 45_000,
      heartbeatIntervalMs: 5_000,
      transactionTimeoutMs: 10_000,
      standbyReplicas: 0,
    })
  }

  async load(keys: number, log: (line: string) => void): Promise<void> {
    this.#log = await openKafkaLog({ bootstrap: this.#kafka.bootstrap.split(','), environment })
    this.#start()
    await this.#running()
    const startedMs = Date.now()
    await appendFacts(this.#log, PREFIX, 0, keys)
    this.#next = keys
    await this.#atEnd(startedMs + LOAD_MS_MAX)
    log(`${keys} keys loaded in ${((Date.now() - startedMs) / 1000).toFixed(0)} s`)
    this.#feeding = this.#feed()
  }

  async #feed(): Promise<void> {
    while (!this.#isOver) {
      await appendFacts(this.#log, PREFIX, this.#next, this.#next + FED)
      this.#next += FED
      await sleep(FEED_MS)
    }
  }

  async #running(): Promise<void> {
    const instance = this.#instance
    if (await instance.untilRunning(RUNNING_MS_MAX)) return
    throw new Error(`it does not run after ${RUNNING_MS_MAX / 1000} s: ${instance.output}`)
  }

  async #atEnd(untilMs: number): Promise<void> {
    for (let seen = 0; seen < 3; await sleep(200)) {
      const status = await this.#instance.ask({ do: 'status' }, 'status')
      seen = status?.atEnd === true ? seen + 1 : 0
      if (Date.now() > untilMs) throw new Error(`not loaded: ${JSON.stringify(status)}`)
    }
  }

  /** Kill, start, until it runs. `committed`: with an epoch committed and not written. */
  async restart(committed: boolean): Promise<Restart> {
    await sleep(1_000 + this.#random.below(2_000))
    if (committed) {
      const armed = { point: 'endtxn-acked', nth: 1, delayMs: 0, signal: 'SIGKILL' } as const
      await this.#instance.ask({ do: 'arm', armed }, 'armed')
      await this.#instance.untilEnded(KILL_MS_MAX)
    }
    await this.#instance.kill()
    this.#start()
    await this.#running()
    const { ms, loadedMs, openedMs, assignedMs, cpuMs, records, epochs } = this.#instance.running!
    return {
      parts: {
        code: loadedMs,
        open: openedMs - loadedMs,
        assignment: assignedMs - openedMs,
        restore: ms - assignedMs,
        all: ms,
        cpu: cpuMs,
      },
      records,
      transactions: new Set(Object.values(epochs).flat()).size,
    }
  }

  async close(): Promise<void> {
    this.#isOver = true
    await this.#feeding
    await this.#instance.kill()
    await this.#log?.close()
  }
}

/**
 * The order services as processes that are killed: all in one on the embedded log, or each in its
 * own on Kafka. The log is read beside them, or while none of them runs.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openFolder } from '../../cli/log-access.ts'
import { openKafkaLog } from '../../log/kafka/index.ts'
import type { EventLog } from '../../log/port.ts'
import { environment } from '../log/kafka/environment.ts'
import { metricSum } from '../support/metrics.ts'
import type { Random } from '../support/random.ts'
import { ServiceProcess } from '../support/service-process.ts'

export interface SagaOptions {
  /** Where the processes keep what they have. */
  readonly folder: string
  /** A broker; the embedded log unless given. */
  readonly bootstrap?: string
  /** How many processes share the services, on Kafka; unless given, each has one. */
  readonly processes?: number
  /** Names of the services. */
  readonly services: readonly string[]
  readonly environment: Readonly<Record<string, string>>
}

interface Member {
  readonly dataDir: string
  readonly environment: NodeJS.ProcessEnv
  running: ServiceProcess | undefined
}

interface TopicEnds {
  readonly topics: readonly { readonly partitions: readonly { readonly endOffset: number }[] }[]
}

const POLL_MS = 500
/** Between two looks, beyond it the machine stood still, and the services with it. */
const STILL_MS = 4_000
const QUIET_MS_MAX = 600_000

export class SagaProcesses {
  readonly #options: SagaOptions
  readonly #members: readonly Member[]
  /** Records that the process still had to read, at each kill. */
  readonly unreadAtKills: number[] = []

  constructor(options: SagaOptions) {
    this.#options = options
    const { folder, bootstrap, services, processes = services.length } = options
    const count = bootstrap === undefined ? 1 : processes
    const shared = Array.from({ length: count }, (_, i) =>
      services.filter((_, place) => place % count === i),
    )
    this.#members = shared.map((names, i) => ({
      dataDir: join(folder, `data-${i}`),
      environment: {
        ...options.environment,
        ANALYTICS: 'off',
        SERVICES: names.join(','),
        LOG_LEVEL: 'warn',
        ...(bootstrap !== undefined && { MILLRACE_BROKERS: bootstrap }),
      },
      running: undefined,
    }))
  }

  get processes(): ServiceProcess[] {
    return this.#members.flatMap(({ running }) => running ?? [])
  }

  /** Data folders of the processes. */
  get folders(): string[] {
    return this.#members.map(({ dataDir }) => dataDir)
  }

  /** Runs `work` on the log; the embedded one while no process runs. */
  async withLog<T>(work: (log: EventLog) => Promise<T>): Promise<T> {
    const { bootstrap } = this.#options
    const { log, close } =
      bootstrap === undefined
        ? await openFolder(this.#members[0]!.dataDir, { create: true })
        : await brokerLog(bootstrap)
    try {
      return await work(log)
    } finally {
      await close()
    }
  }

  async start(): Promise<void> {
    for (const member of this.#members) await this.#start(member)
  }

  async #start(member: Member): Promise<void> {
    member.running = await ServiceProcess.start(member.dataDir, ['--no-demo'], member.environment)
  }

  /** Kills one of them, runs `meanwhile` on the log, and starts it again. */
  async killOne(random: Random, meanwhile?: (log: EventLog) => Promise<void>): Promise<void> {
    const member = random.pick([...this.#members])
    this.unreadAtKills.push(await unread(member.running!))
    await member.running!.kill()
    member.running = undefined
    if (meanwhile !== undefined) await this.withLog(meanwhile)
    await this.#start(member)
  }

  /** Resolves once nothing has been written for so long, and all that is there was read. */
  async quiet(quietMs: number): Promise<void> {
    const untilMs = Date.now() + QUIET_MS_MAX
    let before = ''
    let seenMs = Date.now()
    for (let sinceMs = seenMs; seenMs - sinceMs < quietMs; await sleep(POLL_MS)) {
      if (Date.now() > untilMs) throw new Error(`the services do not come to an end: ${before}`)
      const now = await this.#written()
      const lookMs = Date.now()
      if (now !== before || lookMs - seenMs > STILL_MS) sinceMs = lookMs
      before = now
      seenMs = lookMs
    }
  }

  /** All ends of the log, and what is still to be read. */
  async #written(): Promise<string> {
    const [first] = this.processes
    const { topics } = await first!.get<TopicEnds>('/v1/topology')
    const ends = topics.flatMap(({ partitions }) => partitions.map(({ endOffset }) => endOffset))
    const lags = await Promise.all(this.processes.map(unread))
    const lag = lags.reduce((sum, one) => sum + one, 0)
    // What is unread is work that goes on, though nothing may come of it for a while.
    return `${ends.join(' ')} lag ${lag}${lag > 0 ? ` at ${Date.now()}` : ''}`
  }

  /** All rows of a view, of whichever process has it. */
  async rows(view: string): Promise<Record<string, unknown>[]> {
    for (const process of this.processes) {
      const response = await fetch(`${process.url}/v1/views`)
      const { views } = (await response.json()) as { views: { name: string }[] }
      const position = response.headers.get('millrace-position')!
      if (views.some(({ name }) => name === view)) return process.rows(view, position)
    }
    throw new Error(`no process has the view ${view}`)
  }

  async stop(): Promise<void> {
    await Promise.all(this.processes.map(process => process.stop()))
    for (const member of this.#members) member.running = undefined
  }

  async close(): Promise<void> {
    await Promise.all(this.processes.map(process => process.kill()))
  }
}

async function unread(process: ServiceProcess): Promise<number> {
  return metricSum(await process.metrics(), 'records_lag')
}

async function brokerLog(bootstrap: string) {
  const log = await openKafkaLog({ bootstrap: [bootstrap], environment })
  return { log, close: () => log.close() }
}

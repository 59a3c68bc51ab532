/**
 * The main job on Kafka with its demo and a client that posts, through outages of its broker: what
 * it says of its health meanwhile, and whether everything is there at the end, once.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Row } from './analytics-oracle.ts'
import { arrivedEvents, demoDifferences, endOfInput, viewDifferences } from './demo-account.ts'
import { type HealthAnswer, HealthWatch } from './health-watch.ts'
import { type KafkaUnderTest, startKafka } from './kafka/kafka.ts'
import type { BrokerSettings } from './kafka/settings.ts'
import { eventLines } from './order-lines.ts'
import { ServiceProcess, scratchFolder } from './service-process.ts'

export type OutageKind = 'killed' | 'stopped' | 'hangs'

/** The group notices within seconds that a member is away. */
const SESSION_MS = 6_000
const outageBroker: BrokerSettings = {
  'group.streams.session.timeout.ms': SESSION_MS,
  'group.streams.heartbeat.interval.ms': 500,
  'transaction.abort.timed.out.transaction.cleanup.interval.ms': 500,
}

/** Until an instance has noticed: the longest that a request waits for its answer. */
const NOTICE_MS_MAX = 25_000
const RETURN_MS_MAX = 60_000
/** Offsets that come in after an outage if it goes on: the demo's and the client's. */
const MORE = 500
/** The broker has written what the last ends of transactions asked for. */
const MARKERS_MS = 500
/** Answers in a row that may be missing: it stands still while its broker ends, as machines do. */
const MUTE_MAX = 2
const ORDERS_A_POST = 20
const POST_MS = 300

export interface OutageResult {
  /** From the end of the broker to the first answer that the service is not ready, ms. */
  readonly noticedMs: number
  /** From the broker's return to the service being ready, ms. */
  readonly returnedMs: number
  readonly reasons: readonly string[]
}

interface PlayOptions {
  readonly kind: OutageKind
  readonly awayMs: number
  /** Of the demo, beside its history. */
  readonly rate: number
  /** Of the history, to be told before the outage. */
  readonly events: number
  readonly beginMsMax: number
  readonly log: (line: string) => void
}

export interface PlayedOutage extends OutageResult {
  /** What the client's posts were answered that were not acknowledged: status and code. */
  readonly refusals: readonly string[]
  /** Empty when all is as it must be. */
  readonly differences: readonly string[]
}

/**
 * An outage of a broker of its own; undefined where that has lost markers of transactions (see
 * `KafkaNode`), and with them what a client may rely on.
 */
export async function playOutage(options: PlayOptions): Promise<PlayedOutage | undefined> {
  const { kind, awayMs, rate, events, beginMsMax, log } = options
  const kafka = await startKafka({ config: outageBroker, print: log })
  const scratch = await scratchFolder()
  const outages = new DemoOutages({ kafka, dataDir: scratch.path, rate })
  try {
    await outages.begin(events, beginMsMax)
    const result = await outages.outage(kind, awayMs)
    if (kafka.hasLostMarkers('')) return undefined
    const differences = await outages.finish()
    if (differences.length > 0 && kafka.hasLostMarkers('')) return undefined
    return { ...result, refusals: outages.refusals, differences }
  } finally {
    await outages.close()
    await kafka.destroy()
    await scratch.remove()
  }
}

interface OutagesOptions {
  readonly kafka: KafkaUnderTest
  readonly dataDir: string
  readonly rate: number
}

class DemoOutages {
  readonly #options: OutagesOptions
  /** Event time of the client’s first event, epoch ms. */
  #startedMs = 0
  readonly differences: string[] = []
  #service!: ServiceProcess
  #watch!: HealthWatch
  #posting: Promise<void> | undefined
  #isOver = false
  #posted = 0
  readonly refusals: string[] = []

  constructor(options: OutagesOptions) {
    this.#options = options
  }

  async #start(flags: readonly string[]): Promise<void> {
    const { kafka, dataDir, rate } = this.#options
    this.#service = await ServiceProcess.start(dataDir, flags, {
      MILLRACE_BROKERS: kafka.bootstrap,
      IDLE_AFTER: 'never',
      VIEW_RETENTION: 'forever',
      LOG_LEVEL: 'warn',
      RATE: String(rate),
      SERVICES: 'off',
      SEED: '5',
    })
  }

  /** Resolves when so much of the demo's history is told; a client posts from then on. */
  async begin(events: number, waitMsMax: number): Promise<void> {
    await this.#start([])
    this.#watch = new HealthWatch(this.#service.url)
    if (!(await this.#hasInput(events, waitMsMax))) throw new Error('the demo tells nothing')
    // Where the demo's history is: events ahead of it would close its windows.
    const told = await arrivedEvents(this.#options.kafka.bootstrap)
    this.#startedMs = told.reduce((latest, one) => Math.max(latest, one.eventTimeMs), 0)
    this.#posting = this.#post()
  }

  /** The input topics hold so much within the time, and the views all of it. */
  async #hasInput(wanted: number, waitMsMax: number): Promise<boolean> {
    const untilMs = Date.now() + waitMsMax
    for (; Date.now() < untilMs; await sleep(200)) {
      const { count, position } = await endOfInput(this.#options.kafka.bootstrap)
      if (count < wanted) continue
      await this.#service.reach(position, waitMsMax)
      return true
    }
    return false
  }

  /** As a client that was refused or cut off does, it repeats what was not acknowledged. */
  async #post(): Promise<void> {
    while (!this.#isOver) {
      const from = this.#posted
      const lines = eventLines(from, from + ORDERS_A_POST, this.#startedMs)
      try {
        await this.#service.post(lines)
        this.#posted += ORDERS_A_POST
      } catch (error) {
        this.refusals.push((error as Error).message)
      }
      await sleep(POST_MS)
    }
  }

  async outage(kind: OutageKind, awayMs: number): Promise<OutageResult> {
    const { kafka } = this.#options
    const beganMs = Date.now()
    const { count } = await endOfInput(kafka.bootstrap)
    // While no transaction is ending: a single broker could lose its markers (`KafkaNode`).
    this.#service.child.kill('SIGSTOP')
    await sleep(MARKERS_MS)
    if (kind === 'killed') await kafka.kill()
    else if (kind === 'stopped') await kafka.nodes[0]!.stop()
    else kafka.pause()
    this.#service.child.kill('SIGCONT')
    const awayAtMs = Date.now()
    const noticed = await this.#watch.until(isNotReady, awayAtMs, NOTICE_MS_MAX)
    await sleep(Math.max(0, awayAtMs + awayMs - Date.now()))
    const backMs = Date.now()
    this.#judge(kind, noticed, backMs)
    if (kind === 'hangs') kafka.resume()
    else await kafka.restart()
    const upMs = Date.now()
    const ready = await this.#watch.until(({ readyz }) => readyz === 200, upMs, RETURN_MS_MAX)
    if (ready === undefined) {
      const { reason } = this.#watch.answers.at(-1)!
      this.differences.push(`not ready ${RETURN_MS_MAX / 1000} s after the broker: ${reason}`)
    }
    if (ready !== undefined && !(await this.#hasInput(count + MORE, RETURN_MS_MAX))) {
      this.differences.push('nothing came in after the broker was back')
    }
    const meanwhile = this.#watch.answers.filter(({ atMs }) => atMs >= beganMs)
    const dead = firstOther(meanwhile, 'livez', 200)
    if (dead !== undefined) this.differences.push(`/livez said ${dead.livez}`)
    return {
      noticedMs: (noticed?.atMs ?? Number.NaN) - awayAtMs,
      returnedMs: (ready?.atMs ?? Number.NaN) - upMs,
      reasons: [...new Set(meanwhile.filter(isNotReady).map(({ reason }) => reason))],
    }
  }

  /** Once it knows, it says so until the broker is back, and why. */
  #judge(kind: OutageKind, noticed: HealthAnswer | undefined, backMs: number): void {
    if (noticed === undefined) {
      this.differences.push(`/readyz said that all is well while the broker was ${kind}`)
      return
    }
    const after = this.#watch.answers.filter(
      ({ atMs }) => atMs >= noticed.atMs + SESSION_MS && atMs < backMs,
    )
    const wrong = firstOther(after, 'readyz', 503)
    if (wrong !== undefined) this.differences.push(`/readyz said ${wrong.readyz} with no broker`)
    const mute = this.#watch.answers.find(answer => isNotReady(answer) && answer.reason === '')
    if (mute !== undefined) this.differences.push('/readyz did not say why')
  }

  /** Ends the feed and compares topics and views with what must be there. */
  async finish(): Promise<readonly string[]> {
    const { kafka } = this.#options
    this.#isOver = true
    await this.#posting
    await this.#watch.stop()
    const ended = await this.#service.stop()
    if (ended.code !== 0) this.differences.push(`it ended with ${JSON.stringify(ended)}`)
    await this.#start(['--no-demo'])
    const watch = new HealthWatch(this.#service.url)
    await watch.until(({ readyz }) => readyz === 200, 0, RETURN_MS_MAX)
    await watch.stop()
    const { position } = await endOfInput(kafka.bootstrap)
    await this.#service.reach(position, RETURN_MS_MAX)
    const { views } = await this.#service.get<{ views: { name: string }[] }>('/v1/views')
    const rows: Record<string, Row[]> = {}
    for (const { name } of views) rows[name] = await this.#service.rows(name, position)
    await this.#service.stop()
    const arrived = await arrivedEvents(kafka.bootstrap)
    const ids = new Set(arrived.map(({ ceId }) => ceId))
    const lost = eventLines(0, this.#posted, this.#startedMs)
      .map(line => JSON.parse(line).headers.ce_id as string)
      .filter(id => !ids.has(id))
    return [
      ...this.differences,
      ...lost.slice(0, 3).map(id => `${id} was acknowledged and is not there`),
      ...(await demoDifferences(kafka.bootstrap, arrived)),
      ...viewDifferences(arrived, rows),
    ]
  }

  async close(): Promise<void> {
    this.#isOver = true
    await this.#service?.kill()
    await this.#watch?.stop()
    await this.#posting
  }
}

/** The first answer with another status; a few in a row that are missing are none. */
function firstOther(
  answers: readonly HealthAnswer[],
  probe: 'livez' | 'readyz',
  wanted: number,
): HealthAnswer | undefined {
  let mute = 0
  return answers.find(answer => {
    mute = answer[probe] === 0 ? mute + 1 : 0
    return mute > MUTE_MAX || (mute === 0 && answer[probe] !== wanted)
  })
}

const isNotReady = ({ readyz }: HealthAnswer) => readyz === 503

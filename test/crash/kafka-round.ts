/**
 * One round of the crash campaign on Kafka: a shop of two or three instances that is fed, crashed,
 * stopped, paused and cut off from its broker, event by event from a seed, and at the end whole.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { CrashPoint } from '../../streams/environment.ts'
import type { KafkaUnderTest } from '../support/kafka/kafka.ts'
import type { Random } from '../support/random.ts'
import { type ShopPart, shopDeployments } from '../support/shop.ts'
import { InstanceProcess } from './instance-process.ts'
import type { Arming, InstanceStatus } from './kafka-instance.ts'
import { changelogsOf, type DeployedShop, shopPlan } from './kafka-verify.ts'

export interface RoundOptions {
  /** How many events it will have. */
  readonly eventsMax: number
  readonly kafka: KafkaUnderTest
  readonly random: Random
  readonly prefix: string
  readonly folder: string
  readonly standbyReplicas: number
  readonly log: (line: string) => void
}

/** How an instance that was started came back. */
export interface Return {
  readonly after: After
  /** From the start of the process to all of its tasks running. */
  readonly ms: number
  /** Of these, until it asked to join the group. */
  readonly openedMs: number
  readonly records: number
  /** Transactions of which records were replayed. */
  readonly epochs: number
}

/**
 * What happened before a start. A `kill at rest` is that of an instance whose tasks were all
 * running, and that was back before its session ended: it replays what its last commit left.
 */
export type After =
  | 'nothing'
  | 'kill at rest'
  | 'kill'
  | 'long kill'
  | 'stop'
  | 'leave'
  | 'loss'
  | 'deployment'

interface StartOptions {
  readonly armed?: Arming
  /** What it was when it was killed, all of its tasks running. */
  readonly was?: InstanceStatus
}

/** Seconds, where the defaults of a broker are most of a minute. */
const SESSION_MS = 6_000
const HEARTBEAT_MS = 500
/** Below the session timeout: a zombie's transaction is over when others have its tasks. */
const TRANSACTION_MS = 5_000
const RUNNING_MS_MAX = 90_000
/** The broker has written what the last ends of transactions asked for. */
const MARKERS_MS = 500

const POINTS: readonly CrashPoint[] = [
  'polled',
  'run',
  'output-sent',
  'offsets-added',
  'offsets-added',
  'endtxn-acked',
  'endtxn-acked',
  'log-committed',
  'store-applied',
  'published',
  'expire-mid',
  'close-mid',
]

export class ShopRound {
  readonly instances: readonly InstanceProcess[]
  readonly events = new Map<string, number>()
  readonly returns: Return[] = []
  /** What must not happen, whatever comes out at the end. */
  readonly violations: string[] = []
  stallMsMax = 0
  rssBytesMax = 0
  /** The parts of the shop in the deployments that there were, and those that are to come. */
  readonly deployments: ShopPart[][]
  readonly #waiting: ShopPart[][]
  /** Numbers of the events that are deployments. */
  readonly #moments: number[]
  #event = 0
  readonly #options: RoundOptions
  readonly #pending = new Set<Promise<void>>()

  constructor(options: RoundOptions) {
    this.#options = options
    const { folder, random, eventsMax } = options
    const [first, ...later] = shopDeployments(random)
    this.deployments = [first!]
    this.#waiting = later
    this.#moments = later.map(() => 1 + random.below(eventsMax - 1)).sort((a, b) => a - b)
    this.instances = ['a', 'b', 'c'].map(
      name => new InstanceProcess(name, join(folder, name), 'kafka-shop-process.ts'),
    )
  }

  get #alive(): InstanceProcess[] {
    return this.instances.filter(({ alive }) => alive)
  }

  start(one: InstanceProcess, after: After, { armed, was }: StartOptions = {}): void {
    const { kafka, prefix, standbyReplicas } = this.#options
    one.start({
      bootstrap: kafka.bootstrap,
      prefix,
      variant: this.deployments.at(-1)!.join(),
      sessionTimeoutMs: SESSION_MS,
      heartbeatIntervalMs: HEARTBEAT_MS,
      transactionTimeoutMs: TRANSACTION_MS,
      standbyReplicas,
      ...(armed === undefined ? {} : { armed }),
    })
    const running = one.untilRunning(RUNNING_MS_MAX).then(() => this.#returned(one, after, was))
    this.#pending.add(running)
    running.finally(() => this.#pending.delete(running))
  }

  #returned(one: InstanceProcess, after: After, was: InstanceStatus | undefined): void {
    if (one.running === undefined) return
    const { ms, openedMs, memberEpoch, records, epochs } = one.running
    const transactions = (keys: readonly string[]) =>
      new Set(keys.flatMap(key => epochs[key] ?? []))
    const all = transactions(Object.keys(epochs)).size
    // Another epoch: the group has moved tasks meanwhile.
    const kept = was?.memberEpoch === memberEpoch
    this.returns.push({ after: kept ? 'kill at rest' : after, ms, openedMs, records, epochs: all })
    const own = kept ? transactions(changelogsOf(this.shop, was.active)).size : 0
    if (own > 1) this.#violate(`${one.name} replayed ${own} transactions after a plain kill`)
  }

  get shop(): DeployedShop {
    return { prefix: this.#options.prefix, deployments: this.deployments }
  }

  async begin(): Promise<void> {
    const { random } = this.#options
    const [a, b] = this.instances
    this.start(a!, 'nothing')
    if (random.below(2) === 0) await a!.untilRunning(RUNNING_MS_MAX)
    this.start(b!, 'nothing')
    if (await this.rest()) return
    throw new Error(`the shop did not start: ${a!.output} ${b!.output}`)
  }

  async event(): Promise<void> {
    const { random, standbyReplicas } = this.#options
    const kinds: (() => Promise<string>)[] = [
      ...Array(9).fill(() => this.#crash()),
      () => this.#crashInRestore(),
      () => this.#crashInRevocation(),
      ...Array(standbyReplicas > 0 ? 2 : 0).fill(() => this.#crashInPromotion()),
      ...Array(2).fill(() => this.#zombie()),
      () => this.#shortPause(),
      ...Array(2).fill(() => this.#stopAndStart()),
      () => this.#brokerDies(),
      () => this.#brokerRestarts(),
      () => this.#brokerHangs(),
      ...Array(2).fill(() => this.#third()),
    ]
    const startedMs = Date.now()
    const isDeployment = this.#moments[0] === this.#event++
    const what = await (isDeployment ? this.#deploy() : random.pick(kinds)())
    this.events.set(what, (this.events.get(what) ?? 0) + 1)
    this.#options.log(`${what}, ${((Date.now() - startedMs) / 1000).toFixed(1)} s`)
    await this.#look()
    await sleep(random.below(1500))
    if (random.below(2) === 0) await this.rest()
  }

  /** Nobody may have given up, and somebody runs. */
  async #look(): Promise<void> {
    for (const one of this.instances) {
      const { ended } = one
      if (ended === undefined || ended.signal === 'SIGKILL' || ended.code === 0) continue
      if (ended.code !== null) {
        this.#violate(`${one.name} ended with ${ended.code}: ${one.output.slice(-1500)}`)
        one.ended = { code: 0, signal: null }
      }
    }
    for (const one of this.instances.slice(0, 2)) if (!one.alive) this.start(one, 'kill')
    await this.statuses()
  }

  #violate(text: string): void {
    this.violations.push(text)
    this.#options.log(`VIOLATED: ${text}`)
  }

  async statuses(): Promise<ReadonlyMap<InstanceProcess, InstanceStatus>> {
    const found = new Map<InstanceProcess, InstanceStatus>()
    for (const one of this.#alive) {
      const status = await one.ask({ do: 'status' }, 'status')
      if (status === undefined) continue
      found.set(one, status)
      this.stallMsMax = Math.max(this.stallMsMax, status.stallMsMax)
      this.rssBytesMax = Math.max(this.rssBytesMax, status.rssBytes)
    }
    return found
  }

  /** Waits until all that live run what they were given, and every task runs once. */
  async rest(waitMsMax = RUNNING_MS_MAX): Promise<boolean> {
    const untilMs = Date.now() + waitMsMax
    const { tasks } = shopPlan(this.shop)
    let seen = ''
    while (Date.now() < untilMs) {
      const statuses = await this.statuses()
      const active = [...statuses.values()].flatMap(status => status.active)
      const isWhole = isDeepStrictEqual(active.sort(), tasks.sort())
      const running = [...statuses.values()].every(({ state }) => state === 'running')
      if (isWhole && running && statuses.size === this.#alive.length) return true
      seen = [...statuses].map(([{ name }, s]) => `${name} ${s.state} ${s.detail}`).join('; ')
      await sleep(100)
    }
    this.#violate(`not all tasks run after ${waitMsMax / 1000} s: ${seen}`)
    return false
  }

  /** All instances stop or die, and start with parts that are new. */
  async #deploy(): Promise<string> {
    const { random } = this.#options
    const alive = this.#alive
    const killed = alive.filter(() => random.below(2) === 0)
    const stopped = alive.filter(one => !killed.includes(one))
    // Who cannot tell the group that it leaves counts as its member like one that was killed.
    if (killed.length === 0) await this.rest()
    await Promise.all([
      ...killed.map(one => one.kill()),
      ...stopped.map(one => this.#stop(one, true)),
    ])
    // The group takes another topology once it has no member left.
    if (killed.length > 0) await sleep(SESSION_MS + 6_000)
    // Of several at one moment only the last is deployed: what they add is one branch.
    let next: ShopPart[] | undefined
    while (this.#moments[0] !== undefined && this.#moments[0] < this.#event) {
      this.#moments.shift()
      next = this.#waiting.shift()
    }
    this.deployments.push(next!)
    for (const one of alive) this.start(one, 'deployment')
    // What is new has begun: what comes later is another branch.
    await this.rest()
    await sleep(1_000)
    return killed.length > 0 ? 'deployment after kills' : 'deployment'
  }

  async #crash(): Promise<string> {
    const { random } = this.#options
    const one = random.pick(this.#alive)
    const isCalm = random.below(3) > 0 && (await this.rest())
    const was = isCalm ? (await this.statuses()).get(one) : undefined
    const point = random.pick(POINTS)
    // Behind the offsets the end of the transaction is on its way, at its broker, or answered.
    const delayMs = point === 'offsets-added' ? random.below(5) : 0
    const armed: Arming = { point, nth: 1 + random.below(6), delayMs, signal: 'SIGKILL' }
    await one.ask({ do: 'arm', armed }, 'armed')
    const ended = await one.untilEnded(4_000)
    await one.kill()
    const name = ended === undefined ? 'anywhere' : point
    await this.#comeBack(one, was)
    return `kill at ${name}`
  }

  async #comeBack(one: InstanceProcess, was: InstanceStatus | undefined): Promise<void> {
    const { random } = this.#options
    const how = random.below(10)
    if (how < 6) return this.start(one, 'kill', was && { was })
    if (how < 8) {
      await sleep(SESSION_MS + 1_500)
      return this.start(one, 'long kill')
    }
    one.loseFolder()
    this.#count('folder lost')
    this.start(one, 'loss')
  }

  #count(what: string): void {
    this.events.set(what, (this.events.get(what) ?? 0) + 1)
  }

  async #crashInRestore(): Promise<string> {
    const { random } = this.#options
    const one = random.pick(this.#alive)
    await one.kill()
    one.loseFolder()
    this.#count('folder lost')
    for (let times = 1 + random.below(4); times > 0; times--) {
      const nth = 1 + random.below(3)
      this.start(one, 'loss', {
        armed: { point: 'restore-mid', nth, delayMs: 0, signal: 'SIGKILL' },
      })
      if ((await one.untilEnded(15_000)) === undefined) {
        await one.kill()
        this.#count('kill anywhere')
      } else this.#count('kill at restore-mid')
    }
    this.start(one, 'loss')
    return 'restored after kills'
  }

  async #crashInRevocation(): Promise<string> {
    const { random } = this.#options
    const [first, ...others] = random.shuffle([...this.#alive])
    await first!.ask({ do: 'arm', armed: at('revoke-mid') }, 'armed')
    const third = this.instances.find(({ alive }) => !alive)
    if (third !== undefined) this.start(third, 'nothing')
    else {
      const [other] = others
      await this.#stop(other!, true)
      this.start(other!, 'leave')
    }
    const ended = await first!.untilEnded(20_000)
    await first!.kill()
    this.start(first!, 'kill')
    return ended === undefined ? 'kill anywhere' : 'kill at revoke-mid'
  }

  async #crashInPromotion(): Promise<string> {
    const { random } = this.#options
    await this.rest()
    const [first, other] = random.shuffle([...this.#alive])
    await first!.ask({ do: 'arm', armed: at('promote-mid') }, 'armed')
    await this.#stop(other!, true)
    const ended = await first!.untilEnded(10_000)
    await first!.kill()
    this.start(first!, 'kill')
    this.start(other!, 'leave')
    return ended === undefined ? 'kill anywhere' : 'kill at promote-mid'
  }

  /** Stands still, perhaps within a transaction, until others have its tasks; then goes on. */
  async #zombie(): Promise<string> {
    const { random } = this.#options
    const one = random.pick(this.#alive)
    const point = random.pick<CrashPoint>(['run', 'output-sent', 'offsets-added', 'endtxn-acked'])
    const delayMs = point === 'offsets-added' ? random.below(3) : 0
    const armed: Arming = { point, nth: 1 + random.below(4), delayMs, signal: 'SIGSTOP' }
    await one.ask({ do: 'arm', armed }, 'armed')
    const stopped = await one.untilStopped(4_000)
    // Otherwise it would stop itself later, and nobody would wake it.
    if (!stopped) await one.ask({ do: 'arm', armed: undefined }, 'armed')
    one.signal('SIGSTOP')
    await sleep(SESSION_MS + 1_000 + random.below(4_000))
    one.signal('SIGCONT')
    return stopped ? `zombie at ${point}` : 'zombie anywhere'
  }

  async #shortPause(): Promise<string> {
    const { random } = this.#options
    const one = random.pick(this.#alive)
    one.signal('SIGSTOP')
    await sleep(500 + random.below(3_000))
    one.signal('SIGCONT')
    return 'short pause'
  }

  async #stop(one: InstanceProcess, leave: boolean): Promise<void> {
    await one.ask({ do: 'stop', leave, dump: false }, 'stopped', 30_000)
    const ended = await one.untilEnded(5_000)
    if (ended?.code !== 0) this.#violate(`${one.name} did not stop in 30 s: ${one.output}`)
    await one.kill()
  }

  async #stopAndStart(): Promise<string> {
    const { random } = this.#options
    const one = random.pick(this.#alive)
    const leave = random.below(2) === 0
    await this.#stop(one, leave)
    if (random.below(4) === 0) {
      one.loseFolder()
      this.#count('folder lost')
      this.start(one, 'loss')
    } else this.start(one, leave ? 'leave' : 'stop')
    return leave ? 'leave and return' : 'stop and start'
  }

  /** While no transaction is ending. */
  async #calmly(act: () => Promise<void>): Promise<void> {
    const alive = this.#alive
    for (const one of alive) one.signal('SIGSTOP')
    await sleep(MARKERS_MS)
    await act()
    for (const one of alive) one.signal('SIGCONT')
  }

  async #brokerDies(): Promise<string> {
    const { kafka, random } = this.#options
    await this.#calmly(() => kafka.kill())
    await sleep(random.below(4_000))
    await kafka.restart()
    return 'broker killed'
  }

  async #brokerRestarts(): Promise<string> {
    const { kafka } = this.#options
    await this.#calmly(() => kafka.nodes[0]!.stop())
    await kafka.restart()
    return 'broker restarted'
  }

  async #brokerHangs(): Promise<string> {
    const { kafka, random } = this.#options
    kafka.pause()
    await sleep(1_000 + random.below(9_000))
    kafka.resume()
    return 'broker hangs'
  }

  async #third(): Promise<string> {
    const { random } = this.#options
    const third = this.instances[2]!
    if (!third.alive) {
      this.start(third, 'nothing')
      return 'third starts'
    }
    if (random.below(2) === 0) {
      await this.#stop(third, true)
      return 'third leaves'
    }
    await third.kill()
    return 'third killed for good'
  }

  /** Every return has been seen. */
  async settled(): Promise<void> {
    await Promise.all(this.#pending)
  }

  async end(): Promise<void> {
    for (const one of this.instances) {
      one.signal('SIGCONT')
      await one.kill()
    }
  }
}

function at(point: CrashPoint): Arming {
  return { point, nth: 1, delayMs: 0, signal: 'SIGKILL' }
}

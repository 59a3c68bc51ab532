/**
 * Several instances of an application against one simulated Kafka cluster, in simulated time,
 * everything chosen by a seed: real engines in their own loops, real group members, a broker and
 * a coordinator that behave as Kafka's do, and a network that takes its time.
 */
import { MillraceError } from '../../../log/errors.ts'
import { type Membership, noTasks } from '../../../log/membership.ts'
import type { EventLog, LogEnvironment, TopicPartition } from '../../../log/port.ts'
import { RecordBatchBuilder } from '../../../log/record-batch-builder.ts'
import { taskNames } from '../../../log/task-ids.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { Engine } from '../../../streams/engine.ts'
import type { CrashPoint, EngineSettings } from '../../../streams/environment.ts'
import { groupTopology } from '../../../streams/group-topology.ts'
import type { Topology } from '../../../streams/index.ts'
import type { Plan } from '../../../streams/plan.ts'
import { keyBytes } from '../../../streams/sinks.ts'
import type { Tracing } from '../../../streams/spans.ts'
import {
  changelogTopic,
  inputsOf,
  offsetsOf,
  storesOf,
  type TaskInput,
} from '../../../streams/task-parts.ts'
import { type OutputRecord, type ReadSerdes, readTopic } from '../../../streams/testing/index.ts'
import type { SourceNode } from '../../../streams/topology.ts'
import { viewService } from '../../../streams/view-service.ts'
import type { ViewRow } from '../../../streams/views.ts'
import type { Input } from '../../oracle/inputs.ts'
import { SimulatedProcess, SimulatedTime } from '../streams-group/time.ts'
import { type BrokerTransaction, placeOf, SimulatedBroker, SimulatedFault } from './broker.ts'
import { SimulatedGroup } from './group.ts'
import { SimulatedLog } from './log.ts'
import { SimulatedPeers } from './peers.ts'
import { Serving } from './serving.ts'

export interface ClusterOptions {
  readonly seed: number
  readonly topology: () => Topology
  readonly partitions: number
  readonly settings?: Partial<EngineSettings>
  readonly standbys?: number
  /** What an instance traces with. */
  readonly tracing?: (id: string) => Tracing
}

export interface Instance {
  readonly id: string
  readonly process: SimulatedProcess
  readonly log: SimulatedLog
  readonly database: MemoryDatabase
  /** Undefined while it is being opened. */
  engine: Engine | undefined
  /** Timers of the engine that have not run. */
  timers: number
  /** Whole views: it asks the other instances. */
  serving: Serving | undefined
  /** Crash points it may still pass; Infinity for all. */
  left: number
  /** Where it was killed. */
  diedAt: CrashPoint | undefined
  /** What its engine gave up with. */
  failure: unknown
}

const TRANSACTION_TIMEOUT_MS = 3_000
const SLOW_SHARE = 0.03
const builder = new RecordBatchBuilder()

export class SimulatedCluster {
  readonly time: SimulatedTime
  readonly broker: SimulatedBroker
  readonly peers: SimulatedPeers
  readonly application: string
  instances: Instance[] = []
  /** Kills, errors that engines met, tasks taken, records in repartition topics, trims. */
  readonly counts = { kills: 0, errors: 0, moves: 0, exchanged: 0, trims: 0 }
  /** Messages of errors that engines met, and how often. */
  readonly errors = new Map<string, number>()
  #calm = false
  #frozenUntilMs = 0
  #group: SimulatedGroup | undefined
  readonly #options: ClusterOptions
  readonly #disks = new Map<string, MemoryDatabase>()
  readonly #read = new Map<string, number>()
  readonly #sources = new Map<string, SourceNode>()
  #topology: () => Topology

  constructor(options: ClusterOptions) {
    this.#options = options
    this.time = new SimulatedTime(options.seed)
    const { time } = this
    this.broker = new SimulatedBroker({
      time,
      transactionTimeoutMs: TRANSACTION_TIMEOUT_MS,
      markerDelayMs: () => this.#delayMs(400),
      checkMember: request => this.#group!.check(request),
      onCommit: transaction => this.#checkCommit(transaction),
      onDelete: (target, before) => this.#checkDeletion(target, before),
    })
    this.peers = new SimulatedPeers({
      time,
      find: id => this.instances.find(instance => instance.id === id),
      delayMs: () => this.#delayMs(400),
      lossShare: () => (this.#calm ? 0 : 0.03),
    })
    this.#topology = options.topology
    this.application = options.topology().application
    this.deploy(options.topology)
  }

  /**
   * Another topology from the next start on, with no instance left: the group is made anew, its
   * offsets kept.
   */
  deploy(topology: () => Topology): void {
    this.#topology = topology
    this.#group = undefined
    this.#plan = undefined
    for (const node of topology().nodes) {
      if (node.kind === 'source') this.#sources.set(node.topic, node)
    }
  }

  get group(): SimulatedGroup | undefined {
    return this.#group
  }

  /** Most messages take a few ms, some much longer. */
  #delayMs(slowMs: number): number {
    const { time } = this
    if (!this.#calm && time.chance(SLOW_SHARE)) return time.between(5, slowMs)
    return time.between(0, 4)
  }

  /** Appends records to input topics, in order: there at once. */
  append(inputs: readonly Input[]): void {
    const { partitions } = this.#options
    for (const { topic, partition, key, value, timeMs, headers = {} } of inputs) {
      const source = this.#sources.get(topic)!
      if (this.broker.describeTopic(topic) === undefined) {
        this.broker.createTopic(topic, partitions)
      }
      const named = Object.entries(headers).map(
        ([name, text]) => [name, Buffer.from(text)] as const,
      )
      const bytes = value === null ? null : source.value.encode(value)
      builder.append(
        timeMs,
        key === null ? null : keyBytes(source.key.encode(key)),
        bytes && { bytes, start: 0, end: bytes.length },
        named,
      )
      this.broker.append({ topic, partition }, builder.finish())
      builder.reset()
    }
  }

  /** Starts an instance; one that ran before finds its disk. */
  start(id: string): Instance {
    const process = new SimulatedProcess(this.time)
    const database = this.#disks.get(id)?.reopen() ?? new MemoryDatabase()
    this.#disks.set(id, database)
    const left = Number.POSITIVE_INFINITY
    const log = new SimulatedLog({
      broker: this.broker,
      process,
      producer: id,
      database,
      delayMs: () => this.#delayMs(1_500),
      pendingShare: 0.02,
      beforeState: () => this.#reached(instance, 'log-committed'),
    })
    const instance: Instance = {
      id,
      process,
      log,
      database,
      engine: undefined,
      timers: 0,
      serving: undefined,
      left,
      diedAt: undefined,
      failure: undefined,
    }
    this.instances.push(instance)
    void this.#run(instance)
    return instance
  }

  #reached(instance: Instance, point: CrashPoint): void {
    if (--instance.left >= 0) return
    instance.diedAt ??= point
    if (!instance.process.dead) this.counts.kills++
    instance.process.kill()
    throw new SimulatedFault('killed')
  }

  async #run(instance: Instance): Promise<void> {
    const { id, process, log, database } = instance
    const { partitions, settings, tracing } = this.#options
    try {
      instance.engine = await Engine.open({
        topology: this.#topology(),
        log,
        database,
        environment: {
          ...this.#environmentOf(instance),
          yieldNow: () => Promise.resolve(),
          reached: point => this.#reached(instance, point),
          ...(tracing && { tracing: tracing(id) }),
        },
        settings: {
          idleAfterMs: Number.POSITIVE_INFINITY,
          createPartitions: partitions,
          futureMsMax: Number.POSITIVE_INFINITY,
          ...settings,
        },
        join: async plan => {
          const member = this.#join(id, process, plan)
          this.#countMoves(member)
          return member
        },
        onError: error => this.#met(error),
      })
      const views = viewService({
        engine: instance.engine,
        ...process.environment,
        incarnation: this.broker.incarnation,
        remote: this.peers.of(id, process),
      })
      instance.serving = new Serving(views, process)
      await instance.engine.run()
    } catch (error) {
      if (!process.dead) instance.failure = error
    }
  }

  /** The environment of its process, with its timers counted. */
  #environmentOf(instance: Instance): LogEnvironment {
    const { environment } = instance.process
    const schedule = (task: () => void, delayMs: number) => {
      instance.timers++
      let waits = true
      const done = () => {
        if (waits) instance.timers--
        waits = false
      }
      const cancel = environment.schedule(() => {
        done()
        task()
      }, delayMs)
      return () => {
        done()
        cancel()
      }
    }
    return { ...environment, schedule }
  }

  #countMoves(member: Membership): void {
    let before = new Set<string>()
    member.onChange(() => {
      const names = taskNames(member.target ?? noTasks).filter(name => name.startsWith('active'))
      this.counts.moves += names.filter(name => !before.has(name)).length
      before = new Set(names)
    })
  }

  #met(error: unknown): void {
    this.counts.errors++
    const message = error instanceof Error ? error.message : String(error)
    // What the world does to an engine is in the catalogue, or said by the simulation.
    const isOurs = !(error instanceof MillraceError) && !(error instanceof SimulatedFault)
    if (isOurs) this.broker.violations.push(message)
    const kind = message.replace(/\d+/g, 'n')
    this.errors.set(kind, (this.errors.get(kind) ?? 0) + 1)
  }

  #join(id: string, process: SimulatedProcess, plan: Plan) {
    if (this.#group === undefined) {
      const { standbys = 0 } = this.#options
      this.#group = new SimulatedGroup({ time: this.time, plan, standbys })
      this.#createInternal(plan)
    }
    return this.#group.join(id, process)
  }

  #createInternal(plan: Plan): void {
    for (const { id, changelogs, repartitionSources } of groupTopology(plan).subTopologies) {
      const { partitions } = plan.subTopologies.find(({ name }) => name === id)!
      for (const { name, configs } of [...changelogs, ...repartitionSources]) {
        const cleanup = configs['cleanup.policy'] as 'delete' | 'compact'
        if (this.broker.describeTopic(name) !== undefined) continue
        this.broker.createTopic(name, partitions, { cleanup, retentionMs: -1 })
      }
    }
    this.#plan = plan
  }

  #plan: Plan | undefined

  /** Law 2: every task that wrote state has an offset in the same transaction. */
  #checkCommit({ partitions, offsets, producer }: BrokerTransaction): void {
    const plan = this.#plan
    if (plan === undefined) return
    for (const subTopology of plan.subTopologies) {
      for (const { name } of storesOf(plan, subTopology)) {
        for (let partition = 0; partition < subTopology.partitions; partition++) {
          const topic = changelogTopic(this.application, name)
          if (!partitions.has(placeOf({ topic, partition }))) continue
          const inputs = offsetsOf({ plan, remote: true }, { subTopology, partition })
          if (inputs.every(input => offsets.has(placeOf(input)))) continue
          this.broker.violations.push(`${producer} wrote ${topic}-${partition} without offsets`)
        }
      }
    }
  }

  /** Law 4: what a task may still have to read is not deleted. */
  #checkDeletion(target: TopicPartition, before: number): void {
    if (!target.topic.endsWith('-repartition')) return
    this.counts.trims++
    const decided = this.broker.decided(this.application, target)
    if (before <= decided) return
    const { violations } = this.broker
    violations.push(`${placeOf(target)} deleted below ${before}, committed is ${decided}`)
  }

  get live(): Instance[] {
    return this.instances.filter(({ process }) => !process.dead)
  }

  /** As SIGSTOP, and SIGCONT later. */
  freeze(instance: Instance, forMs: number): void {
    instance.process.stop(forMs)
    this.#frozenUntilMs = Math.max(this.#frozenUntilMs, this.time.nowMs + forMs)
  }

  kill(instance: Instance): void {
    if (!instance.process.dead) this.counts.kills++
    instance.process.kill()
  }

  /** A dead process leaves the list; its disk stays, unless it is lost. */
  bury(instance: Instance, options: { loseDisk?: boolean } = {}): void {
    instance.process.kill()
    this.instances = this.instances.filter(other => other !== instance)
    if (options.loseDisk) this.#disks.delete(instance.id)
  }

  /** Stops in good order: everything is committed and given up, then it leaves the group. */
  async stop(instance: Instance): Promise<void> {
    this.instances = this.instances.filter(other => other !== instance)
    let done = false
    const stopped = (instance.engine?.stop() ?? Promise.resolve()).finally(() => {
      done = true
    })
    stopped.catch(() => {})
    while (!done && !instance.process.dead) await this.time.run(20)
    if (!instance.process.dead) await stopped
    instance.process.kill()
  }

  /** No more faults, and messages arrive soon. */
  calm(): void {
    this.#calm = true
    this.#group?.heal()
  }

  /** Runs until nothing is left to do anywhere. */
  async drain(limitMs = 120_000): Promise<void> {
    const untilMs = this.time.nowMs + limitMs
    for (let quiet = 0, before = -1; quiet < 4; ) {
      await this.time.run(300)
      const failed = this.instances.find(({ failure }) => failure !== undefined)
      if (failed !== undefined) throw failed.failure
      const { records } = this.broker.counts
      quiet = records === before && this.#isAtRest() ? quiet + 1 : 0
      before = records
      if (this.time.nowMs > untilMs) throw new Error(`not drained: ${this.standing()}`)
    }
    // A standby that met an error looks again after 5 s.
    if (this.#options.standbys) await this.time.run(6_000)
  }

  #isAtRest(): boolean {
    const plan = this.#plan
    if (plan === undefined || this.time.nowMs < this.#frozenUntilMs + 1_000) return false
    let tasks = 0
    for (const { engine } of this.instances) {
      if (engine?.state !== 'running') return false
      tasks += engine.assembly.tasks.length
    }
    const wanted = plan.subTopologies.reduce((sum, { partitions }) => sum + partitions, 0)
    const behind = this.instances.some(({ engine }) =>
      engine!.assembly.inputs.some(input => {
        const { endOffset, highWatermark } = this.broker.offsets(input)
        return input.position < highWatermark || endOffset < highWatermark
      }),
    )
    return tasks === wanted && !behind
  }

  #committed({ positions, partition }: TaskInput): number {
    return this.broker.committed(this.application, { topic: positions, partition })?.offset ?? 0
  }

  /** Every partition that a task reads. */
  #inputs(): TaskInput[] {
    const plan = this.#plan
    if (plan === undefined) return []
    return plan.subTopologies.flatMap(subTopology =>
      Array.from({ length: subTopology.partitions }, (_, partition) =>
        inputsOf({ plan, remote: true }, { subTopology, partition }),
      ).flat(),
    )
  }

  /** Where everybody stands, for a run that does not end. */
  standing(): string {
    const instances = this.instances.map(({ id, engine, process }) => {
      const tasks = engine?.assembly.tasks.map(({ name }) => name).join(' ')
      const state = process.dead ? 'dead' : `${engine?.state}: ${engine?.detail}`
      return `${id} ${state} [${tasks}] ${engine?.membership?.status.detail}`
    })
    const behind = this.#inputs().flatMap(read => {
      const { endOffset, highWatermark } = this.broker.offsets(read)
      const committed = this.#committed(read)
      if (committed === endOffset && endOffset === highWatermark) return []
      return [`${placeOf(read)} committed ${committed} of ${endOffset} of ${highWatermark}`]
    })
    const errors = [...this.errors].map(([message, count]) => `${count} x ${message}`)
    return [...instances, ...behind, ...errors].join('; ')
  }

  /** Rows of a view, from whoever has its partitions, as of a time where one is given. */
  async rows(view: string, asOf?: number): Promise<ViewRow[]> {
    const rows: ViewRow[] = []
    for (const { serving } of this.instances) {
      if (serving === undefined) continue
      let cursor: string | undefined
      do {
        const query = { key: {}, limit: 1000, asOf, ...(cursor === undefined ? {} : { cursor }) }
        const page = await serving.views.localRows(view, query)
        rows.push(...page.rows)
        cursor = page.next ?? undefined
      } while (cursor !== undefined)
    }
    return rows
  }

  /** Records written to a topic since the last call, partition by partition. */
  output<K, V>(topic: string, serdes: ReadSerdes<K, V>): Promise<OutputRecord<K, V>[]> {
    return readTopic({ log: this.reader, topic, serdes, positions: this.#read })
  }

  /** The log as it is at this moment, without a network. */
  get reader(): Pick<EventLog, 'fetch' | 'describeTopic'> {
    const { broker } = this
    return {
      fetch: async requests => requests.map(request => broker.read(request)),
      describeTopic: async name => broker.describeTopic(name),
    }
  }

  async close(): Promise<void> {
    const topics = this.broker.listTopics().filter(({ name }) => name.endsWith('-repartition'))
    for (const { name: topic, partitions } of topics) {
      for (let partition = 0; partition < partitions; partition++) {
        this.counts.exchanged += this.broker.offsets({ topic, partition }).highWatermark
      }
    }
    for (const instance of [...this.instances]) await this.stop(instance)
  }
}

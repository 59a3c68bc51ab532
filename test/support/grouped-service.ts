/**
 * Instances of one application in this process, each with engine, views and HTTP server, over one
 * embedded log; which instance has which task is in the test's hand.
 */
import {
  type AuthSettings,
  createServer,
  type Limits,
  noAuth,
  type Server,
} from '../../api/index.ts'
import { EventAppender } from '../../cli/event-appender.ts'
import { HttpPeers } from '../../cli/peers.ts'
import { orderCommandTopic } from '../../contracts/order-commands.ts'
import { inputTopics } from '../../contracts/topics.ts'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import {
  type Assignment,
  type MemberEndpoint,
  noTasks,
  type TaskIds,
} from '../../log/membership.ts'
import type { CommitRequest, EventLog, Transaction } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { Engine } from '../../streams/engine.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import type { Topology } from '../../streams/index.ts'
import type { Plan } from '../../streams/plan.ts'
import { encodePosition } from '../../streams/position.ts'
import type { Peer } from '../../streams/remote-views.ts'
import { type InstanceViews, viewService } from '../../streams/view-service.ts'
import { testFlow } from './fake-server.ts'
import { HandMembership } from './hand-membership.ts'
import { freePort } from './ports.ts'

const environment = {
  clock: Date.now,
  schedule: (run: () => void, delayMs: number) => {
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes: (size: number) => Buffer.alloc(size, 1),
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
}

export interface InstanceOptions {
  /** What it asks of others, and what it shows them. */
  readonly auth?: AuthSettings
  readonly secret?: string
  readonly limits?: Partial<Limits>
}

export interface Instance {
  readonly address: string
  readonly self: Peer
  readonly membership: HandMembership
  readonly engine: Engine
  readonly views: InstanceViews
  readonly server: Server
  readonly peers: HttpPeers
  /** What the peers were complained about. */
  readonly refused: string[]
}

export class GroupedService {
  readonly instances: Instance[] = []
  readonly #topology: () => Topology
  readonly #log: EmbeddedLog
  readonly #closing: (() => unknown)[] = []

  private constructor(topology: () => Topology, log: EmbeddedLog) {
    this.#topology = topology
    this.#log = log
  }

  /** The input topics get so many partitions. */
  static async open(
    topology: () => Topology,
    topics: readonly string[],
    partitions: number,
  ): Promise<GroupedService> {
    const log = await openEmbeddedLog(new MemoryDatabase(), environment)
    for (const topic of topics) await log.createTopic(topic, partitions)
    return new GroupedService(topology, log)
  }

  /** Starts an instance with these tasks. */
  async start(tasks: TaskIds, options: InstanceOptions = {}): Promise<Instance> {
    const self = { host: '127.0.0.1', port: await freePort() }
    const refused: string[] = []
    const peers = new HttpPeers({
      self,
      id: `run-${this.instances.length}`,
      secret: options.secret,
      schedule: environment.schedule,
      random: Math.random,
      onRefused: sentence => refused.push(sentence),
    })
    const membership = new HandMembership(tasks)
    const database = new MemoryDatabase()
    const engine = await Engine.open({
      topology: this.#topology(),
      log: this.#logOf(database),
      database,
      environment,
      settings: { futureMsMax: Number.POSITIVE_INFINITY },
      join: async plan => {
        await this.#createInternal(plan)
        return membership
      },
    })
    const { incarnation } = this.#log
    const views = viewService({ engine, ...environment, incarnation, remote: peers })
    const server = await this.#serve(views, options)
    const running = engine.run()
    running.catch(() => {})
    const address = await server.listen({ host: self.host, port: self.port })
    const instance = { address, self, membership, engine, views, server, peers, refused }
    this.instances.push(instance)
    this.#closing.push(async () => {
      await server.close()
      peers.close()
      await engine.stop()
      await running
    })
    this.tell()
    await until(() => holds(engine, tasks))
    return instance
  }

  async #serve(views: InstanceViews, { auth, limits }: InstanceOptions): Promise<Server> {
    let ids = 0
    const place = this.instances.length
    const appender = await EventAppender.open(this.#log, [...inputTopics, orderCommandTopic])
    return createServer({
      views,
      append: records => appender.append(records),
      orders: {
        append: command => appender.append([command]),
        position: () => appender.position(),
      },
      deadLetters: { of: new Map(), position: async () => '' },
      topology: () => ({ instances: views.instances() }),
      readiness: () => ({ ready: true }),
      flow: testFlow,
      clock: environment.clock,
      schedule: environment.schedule,
      ids: () => `id-${place}-${++ids}`,
      version: '0.0.0-test',
      auth: auth ?? noAuth,
      ...(limits === undefined ? {} : { limits }),
    })
  }

  async #createInternal(plan: Plan): Promise<void> {
    for (const { id, changelogs, repartitionSources } of groupTopology(plan).subTopologies) {
      const { partitions } = plan.subTopologies.find(({ name }) => name === id)!
      for (const { name } of [...changelogs, ...repartitionSources]) {
        if ((await this.#log.describeTopic(name)) !== undefined) continue
        await this.#log.createTopic(name, partitions, { retentionMs: -1 })
      }
    }
  }

  /** The log with a state of the instance's own. */
  #logOf(database: MemoryDatabase): EventLog {
    const log = this.#log
    const begin = (): Transaction => {
      const inner = log.begin()
      const commit = async ({ state, member: _, ...request }: CommitRequest = {}) => {
        const receipts = await inner.commit(request)
        const batch = database.batch()
        state?.(receipts, batch)
        await batch.commit()
        return receipts
      }
      return { append: inner.append.bind(inner), abort: inner.abort.bind(inner), commit }
    }
    return new Proxy(log, {
      get: (target, name) => {
        if (name === 'begin') return begin
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  /** Tells every instance where tasks are, as the group would. */
  tell(wrong: ReadonlyMap<Instance, TaskIds> = new Map()): void {
    const endpoints: MemberEndpoint[] = this.instances.map(instance => ({
      ...instance.self,
      active: wrong.get(instance) ?? instance.membership.target?.active ?? {},
      standby: {},
    }))
    for (const { membership } of this.instances) {
      Object.assign(membership, { endpoints })
      membership.change({})
    }
  }

  /** Gives an instance other tasks, once nobody else has them. */
  async assign(instance: Instance, tasks: TaskIds): Promise<void> {
    const target: Assignment = { ...noTasks, active: tasks }
    instance.membership.change({ target })
    await until(() => holds(instance.engine, tasks))
    this.tell()
  }

  /** Appends records, and returns the token that covers them. */
  async append(
    topic: string,
    records: readonly { partition: number; key: string; value: unknown; timeMs: number }[],
  ): Promise<string> {
    const builder = new RecordBatchBuilder()
    const transaction = this.#log.begin()
    for (const { partition, key, value, timeMs } of records) {
      builder.append(timeMs, slice(key), slice(JSON.stringify(value)))
      transaction.append({ topic, partition }, builder.finish())
      builder.reset()
    }
    await transaction.commit()
    const { partitions } = (await this.#log.describeTopic(topic))!
    const targets = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
    const ends = await this.#log.offsets(targets)
    const offsets = { [topic]: ends.map(({ endOffset }) => endOffset) }
    return encodePosition({ incarnation: this.#log.incarnation, offsets })
  }

  async close(): Promise<void> {
    for (const close of this.#closing.splice(0).reverse()) await close()
    await this.#log.close()
  }
}

function holds(engine: Engine, tasks: TaskIds): boolean {
  const wanted = Object.entries(tasks).flatMap(([sub, list]) => list.map(p => `${sub}/${p}`))
  const names = engine.assembly.tasks.map(({ name }) => name)
  return names.length === wanted.length && wanted.every(name => names.includes(name))
}

export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 2000) throw new Error('what was waited for does not come')
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

function slice(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

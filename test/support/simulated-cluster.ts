/**
 * Several instances of an application in one process, over one log and one group, every step
 * chosen by a seed: which instance moves, joins, leaves, is killed, loses its disk or is removed
 * from the group without knowing.
 */
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import type { CommitRequest, EventLog, Transaction } from '../../log/port.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { Engine } from '../../streams/engine.ts'
import type { EngineSettings } from '../../streams/environment.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import type { Topology } from '../../streams/index.ts'
import type { Plan } from '../../streams/plan.ts'
import { viewService } from '../../streams/view-service.ts'
import type { ViewRow } from '../../streams/views.ts'
import type { Random } from './random.ts'
import { SimulatedGroup, type SimulatedMember } from './simulated-group.ts'

export interface ClusterOptions {
  readonly topology: () => Topology
  readonly partitions: number
  readonly random: Random
  readonly settings?: Partial<EngineSettings>
  readonly standbys?: number
}

interface Instance {
  readonly id: string
  engine: Engine
  member: SimulatedMember
  database: MemoryDatabase
  dead: boolean
  /** Crash points and commits left before it dies; Infinity for never. */
  left: number
}

const noEffects = {
  clock: () => 0,
  schedule: (task: () => void, delayMs: number) => {
    const timer = setTimeout(task, Math.min(delayMs, 1))
    return () => clearTimeout(timer)
  },
  randomBytes: (size: number) => Buffer.alloc(size, 1),
  yieldNow: () => Promise.resolve(),
}

export class SimulatedCluster {
  readonly log: EmbeddedLog
  readonly group: SimulatedGroup
  readonly instances: Instance[] = []
  /** Nothing is late any more: the story is over. */
  resting = false
  readonly counts = { kills: 0, refused: 0, drained: 0 }
  readonly #options: ClusterOptions
  readonly #disks = new Map<string, MemoryDatabase>()

  private constructor(options: ClusterOptions, log: EmbeddedLog) {
    this.#options = options
    this.log = log
    this.group = new SimulatedGroup(options.random, options.standbys)
  }

  static async open(options: ClusterOptions): Promise<SimulatedCluster> {
    const log = await openEmbeddedLog(new MemoryDatabase(), noEffects)
    return new SimulatedCluster(options, log)
  }

  /** Starts an instance; one that ran before finds its disk. */
  async start(id: string): Promise<void> {
    const { topology, partitions, settings } = this.#options
    const database = this.#disks.get(id)?.reopen() ?? new MemoryDatabase()
    this.#disks.set(id, database)
    const instance = {
      id,
      database,
      dead: false,
      left: Number.POSITIVE_INFINITY,
    } as Instance
    const reached = () => {
      if (instance.dead || --instance.left < 0) {
        if (!instance.dead) this.counts.kills++
        instance.dead = true
        throw new Error('killed')
      }
    }
    instance.engine = await Engine.open({
      topology: topology(),
      log: this.#logOf(instance, reached),
      database,
      environment: { ...noEffects, reached },
      settings: {
        idleAfterMs: Number.POSITIVE_INFINITY,
        createPartitions: partitions,
        futureMsMax: Number.POSITIVE_INFINITY,
        ...settings,
      },
      join: async plan => {
        await this.#createInternal(plan)
        instance.member = this.group.join(id, plan)
        return instance.member
      },
    })
    this.instances.push(instance)
  }

  async #createInternal(plan: Plan): Promise<void> {
    for (const { id, changelogs, repartitionSources } of groupTopology(plan).subTopologies) {
      const { partitions } = plan.subTopologies.find(({ name }) => name === id)!
      for (const { name, configs } of [...changelogs, ...repartitionSources]) {
        if ((await this.log.describeTopic(name)) !== undefined) continue
        const cleanup = configs['cleanup.policy'] as 'delete' | 'compact'
        await this.log.createTopic(name, partitions, { cleanup, retentionMs: -1 })
      }
    }
  }

  /** The log as one instance sees it: its state is its own, and what is dead writes nothing. */
  #logOf(instance: Instance, reached: () => void): EventLog {
    const { log, group } = this
    const begin = (): Transaction => {
      const appends: Parameters<Transaction['append']>[] = []
      return {
        append: (target, batch) => void appends.push([target, Buffer.from(batch)]),
        commit: async (request: CommitRequest = {}) => {
          reached()
          try {
            group.check(request)
          } catch (error) {
            this.counts.refused++
            throw error
          }
          const inner = log.begin()
          for (const [target, batch] of appends) inner.append(target, batch)
          const { state, ...rest } = request
          const receipts = await inner.commit(rest)
          reached()
          const batch = instance.database.batch()
          state?.(receipts, batch)
          await batch.commit()
          return receipts
        },
        abort: async () => {},
      }
    }
    return {
      incarnation: log.incarnation,
      begin,
      createTopic: log.createTopic.bind(log),
      describeTopic: log.describeTopic.bind(log),
      listTopics: log.listTopics.bind(log),
      deleteTopic: log.deleteTopic.bind(log),
      deleteRecords: log.deleteRecords.bind(log),
      fetch: (requests, options) => this.#fetch(requests, options),
      offsets: log.offsets.bind(log),
      offsetForTimestamp: log.offsetForTimestamp.bind(log),
      committed: log.committed.bind(log),
      listGroups: log.listGroups.bind(log),
      close: async () => {},
    }
  }

  /** What is committed is seen some time later, partition by partition, as on a real log. */
  async #fetch(...[requests, options]: Parameters<EventLog['fetch']>) {
    const responses = await this.log.fetch(requests, options)
    return responses.map((response, i) => {
      const { offset, topic } = requests[i]!
      const unseen = !topic.endsWith('-changelog') && this.#options.random.below(2) === 0
      if (!unseen || response.error !== undefined || this.resting) return response
      return {
        ...response,
        bytes: response.bytes.subarray(0, 0),
        endOffset: offset,
        nextOffset: offset,
      }
    })
  }

  get live(): Instance[] {
    return this.instances.filter(({ dead }) => !dead)
  }

  /** The instance will die after this many crash points. */
  killAfter(instance: Instance, points: number): void {
    instance.left = points
  }

  /** One turn of one instance. What goes wrong with its epoch is what its loop would see. */
  async turn(instance: Instance): Promise<boolean> {
    if (instance.dead) return false
    if (this.#options.random.below(2) === 0) instance.member.heartbeat()
    const changed = await instance.engine.turn()
    return changed || instance.dead
  }

  /** A dead process leaves the list; its disk stays, unless it is lost. */
  bury(instance: Instance, options: { loseDisk?: boolean } = {}): void {
    instance.dead = true
    this.instances.splice(this.instances.indexOf(instance), 1)
    if (options.loseDisk) this.#disks.delete(instance.id)
  }

  /** Stops in good order: everything is committed and given up, then it leaves the group. */
  async stop(instance: Instance): Promise<void> {
    await instance.engine.stop({ leave: true })
    this.instances.splice(this.instances.indexOf(instance), 1)
  }

  /** Runs all instances until nothing is left to do anywhere. */
  async drain(): Promise<void> {
    this.resting = true
    for (let quiet = 0, rounds = 0; quiet < 5; rounds++) {
      if (rounds > 5000) throw new Error(`not drained: ${this.#standing()}`)
      let changed = false
      for (const instance of [...this.instances]) {
        instance.member.heartbeat()
        changed = (await this.turn(instance)) || changed
      }
      // Tasks are opened beside the epochs.
      await new Promise(resolve => setImmediate(resolve))
      const done = this.instances.every(({ engine }) => engine.state === 'running' && engine.atEnd)
      quiet = changed || !done ? 0 : quiet + 1
    }
  }

  #standing(): string {
    return this.instances
      .map(({ id, engine }) => `${id} ${engine.state}: ${engine.detail}`)
      .join('; ')
  }

  /** Rows of a view, from whoever has its partitions. */
  async rows(view: string): Promise<ViewRow[]> {
    const rows: ViewRow[] = []
    for (const { engine } of this.instances) {
      const { schedule } = noEffects
      const views = viewService({ engine, schedule, incarnation: this.log.incarnation })
      let cursor: string | undefined
      do {
        const query = { key: {}, limit: 1000, ...(cursor === undefined ? {} : { cursor }) }
        const page = await views.localRows(view, query)
        rows.push(...page.rows)
        cursor = page.next ?? undefined
      } while (cursor !== undefined)
    }
    return rows
  }

  async close(): Promise<void> {
    for (const instance of [...this.instances]) await this.stop(instance)
    await this.log.close()
  }
}

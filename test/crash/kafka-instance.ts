/**
 * An instance of an application on real Kafka, for crash tests, as the whole of a process: its
 * argument is JSON (`InstanceArguments`); it takes commands on standard input and tells what
 * happens on standard output, a JSON line each (`InstanceCommand`, `InstanceEvent`). It can be
 * armed to kill or stop itself at a crash point.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import {
  joinStreamsGroup,
  type KafkaLog,
  openKafkaLog,
  prepareGroup,
} from '../../log/kafka/index.ts'
import { readApplied } from '../../state/applied-offset.ts'
import { databaseRange } from '../../state/committed-rows.ts'
import { rowsPrefix } from '../../state/keys.ts'
import { openRocksDB, type RocksDBDatabase } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import type { CrashPoint, EngineEnvironment, EngineSettings } from '../../streams/environment.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import type { Topology } from '../../streams/index.ts'
import type { StoreSpec } from '../../streams/operator.ts'
import type { SubTopology } from '../../streams/plan.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { type InstanceViews, viewService } from '../../streams/view-service.ts'
import type { ViewRow } from '../../streams/views.ts'
import { RestoreAccount } from './restore-account.ts'

export interface InstanceArguments {
  readonly bootstrap: string
  readonly folder: string
  /** Of the names of the application and its topics. */
  readonly prefix: string
  /** Which of its topologies the application has, where there are several. */
  readonly variant?: string
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  readonly transactionTimeoutMs: number
  readonly standbyReplicas: number
  readonly armed?: Arming
}

/** At the nth time that the point is reached, so many ms later, it gets the signal. */
export interface Arming {
  readonly point: CrashPoint
  readonly nth: number
  readonly delayMs: number
  readonly signal: 'SIGKILL' | 'SIGSTOP'
}

export type InstanceCommand =
  | { readonly do: 'arm'; readonly armed: Arming | undefined }
  | { readonly do: 'status' }
  /** Rows of the partitions of all views that are here. */
  | { readonly do: 'rows' }
  /** `leave`: the group is told. With `dump` the rows of the tasks that ran here are told. */
  | { readonly do: 'stop'; readonly leave: boolean; readonly dump: boolean }

export interface InstanceStatus {
  readonly event: 'status'
  readonly state: string
  readonly detail: string
  readonly active: readonly string[]
  readonly standby: readonly string[]
  readonly atEnd: boolean
  readonly epochs: number
  /** Of the group, as this member knows it. */
  readonly memberEpoch: number
  readonly records: number
  readonly rssBytes: number
  readonly stallMsMax: number
}

export type InstanceEvent =
  | InstanceStatus
  /** First time that all tasks that it was given run; times in ms after the process began. */
  | {
      readonly event: 'running'
      readonly ms: number
      /** When its code was loaded. */
      readonly loadedMs: number
      /** When it asked to join. */
      readonly openedMs: number
      /** When the group had told it its tasks. */
      readonly assignedMs: number
      /** Of CPU until then, all threads. */
      readonly cpuMs: number
      readonly memberEpoch: number
      readonly records: number
      /** Transactions of which records were replayed, by changelog partition. */
      readonly epochs: RestoreAccount['epochs']
    }
  | { readonly event: 'armed' }
  | { readonly event: 'wipe'; readonly of: string }
  | { readonly event: 'error'; readonly text: string }
  | {
      readonly event: 'rows'
      readonly rows: Readonly<Record<string, readonly ViewRow[]>>
      readonly error?: string
    }
  /** Store and partition → key → value, as latin1; changelog topics by store. */
  | {
      readonly event: 'dump'
      readonly stores: Readonly<Record<string, Readonly<Record<string, string>>>>
    }
  | { readonly event: 'stopped' }

export interface Application {
  readonly topology: Topology
  readonly settings: Partial<EngineSettings>
}

interface StoreOf {
  readonly sub: SubTopology
  readonly name: string
  readonly kind: StoreSpec['kind']
}

function tell(event: InstanceEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

const sinceStartMs = () => Math.round(Date.now() - performance.timeOrigin)

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return Math.round((user + system) / 1000)
}

class Instance {
  readonly #own: InstanceArguments
  readonly #stalls = monitorEventLoopDelay({ resolution: 5 })
  readonly #loadedMs = sinceStartMs()
  #openedMs = 0
  #assignedMs = 0
  #armed: Arming | undefined
  #left = 0
  #stopping = false
  #database!: RocksDBDatabase
  #kafka!: KafkaLog
  #account!: RestoreAccount
  #engine!: Engine
  #views!: InstanceViews
  #stores: readonly StoreOf[] = []

  constructor(own: InstanceArguments) {
    this.#own = own
    this.arm(own.armed)
    this.#stalls.enable()
  }

  arm(armed: Arming | undefined): void {
    this.#armed = armed
    this.#left = armed?.nth ?? 0
  }

  #reached(point: CrashPoint): void {
    if (point !== this.#armed?.point || --this.#left > 0) return
    const { signal, delayMs } = this.#armed
    this.#armed = undefined
    if (delayMs === 0) process.kill(process.pid, signal)
    else setTimeout(() => process.kill(process.pid, signal), delayMs)
  }

  get #environment(): EngineEnvironment {
    return {
      clock: Date.now,
      schedule(task, delayMs) {
        const timer = setTimeout(task, delayMs)
        return () => clearTimeout(timer)
      },
      randomBytes,
      yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
      reached: point => this.#reached(point),
    }
  }

  async open({ topology, settings }: Application): Promise<void> {
    const { folder, bootstrap, transactionTimeoutMs } = this.#own
    const { sessionTimeoutMs, heartbeatIntervalMs, standbyReplicas } = this.#own
    const environment = this.#environment
    const { application } = topology
    const id = memberId(folder)
    this.#database = await openRocksDB(join(folder, 'db'), {
      owner: { pid: process.pid, bootId: 'one' },
    })
    this.#kafka = await openKafkaLog({
      bootstrap: bootstrap.split(','),
      environment,
      transactionalId: `${application}-${id}`,
      transactionTimeoutMs,
      database: this.#database,
    })
    const { cluster, incarnation } = this.#kafka
    this.#account = new RestoreAccount(this.#kafka)
    this.#engine = await Engine.open({
      topology,
      log: this.#account.log,
      database: this.#database,
      environment,
      settings: { idleAfterMs: Number.POSITIVE_INFINITY, epochMsMin: 20, ...settings },
      async join(plan) {
        const options = {
          cluster,
          group: application,
          memberId: id,
          processId: id,
          topology: groupTopology(plan),
          settings: { sessionTimeoutMs, heartbeatIntervalMs, standbyReplicas },
        }
        await prepareGroup(options)
        return joinStreamsGroup(options)
      },
      onError: error => tell({ event: 'error', text: String((error as Error)?.message ?? error) }),
    })
    this.#openedMs = sinceStartMs()
    this.#engine.membership!.onChange(() => {
      if (this.#engine.membership!.target !== undefined) this.#assignedMs ||= sinceStartMs()
    })
    this.#views = viewService({ engine: this.#engine, ...environment, incarnation })
    await this.#readApplied()
  }

  /** What is on the disk already: a restore that begins before it is a wipe. */
  async #readApplied(): Promise<void> {
    const { plan } = this.#engine
    const { application } = plan.topology
    this.#stores = plan.subTopologies.flatMap(sub =>
      storesOf(plan, sub).map(({ name, kind }) => ({ sub, name, kind })),
    )
    for (const { sub, name } of this.#stores) {
      for (let partition = 0; partition < sub.partitions; partition++) {
        const store = { name: storeInDatabase(application, name), partition }
        const { offset } = await readApplied(this.#database, store)
        this.#account.has({ topic: changelogTopic(application, name), partition }, offset)
      }
    }
  }

  run(): void {
    const watch = setInterval(() => this.#watch(), 5)
    this.#engine.run().catch(error => {
      clearInterval(watch)
      process.stderr.write(`the engine gave up: ${error?.stack ?? error}\n`)
      process.exit(3)
    })
  }

  #wipes = 0
  #isRunning = false
  #watch(): void {
    const { wipes, records, epochs } = this.#account
    for (; this.#wipes < wipes.length; this.#wipes++) {
      tell({ event: 'wipe', of: wipes[this.#wipes]! })
    }
    if (this.#isRunning || this.#engine.state !== 'running') return
    if (this.#tasks('running').length === 0) return
    this.#isRunning = true
    tell({
      event: 'running',
      ms: sinceStartMs(),
      loadedMs: this.#loadedMs,
      openedMs: this.#openedMs,
      assignedMs: this.#assignedMs,
      cpuMs: cpuMs(),
      memberEpoch: this.#engine.membership!.epoch,
      records,
      epochs,
    })
    // A process that is killed writes nothing at its end.
    flushCompileCache()
  }

  #tasks(state: string): string[] {
    const found = this.#engine.tasks().filter(task => task.state === state)
    return found.map(({ task }) => task).filter(task => task !== 'instance')
  }

  status(): InstanceStatus {
    const { state, detail, atEnd, epochs, membership } = this.#engine
    return {
      event: 'status',
      state,
      detail,
      active: this.#tasks('running'),
      standby: this.#tasks('standby'),
      atEnd,
      epochs,
      memberEpoch: membership!.epoch,
      records: this.#account.records,
      rssBytes: process.memoryUsage.rss(),
      stallMsMax: Math.round(this.#stalls.max / 1e6),
    }
  }

  async rows(): Promise<InstanceEvent> {
    const rows: Record<string, ViewRow[]> = {}
    try {
      for (const { name } of this.#views.views()) rows[name] = await this.#rowsOf(name)
      return { event: 'rows', rows }
    } catch (error) {
      return { event: 'rows', rows: {}, error: (error as Error).message }
    }
  }

  async #rowsOf(view: string): Promise<ViewRow[]> {
    const rows: ViewRow[] = []
    let cursor: string | undefined
    do {
      const page = await this.#views.localRows(view, { key: {}, limit: 1000, cursor })
      rows.push(...page.rows)
      cursor = page.next ?? undefined
    } while (cursor !== undefined)
    return rows
  }

  async stop({ leave, dump }: { leave: boolean; dump: boolean }): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    const active = new Set(this.#tasks('running'))
    const { state, detail } = this.#engine
    // Read when it does not come to its end.
    process.stderr.write(`stopping while ${state}: ${detail}; `)
    await this.#engine.stop({ leave })
    process.stderr.write('the engine stopped; ')
    if (dump) tell({ event: 'dump', stores: await this.#dump(active) })
    await this.#kafka.close()
    process.stderr.write('the log is closed; ')
    await this.#database.close()
    tell({ event: 'stopped' })
    process.exit(0)
  }

  async #dump(active: ReadonlySet<string>) {
    const { application } = this.#engine.topology
    const found: Record<string, Record<string, string>> = {}
    for (const { sub, name, kind } of this.#stores) {
      if (kind !== 'rows') continue
      for (let partition = 0; partition < sub.partitions; partition++) {
        if (!active.has(`${sub.name}/${partition}`)) continue
        const prefix = rowsPrefix(storeInDatabase(application, name), partition)
        const rows: Record<string, string> = {}
        for await (const chunk of this.#database.scan(databaseRange(prefix, {}))) {
          for (const { key, value } of chunk) {
            rows[key.latin1Slice(prefix.length)] = value.latin1Slice()
          }
        }
        found[`${changelogTopic(application, name)}/${partition}`] = rows
      }
    }
    return found
  }
}

function memberId(folder: string): string {
  const path = join(folder, 'member-id')
  if (!existsSync(path)) writeFileSync(path, randomUUID())
  return readFileSync(path, 'utf8')
}

/** Runs it as the whole of this process, until it is told to stop. */
export async function runInstance(
  applicationOf: (prefix: string, variant?: string) => Application,
): Promise<void> {
  const own = JSON.parse(process.argv[2]!) as InstanceArguments
  const instance = new Instance(own)
  mkdirSync(own.folder, { recursive: true })
  await instance.open(applicationOf(own.prefix, own.variant))
  process.on('SIGTERM', () => instance.stop({ leave: false, dump: false }))
  const commands = createInterface({ input: process.stdin })
  // Whoever started it is gone.
  commands.on('close', () => process.exit(4))
  commands.on('line', async line => {
    const command = JSON.parse(line) as InstanceCommand
    if (command.do === 'arm') {
      instance.arm(command.armed)
      tell({ event: 'armed' })
    } else if (command.do === 'status') tell(instance.status())
    else if (command.do === 'stop') await instance.stop(command)
    else tell(await instance.rows())
  })
  instance.run()
}

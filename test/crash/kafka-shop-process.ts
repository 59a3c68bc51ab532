/**
 * An instance of the shop on real Kafka, for crash tests. Its argument is JSON (`ShopArguments`).
 * It takes commands on standard input and tells what happens on standard output, a JSON line each
 * (`ShopCommand`, `ShopEvent`). It can be armed to kill or stop itself at a crash point.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { joinStreamsGroup, openKafkaLog } from '../../log/kafka/index.ts'
import { readApplied } from '../../state/applied-offset.ts'
import { databaseRange } from '../../state/committed-rows.ts'
import { rowsPrefix } from '../../state/keys.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { Engine } from '../../streams/engine.ts'
import type { CrashPoint, EngineEnvironment } from '../../streams/environment.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import { changelogTopic, storeInDatabase, storesOf } from '../../streams/task-parts.ts'
import { viewService } from '../../streams/view-service.ts'
import { lines, PARTITIONS, shopTopology } from '../support/shop.ts'
import { RestoreAccount } from './restore-account.ts'

export interface ShopArguments {
  readonly bootstrap: string
  readonly folder: string
  /** Of the names of the application and its topics. */
  readonly prefix: string
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

export type ShopCommand =
  | { readonly do: 'arm'; readonly armed: Arming | undefined }
  | { readonly do: 'status' }
  | { readonly do: 'rows' }
  /** `leave`: the group is told. With `dump` the rows of the tasks that ran here are told. */
  | { readonly do: 'stop'; readonly leave: boolean; readonly dump: boolean }

export interface ShopStatus {
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

export type ShopEvent =
  | ShopStatus
  /** First time that all tasks that it was given run, ms after the process began. */
  | {
      readonly event: 'running'
      readonly ms: number
      readonly openedMs: number
      readonly memberEpoch: number
      readonly records: number
      /** Transactions of which records were replayed, by changelog partition. */
      readonly epochs: RestoreAccount['epochs']
    }
  | { readonly event: 'armed' }
  | { readonly event: 'wipe'; readonly of: string }
  | { readonly event: 'error'; readonly text: string }
  | { readonly event: 'rows'; readonly rows: Readonly<Record<string, readonly string[]>> }
  /** Store and partition → key → value, as latin1; changelog topics by store. */
  | {
      readonly event: 'dump'
      readonly stores: Readonly<Record<string, Readonly<Record<string, string>>>>
    }
  | { readonly event: 'stopped' }

const own = JSON.parse(process.argv[2]!) as ShopArguments

function tell(event: ShopEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`)
}

const sinceStartMs = () => Math.round(Date.now() - performance.timeOrigin)
let armed = own.armed
let left = armed?.nth ?? 0

const environment: EngineEnvironment = {
  clock: Date.now,
  schedule(task, delayMs) {
    const timer = setTimeout(task, delayMs)
    return () => clearTimeout(timer)
  },
  randomBytes,
  yieldNow: () => new Promise<void>(resolve => setImmediate(resolve)),
  reached(point) {
    if (point !== armed?.point || --left > 0) return
    const { signal, delayMs } = armed
    armed = undefined
    if (delayMs === 0) process.kill(process.pid, signal)
    else setTimeout(() => process.kill(process.pid, signal), delayMs)
  },
}

function memberId(): string {
  const path = join(own.folder, 'member-id')
  if (!existsSync(path)) writeFileSync(path, randomUUID())
  return readFileSync(path, 'utf8')
}

mkdirSync(own.folder, { recursive: true })
const id = memberId()
const stalls = monitorEventLoopDelay({ resolution: 5 })
stalls.enable()
const database = await openRocksDB(join(own.folder, 'db'), {
  owner: { pid: process.pid, bootId: 'one' },
})
const application = `${own.prefix}shop`
const kafka = await openKafkaLog({
  bootstrap: own.bootstrap.split(','),
  environment,
  transactionalId: `${application}-${id}`,
  transactionTimeoutMs: own.transactionTimeoutMs,
  database,
})
const account = new RestoreAccount(kafka)
const { sessionTimeoutMs, heartbeatIntervalMs, standbyReplicas } = own
const engine = await Engine.open({
  topology: shopTopology(own.prefix),
  log: account.log,
  database,
  environment,
  settings: {
    createPartitions: PARTITIONS,
    idleAfterMs: Number.POSITIVE_INFINITY,
    epochMsMin: 20,
    epochRecordsMax: 200,
    storeCacheBytes: 64 * 1024,
  },
  join: plan =>
    joinStreamsGroup({
      cluster: kafka.cluster,
      group: application,
      memberId: id,
      processId: id,
      topology: groupTopology(plan),
      settings: { sessionTimeoutMs, heartbeatIntervalMs, standbyReplicas },
    }),
  onError: error => tell({ event: 'error', text: String((error as Error)?.message ?? error) }),
})
const openedMs = sinceStartMs()
const stores = engine.plan.subTopologies.flatMap(sub =>
  storesOf(engine.plan, sub).map(({ name, kind }) => ({ sub, name, kind })),
)
for (const { sub, name } of stores) {
  for (let partition = 0; partition < sub.partitions; partition++) {
    const store = { name: storeInDatabase(application, name), partition }
    const { offset } = await readApplied(database, store)
    account.has({ topic: changelogTopic(application, name), partition }, offset)
  }
}
const views = viewService({
  engine,
  schedule: environment.schedule,
  incarnation: kafka.incarnation,
})

async function viewRows(view: string): Promise<string[]> {
  const rows = []
  let cursor: string | undefined
  do {
    const page = await views.localRows(view, { key: {}, limit: 1000, cursor })
    rows.push(...page.rows)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return lines(rows)
}

async function dump(active: ReadonlySet<string>): Promise<void> {
  const found: Record<string, Record<string, string>> = {}
  for (const { sub, name, kind } of stores) {
    if (kind !== 'rows') continue
    for (let partition = 0; partition < sub.partitions; partition++) {
      if (!active.has(`${sub.name}/${partition}`)) continue
      const prefix = rowsPrefix(storeInDatabase(application, name), partition)
      const rows: Record<string, string> = {}
      for await (const chunk of database.scan(databaseRange(prefix, {}))) {
        for (const { key, value } of chunk) {
          rows[key.latin1Slice(prefix.length)] = value.latin1Slice()
        }
      }
      found[`${changelogTopic(application, name)}/${partition}`] = rows
    }
  }
  tell({ event: 'dump', stores: found })
}

function tasks(state: string): string[] {
  const found = engine.tasks().filter(task => task.state === state)
  return found.map(({ task }) => task).filter(task => task !== 'instance')
}

function status(): ShopStatus {
  return {
    event: 'status',
    state: engine.state,
    detail: engine.detail,
    active: tasks('running'),
    standby: tasks('standby'),
    atEnd: engine.atEnd,
    epochs: engine.epochs,
    memberEpoch: engine.membership!.epoch,
    records: account.records,
    rssBytes: process.memoryUsage.rss(),
    stallMsMax: Math.round(stalls.max / 1e6),
  }
}

let stopping = false
async function stop({ leave, dump: wanted }: { leave: boolean; dump: boolean }): Promise<void> {
  if (stopping) return
  stopping = true
  const active = new Set(tasks('running'))
  await engine.stop({ leave })
  if (wanted) await dump(active)
  await kafka.close()
  await database.close()
  tell({ event: 'stopped' })
  process.exit(0)
}

let running = false
let wipes = 0
const watch = setInterval(() => {
  for (; wipes < account.wipes.length; wipes++) tell({ event: 'wipe', of: account.wipes[wipes]! })
  if (running || engine.state !== 'running') return
  const active = tasks('running')
  if (active.length === 0) return
  running = true
  const { records, epochs } = account
  const memberEpoch = engine.membership!.epoch
  tell({ event: 'running', ms: sinceStartMs(), openedMs, memberEpoch, records, epochs })
}, 5)

process.on('SIGTERM', () => stop({ leave: false, dump: false }))
const commands = createInterface({ input: process.stdin })
// Whoever started it is gone.
commands.on('close', () => process.exit(4))
commands.on('line', async line => {
  const command = JSON.parse(line) as ShopCommand
  if (command.do === 'arm') {
    armed = command.armed
    left = armed?.nth ?? 0
    tell({ event: 'armed' })
  } else if (command.do === 'status') tell(status())
  else if (command.do === 'stop') await stop(command)
  else {
    try {
      const rows = { volume: await viewRows('volume'), revenue: await viewRows('revenue') }
      tell({ event: 'rows', rows })
    } catch (error) {
      tell({ event: 'rows', rows: { error: [String((error as Error).message)] } })
    }
  }
})
engine.run().catch(error => {
  clearInterval(watch)
  process.stderr.write(`the engine gave up: ${error?.stack ?? error}\n`)
  process.exit(3)
})

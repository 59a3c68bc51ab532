/** What an engine owes to its group, with the group in the test's hand. */
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { type EmbeddedLog, openEmbeddedLog } from '../../log/embedded/index.ts'
import { type MembershipStatus, noTasks, type TaskIds } from '../../log/membership.ts'
import type { CommitRequest, EventLog, TopicPartition } from '../../log/port.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { countTasks } from '../../log/task-ids.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { Engine } from '../../streams/engine.ts'
import type { CrashPoint } from '../../streams/environment.ts'
import { groupTopology } from '../../streams/group-topology.ts'
import { json, Topology, textKey, viewService } from '../../streams/index.ts'
import { environment } from '../log/embedded/environment.ts'
import { HandMembership } from '../support/hand-membership.ts'

function counts(): Topology {
  const topology = new Topology('counts')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupByKey({ name: 'by-key', key: textKey() })
    .count({ name: 'counts' })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

/** The same with an exchange before it. */
function countsByWord(): Topology {
  const topology = new Topology('counts')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .groupBy((_, key) => `by ${key}`, { name: 'by-word', key: textKey() })
    .count({ name: 'counts' })
  return topology
}

/** Two exchanges, one below the other. */
function countsByLetter(): Topology {
  const topology = new Topology('counts')
  topology
    .stream('events', { key: textKey(), value: json<number>() })
    .selectKey((_, key) => `by ${key}`)
    .repartition({ name: 'by-word', key: textKey() })
    .groupBy((_, key) => key.slice(0, 4), { name: 'by-letter', key: textKey() })
    .count({ name: 'counts' })
    .view({
      name: 'counts',
      description: 'Counts',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

/** An engine with tasks in the test's hand, and hooks into its log. */
class Grouped {
  readonly membership: HandMembership
  readonly commits: CommitRequest[] = []
  beforeFetch = () => {}
  reached: (point: CrashPoint) => void = () => {}
  beforeCommit: (request: CommitRequest) => void | Promise<void> = () => {}
  /** When the log is asked how far it goes. */
  beforeOffsets: () => void | Promise<void> = () => {}
  /** While the group is asked for offsets, before it answers. */
  beforeCommitted: () => void | Promise<void> = () => {}
  engine!: Engine
  log!: EmbeddedLog
  readonly #database = new MemoryDatabase()
  readonly #topology: () => Topology

  constructor(active: TaskIds, topology: () => Topology) {
    this.membership = new HandMembership(active)
    this.#topology = topology
  }

  /** On a log of its own, or on that of another. */
  async open(log?: EmbeddedLog): Promise<void> {
    this.log = log ?? (await openEmbeddedLog(new MemoryDatabase(), environment))
    this.engine = await Engine.open({
      topology: this.#topology(),
      log: this.#hooked(),
      database: this.#database,
      environment: {
        ...environment,
        yieldNow: () => Promise.resolve(),
        reached: point => this.reached(point),
      },
      settings: { createPartitions: 2 },
      join: async plan => {
        for (const { id, changelogs, repartitionSources } of groupTopology(plan).subTopologies) {
          const { partitions } = plan.subTopologies.find(({ name }) => name === id)!
          for (const { name } of [...changelogs, ...repartitionSources]) {
            if (log === undefined) await this.log.createTopic(name, partitions)
          }
        }
        return this.membership
      },
    })
  }

  #hooked(): EventLog {
    const log = this.log
    return new Proxy(log, {
      get: (target, name) => {
        if (name === 'fetch') {
          return (...args: Parameters<EventLog['fetch']>) => {
            this.beforeFetch()
            return log.fetch(...args)
          }
        }
        if (name === 'offsets') {
          return async (...args: Parameters<EventLog['offsets']>) => {
            await this.beforeOffsets()
            return log.offsets(...args)
          }
        }
        if (name === 'committed') {
          return async (...args: Parameters<EventLog['committed']>) => {
            await this.beforeCommitted()
            return log.committed(...args)
          }
        }
        if (name === 'begin') return () => this.#transaction()
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  #transaction() {
    const transaction = this.log.begin()
    return {
      append: transaction.append.bind(transaction),
      abort: () => transaction.abort(),
      commit: async (request: CommitRequest = {}) => {
        this.commits.push(request)
        await this.beforeCommit(request)
        const { state, ...rest } = request
        const receipts = await transaction.commit(rest)
        const batch = this.#database.batch()
        state?.(receipts, batch)
        await batch.commit()
        return receipts
      },
    }
  }

  append(partition: number, ...keys: string[]): Promise<void> {
    return this.appendTo({ topic: 'events', partition }, ...keys)
  }

  async appendTo(target: TopicPartition, ...keys: string[]): Promise<void> {
    const builder = new RecordBatchBuilder()
    for (const key of keys) {
      const bytes = Buffer.from(key)
      const value = Buffer.from('1')
      builder.append(1, { bytes, start: 0, end: bytes.length }, { bytes: value, start: 0, end: 1 })
    }
    const transaction = this.log.begin()
    transaction.append(target, builder.finish())
    await transaction.commit()
  }

  /** Turns until all tasks that the group wants are open. */
  async openTasks(): Promise<void> {
    for (let turns = 0; turns < 100 && !this.#isComplete; turns++) {
      await this.engine.step()
      await new Promise(resolve => setImmediate(resolve))
    }
    expect(this.#isComplete).toBe(true)
  }

  get #isComplete(): boolean {
    const { target } = this.membership
    return this.engine.assembly.tasks.length === countTasks(target?.active ?? {})
  }

  get views() {
    const { schedule } = environment
    return viewService({ engine: this.engine, schedule, incarnation: this.log.incarnation })
  }
}

const open: Grouped[] = []
afterEach(async () => {
  for (const { engine } of open.splice(0)) await engine.stop()
})

async function start(active: TaskIds = { events: [0, 1] }, topology = counts): Promise<Grouped> {
  const grouped = new Grouped(active, topology)
  await grouped.open()
  open.push(grouped)
  await grouped.openTasks()
  return grouped
}

test('a commit names the member with the epoch at which it began, and an offset of every input', async () => {
  const grouped = await start()
  await grouped.append(0, 'a')
  grouped.membership.change({ epoch: 7 })
  grouped.reached = () => {
    grouped.membership.epoch = 8
  }
  await grouped.engine.step()
  await grouped.engine.settle()
  const { member, offsets } = grouped.commits.at(-1)!
  expect(member).toEqual({ id: 'by-hand', epoch: 7 })
  expect(offsets).toMatchObject([
    { topic: 'events', partition: 0, offset: 1 },
    { topic: 'events', partition: 1, offset: 0 },
  ])
})

test('no transaction begins while the member settles, and it is told that none is open', async () => {
  const grouped = await start()
  await grouped.append(0, 'a')
  // Between the look at the group and the epoch.
  grouped.beforeFetch = () => grouped.membership.change({ settling: true })
  expect(await grouped.engine.step()).toBe(false)
  expect(grouped.commits).toEqual([])
  grouped.beforeFetch = () => {}
  expect(grouped.membership.settledCalls).toBe(0)
  await grouped.engine.step()
  expect(grouped.membership.settledCalls).toBe(1)
  grouped.membership.change({ settling: false })
  await grouped.engine.step()
  await grouped.engine.settle()
  expect(grouped.commits).toHaveLength(1)
})

test('a task that went while records were fetched is in no transaction that begins after', async () => {
  const grouped = await start()
  await grouped.append(0, 'a')
  await grouped.append(1, 'b')
  grouped.beforeFetch = () => {
    const target = { ...noTasks, active: { events: [1] } }
    grouped.membership.change({ target, epoch: 5 })
  }
  await grouped.engine.step()
  grouped.beforeFetch = () => {}
  await grouped.engine.step()
  await grouped.engine.settle()
  expect(grouped.commits.length).toBeGreaterThan(0)
  for (const { offsets } of grouped.commits) {
    expect(offsets).toMatchObject([{ topic: 'events', partition: 1 }])
  }
})

test('what the last owner commits while its offsets are asked for is in the state (law 3)', async () => {
  const before = await start({ events: [0] })
  const after = new Grouped({ events: [0] }, counts)
  open.push(after)
  await after.open(before.log)
  await before.append(0, 'a', 'a')
  after.beforeCommitted = async () => {
    await before.engine.step()
    await before.engine.settle()
  }
  await after.openTasks()
  after.beforeCommitted = () => {}
  await after.append(0, 'a')
  await after.engine.step()
  await after.engine.settle()
  const { rows } = await after.views.localRows('counts', { key: {}, limit: 10 })
  expect(rows).toMatchObject([{ key: 'a', count: 3 }])
})

test('a session that ran out while the epoch ran: it is not committed', async () => {
  const grouped = await start()
  await grouped.append(0, 'a')
  grouped.reached = point => {
    if (point === 'run') grouped.membership.alive = false
  }
  await expect(grouped.engine.step()).rejects.toThrow(/no longer a live member/)
  expect(grouped.commits).toEqual([])
})

test('a task is given up only when its last epoch is committed and applied', async () => {
  const grouped = await start()
  await grouped.append(0, 'a')
  let committed = () => {}
  const wait = new Promise<void>(resolve => {
    committed = resolve
  })
  let isCommitted = false
  grouped.beforeCommit = async () => {
    await wait
    isCommitted = true
  }
  await grouped.engine.step()
  const before = grouped.membership.owned.length
  grouped.membership.change({ target: { ...noTasks, active: { events: [1] } } })
  const following = grouped.engine.step()
  for (let i = 0; i < 5; i++) await new Promise(resolve => setImmediate(resolve))
  expect(grouped.membership.owned.length).toBe(before)
  committed()
  await following
  expect(isCommitted).toBe(true)
  expect(grouped.membership.owned.at(-1)?.active).toEqual({ events: [1] })
  expect(grouped.engine.assembly.tasks.map(({ name }) => name)).toEqual(['events/1'])
})

test('views answer 503 from the moment the session is over, and once the member is fenced', async () => {
  const grouped = await start()
  const rows = () => grouped.views.rows('counts', { key: {}, limit: 10 })
  expect((await rows()).rows).toEqual([])
  grouped.membership.alive = false
  await expect(rows()).rejects.toMatchObject({ code: 'VIEW_NOT_READY', status: 503 })
  grouped.membership.alive = true
  expect((await rows()).rows).toEqual([])
  grouped.membership.target = undefined
  await expect(rows()).rejects.toMatchObject({ code: 'VIEW_NOT_READY' })
})

test('an instance runs without tasks when there are none for it, not when none are placed', async () => {
  const grouped = await start({})
  const { engine, membership } = grouped
  const be = (state: MembershipStatus['state'], detail: string) => {
    membership.change({ status: { ...membership.status, state, detail } })
    return engine.step()
  }
  await be('waiting', 'Topics are missing.')
  expect([engine.state, engine.detail]).toEqual(['restoring', 'Topics are missing.'])
  await be('idle', 'There is no task.')
  expect(engine.state).toBe('running')
})

const words = { topic: 'counts-by-word-repartition', partition: 0 }

/** Commits an offset of the words as their owner would. */
async function commitWords({ log }: Grouped, offset: number): Promise<void> {
  await log.begin().commit({ group: 'counts', offsets: [{ ...words, offset, metadata: '' }] })
}

test('a repartition topic that its new owner has trimmed makes the old one ask its group', async () => {
  const grouped = await start({ 'by-word': [0] }, countsByWord)
  // It has moved without a word: others write, read on, commit and trim.
  await grouped.appendTo(words, 'a', 'b', 'c')
  await commitWords(grouped, 3)
  await grouped.log.deleteRecords(words, 3)
  const failure = await grouped.engine.step().catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'EXCHANGE_PASSED', recovery: 'rejoin' })
  expect(failure).toMatchObject({ details: { ...words, offset: 0, startOffset: 3 } })
})

test('a repartition topic without what was never processed stops the task', async () => {
  const grouped = await start({ events: [0, 1], 'by-word': [1] }, countsByWord)
  for (const key of ['a', 'b', 'c', 'd']) await grouped.append(0, key)
  await grouped.engine.step()
  await grouped.engine.settle()
  await commitWords(grouped, 1)
  await grouped.log.deleteRecords(words, 2)
  grouped.membership.change({ target: { ...noTasks, active: { 'by-word': [0] } } })
  await expect(grouped.openTasks()).rejects.toMatchObject({ code: 'OFFSET_LOST', recovery: 'stop' })
})

test('what a drain passes on in memory is committed with it', async () => {
  const below = { 'by-word': [0, 1], 'by-letter': [0, 1] }
  const one = await start(below, countsByLetter)
  const other = new Grouped({ events: [0, 1] }, countsByLetter)
  open.push(other)
  await other.open(one.log)
  await other.openTasks()
  // The edges between the exchanges go to memory; then one takes a task that feeds the first.
  for (let i = 0; i < 3; i++) await one.engine.step()
  other.membership.change({ target: { ...noTasks, active: { events: [1] } } })
  await other.engine.step()
  one.membership.change({ target: { ...noTasks, active: { ...below, events: [0] } } })
  let drained = 0
  one.beforeOffsets = async () => {
    // As it asks for the end of the topic, the other writes more into it.
    if (one.engine.assembly.tasks.length < 5) return
    drained++
    await other.append(1, 'a', 'b', 'c', 'd')
    await other.engine.step()
    await other.engine.settle()
  }
  await one.openTasks()
  for (let i = 0; i < 3; i++) await one.engine.step()
  one.beforeOffsets = () => {}
  await one.engine.drain()
  expect(drained).toBeGreaterThan(0)
  const { rows } = await one.views.localRows('counts', { key: {}, limit: 10 })
  expect(rows.map(({ count }) => count)).toEqual([drained, drained, drained, drained])
})

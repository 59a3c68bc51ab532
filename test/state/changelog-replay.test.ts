/** Restoring from a changelog, also one that is not what the store knew (faults 22, 23, 26). */
import { expect, test } from 'vitest'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import type { EventLog } from '../../log/port.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { RowStore } from '../../state/port.ts'
import { openRowStore } from '../../state/row-store.ts'
import { json } from '../../streams/serde.ts'
import { codeOf } from '../conformance/log.ts'

const changelog = { topic: 'changes', partition: 0 }
const dayMs = 86_400_000

async function openWorld() {
  const world = { nowMs: 1_000_000 }
  const environment = {
    clock: () => world.nowMs,
    schedule: () => () => {},
    randomBytes: (size: number) => Buffer.alloc(size, ++serial),
  }
  let serial = 0
  const log = await openEmbeddedLog(new MemoryDatabase(), environment)
  await log.createTopic(changelog.topic, 1, { cleanup: 'compact' })
  const open = (database: MemoryDatabase, from: EventLog = log) =>
    openRowStore<unknown>({
      name: 'counts',
      partition: 0,
      codec: json<unknown>(),
      database,
      log: from,
      changelog,
      clock: environment.clock,
      cacheBytesMax: 1000,
    })
  /** Commits what the store holds, its rows on a disk of its own. */
  const commit = async (store: RowStore<unknown>, database: MemoryDatabase) => {
    const sealed = store.seal(world.nowMs)
    const transaction = log.begin()
    for (const { target, batch } of sealed.appends) transaction.append(target, Buffer.from(batch))
    const receipts = await transaction.commit()
    const batch = database.batch()
    sealed.write(receipts, batch)
    await batch.commit()
    store.applied()
  }
  return { world, log, open, commit }
}

/** The same log, in which the last transaction is committed but not yet marked for two fetches. */
function markedLate(log: EventLog, endOffset: number): EventLog {
  let fetches = 0
  const late: Pick<EventLog, 'describeTopic' | 'offsets' | 'fetch'> = {
    describeTopic: topic => log.describeTopic(topic),
    async offsets(targets) {
      const [range] = await log.offsets(targets)
      return [{ ...range!, endOffset }]
    },
    async fetch(requests, options) {
      const [response] = await log.fetch(requests, { ...options, waitMsMax: 0 })
      if (++fetches > 2) return [response!]
      const { offset: nextOffset } = requests[0]!
      return [{ ...response!, bytes: Buffer.alloc(0), nextOffset, endOffset, pending: true }]
    },
  }
  return late as EventLog
}

async function rows(store: RowStore<unknown>): Promise<string[]> {
  const found: string[] = []
  for await (const chunk of store.scan({})) {
    for (const { key, value } of chunk) found.push(`${key}=${value}`)
  }
  return found
}

test('a transaction that is committed but not yet marked is waited for', async () => {
  const { log, open, commit } = await openWorld()
  const disk = new MemoryDatabase()
  const store = await open(disk)
  await store.restore()
  store.put('a', 1)
  await commit(store, disk)
  const [range] = await log.offsets([changelog])
  store.put('a', 2)
  await commit(store, new MemoryDatabase())
  const next = await open(disk, markedLate(log, range!.endOffset))
  await next.restore()
  expect(await rows(next)).toEqual(['a=2'])
})

test('deleted keys stay deleted when an old copy of the state is put back', async () => {
  const { world, log, open, commit } = await openWorld()
  const disk = new MemoryDatabase()
  const store = await open(disk)
  await store.restore()
  store.put('a', 1)
  store.put('b', 2)
  await commit(store, disk)
  const backup = disk.reopen()
  const later = backup.reopen()
  const copy = later.reopen()
  const current = await open(copy)
  await current.restore()
  current.delete('a')
  current.put('b', 3)
  await commit(current, copy)
  // Compaction drops `a`, and some time after that also the word that it was deleted.
  for (const days of [1, 3, 5]) {
    world.nowMs += days * dayMs
    for (let i = 0; i < 60; i++) {
      current.put('padding', 'x'.repeat(50_000))
      await commit(current, copy)
    }
    await log.maintain(world.nowMs)
  }
  const old = await open(backup.reopen())
  await old.restore()
  expect((await rows(old)).filter(row => !row.startsWith('padding'))).toEqual(['b=3'])
})

test('a changelog created anew is refused, not taken for an empty one', async () => {
  const { log, open, commit } = await openWorld()
  const disk = new MemoryDatabase()
  const store = await open(disk)
  await store.restore()
  store.put('a', 1)
  await commit(store, disk)
  await log.deleteTopic(changelog.topic)
  await log.createTopic(changelog.topic, 1, { cleanup: 'compact' })
  const again = await open(disk)
  expect(await codeOf(() => again.restore())).toBe('CHANGELOG_RECREATED')
  expect(await rows(again)).toEqual(['a=1'])
})

test('a changelog that somebody has truncated is refused', async () => {
  const { log, open, commit } = await openWorld()
  const disk = new MemoryDatabase()
  const store = await open(disk)
  await store.restore()
  for (const value of [1, 2, 3]) {
    store.put(`k${value}`, value)
    await commit(store, disk)
  }
  await log.deleteRecords(changelog, 2)
  const behind = await open(new MemoryDatabase())
  expect(await codeOf(() => behind.restore())).toBe('CHANGELOG_TRUNCATED')
  const upToDate = await open(disk)
  await upToDate.restore()
  expect(await rows(upToDate)).toEqual(['k1=1', 'k2=2', 'k3=3'])
})

test('a changelog that is gone says so', async () => {
  const { log, open } = await openWorld()
  await log.deleteTopic(changelog.topic)
  const store = await open(new MemoryDatabase())
  expect(await codeOf(() => store.restore())).toBe('CHANGELOG_MISSING')
})

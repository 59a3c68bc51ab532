/** A copy of an append store that follows its changelog while another store writes and expires. */
import { expect, test } from 'vitest'
import { openAppendStore } from '../../state/append-store.ts'
import { hashedKey } from '../../state/key-column.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { AppendStore, Probe } from '../../state/port.ts'
import { CHANGELOG, openWorld, type World } from './worlds.ts'

const SEGMENT_MS = 100
const MEMORY_BYTES = 20_000

const range = (text: string) => ({ bytes: Buffer.from(text), start: 0, end: text.length })

function add(store: AppendStore, key: string, timeMs: number): void {
  const value = range(`${key}@${timeMs} `.padEnd(200, '.'))
  store.append({ key: hashedKey(key), value, timeMs, streamTimeMs: timeMs })
}

async function epoch(world: World, store: AppendStore): Promise<void> {
  await world.commit(store.seal(0))
  store.applied()
}

/** The changelog is trimmed beside the epochs. */
async function restored(copy: AppendStore): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise(resolve => setImmediate(resolve))
  await copy.restore()
}

async function times(store: AppendStore, key: string): Promise<number[]> {
  const probe: Probe = { key: hashedKey(key), fromMs: 0, toMs: 1e9 }
  store.want(probe)
  await store.load()
  const found: number[] = []
  store.lookup(probe, ({ timeMs }) => found.push(timeMs))
  return found
}

async function entries(database: MemoryDatabase): Promise<number> {
  let count = 0
  const all = { gte: Buffer.from([0]), lt: Buffer.from([255]) }
  for await (const chunk of database.scan(all)) count += chunk.length
  return count
}

async function openBoth() {
  const world = await openWorld({ log: 'log without block reads', database: 'memory' })
  const open = (database: World['database']) =>
    openAppendStore({
      name: 'store',
      partition: 0,
      database,
      log: world.log,
      changelog: CHANGELOG,
      segmentMs: SEGMENT_MS,
      memoryBytesMax: MEMORY_BYTES,
    })
  const disk = new MemoryDatabase()
  return { world, disk, open, active: await open(world.database), copy: await open(disk) }
}

test('what the active store has expired leaves its copies, from disk and memory', async () => {
  const { world, disk, open, active, copy } = await openBoth()
  let most = 0
  let bytes = 0
  for (let segment = 0; segment < 60; segment++) {
    for (let i = 0; i < 40; i++) add(active, `k${i % 7}`, segment * SEGMENT_MS + i)
    await epoch(world, active)
    active.expire((segment - 2) * SEGMENT_MS)
    await epoch(world, active)
    await restored(copy)
    most = Math.max(most, await entries(disk))
    bytes = Math.max(bytes, copy.metrics.cachedBytes)
  }
  expect(copy.rows).toBeLessThanOrEqual(active.rows + 40)
  expect(most).toBeLessThan(30)
  expect(bytes).toBeLessThan(2 * MEMORY_BYTES)
  expect(await times(copy, 'k3')).toEqual(await times(active, 'k3'))
  // A promoted copy begins with the rows on its disk, and has the same.
  const promoted = await open(disk)
  await promoted.restore()
  expect(await times(promoted, 'k3')).toEqual(await times(active, 'k3'))
  await world.dispose()
})

test('a segment that got rows late is gone with the older ones between which it lies', async () => {
  const { world, disk, active, copy, open } = await openBoth()
  // The block of 1 comes last: it is still in the log when 0, 1 and 2 have expired.
  for (const segment of [0, 2, 3, 1]) {
    add(active, 'a', segment * SEGMENT_MS)
    await epoch(world, active)
    await copy.restore()
  }
  active.expire(3 * SEGMENT_MS)
  await epoch(world, active)
  await restored(copy)
  expect(await times(copy, 'a')).toEqual([300])
  expect(await times(await open(disk), 'a')).toEqual([300])
  await world.dispose()
})

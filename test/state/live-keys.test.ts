import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LIVE_KEYS_MAX, LiveKeys } from '../../state/live-keys.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { openRowStore } from '../../state/row-store.ts'

const key = fc.integer({ min: 0, max: 2000 }).map(number => `k${String(number).padStart(4, '0')}`)

test('keys above the bound are as in a sorted set, however many they are', () => {
  const step = fc.record({
    add: fc.array(key, { maxLength: 300 }),
    remove: fc.array(key, { maxLength: 200 }),
    gte: key,
    lt: fc.option(key, { nil: undefined }),
    limit: fc.option(fc.nat(50), { nil: undefined }),
  })
  fc.assert(
    fc.property(key, fc.array(step, { maxLength: 12 }), (bound, steps) => {
      const keys = new LiveKeys(bound)
      const set = new Set<string>()
      for (const { add, remove, gte, lt, limit } of steps) {
        for (const one of add) {
          keys.add(one)
          set.add(one)
        }
        for (const one of remove) {
          keys.delete(one)
          set.delete(one)
        }
        expect(keys.covers(gte)).toBe(gte > bound)
        if (!keys.covers(gte)) continue
        const inside = [...set].filter(one => one >= gte && (lt === undefined || one < lt))
        expect(keys.range({ gte, lt, limit })).toEqual(inside.sort().slice(0, limit))
      }
    }),
  )
})

test('more keys than are worth their memory are refused, those that are there are not', () => {
  const keys = new LiveKeys('')
  const all = Array.from({ length: LIVE_KEYS_MAX }, (_, i) => `k${i}`)
  for (const one of [...all, ...all]) expect(keys.add(one)).toBe(true)
  expect(keys.add('another')).toBe(false)
  keys.delete(all[7]!)
  expect(keys.add('another')).toBe(true)
  for (const one of [...all, 'another']) keys.delete(one)
  expect(keys.range({ gte: 'a' })).toEqual([])
})

/** A store, how often it has scanned the database, and a commit of what was put. */
async function countedStore() {
  const database = new MemoryDatabase()
  const counts = { scans: 0 }
  const counted = Object.create(database, {
    scan: {
      value: (...range: Parameters<MemoryDatabase['scan']>) => {
        counts.scans++
        return database.scan(...range)
      },
    },
  }) as MemoryDatabase
  const codec = {
    encode: Buffer.from,
    decode: (bytes: Uint8Array) => Buffer.from(bytes).toString(),
  }
  const options = { name: 'windows', partition: 0, codec, cacheBytesMax: 0 }
  const store = await openRowStore<string>({ ...options, database: counted })
  const commit = async () => {
    const batch = database.batch()
    store.seal(0).write([], batch)
    await batch.commit()
    store.applied()
  }
  return { store, counts, commit }
}

test('a store whose rows stay for long forgets the keys that were put since', async () => {
  const { store, counts, commit } = await countedStore()
  const row = (i: number) => `r${String(i).padStart(6, '0')}`
  expect(await store.deleteRange('', 'a')).toBe(0)
  for (let i = 0; i <= LIVE_KEYS_MAX; i++) store.put(row(i), '')
  for (let i = 0; i < 100; i++) store.delete(row(i))
  await commit()
  const before = counts.scans
  expect(await store.deleteRange('', row(200))).toBe(100)
  expect(counts.scans).toBeGreaterThan(before)
  // From here on it follows those that come.
  store.put(row(LIVE_KEYS_MAX + 1), '')
  expect(await store.deleteRange('', row(LIVE_KEYS_MAX + 2))).toBe(LIVE_KEYS_MAX + 2 - 200)
  store.put(row(LIVE_KEYS_MAX + 3), '')
  const then = counts.scans
  expect(await store.deleteRange('', row(LIVE_KEYS_MAX + 4))).toBe(1)
  expect(counts.scans).toBe(then)
})

test('once time has passed the rows that were there, expiry asks nothing of the database', async () => {
  const { store, counts, commit } = await countedStore()
  const row = (time: number, of = '') => `${String(time).padStart(4, '0')}${of}`
  const expired: number[] = []
  const scanned: number[] = []
  for (let time = 0; time < 30; time++) {
    store.put(row(time, 'a'), 'a')
    store.put(row(time, 'b'), 'b')
    const before = counts.scans
    expired.push(await store.deleteRange('', row(time - 3)))
    scanned.push(counts.scans - before)
    await commit()
  }
  expect(expired.slice(0, 5)).toEqual([0, 0, 0, 0, 2])
  expect(expired.slice(4)).toEqual(Array(26).fill(2))
  expect(scanned.slice(8)).toEqual(Array(22).fill(0))
  const left: string[] = []
  for await (const rows of store.scan({})) left.push(...rows.map(({ key }) => key))
  expect(left).toEqual([26, 27, 28, 29].flatMap(time => [row(time, 'a'), row(time, 'b')]))
})

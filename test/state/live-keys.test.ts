import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LiveKeys } from '../../state/live-keys.ts'
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

test('more keys than are worth their memory are told of, and once they are gone no more', () => {
  const keys = new LiveKeys('')
  const all = Array.from({ length: 65_537 }, (_, i) => `k${i}`)
  for (const one of all) {
    expect(keys.isFull).toBe(false)
    keys.add(one)
    keys.add(one)
  }
  expect(keys.isFull).toBe(true)
  keys.delete(all[7]!)
  expect(keys.isFull).toBe(false)
  for (const one of all) keys.delete(one)
  expect(keys.range({ gte: 'k' })).toEqual([])
})

test('once time has passed the rows that were there, expiry asks nothing of the database', async () => {
  const database = new MemoryDatabase()
  let scans = 0
  const counted = Object.create(database, {
    scan: {
      value: (...range: Parameters<MemoryDatabase['scan']>) => {
        scans++
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
  const row = (time: number, of = '') => `${String(time).padStart(4, '0')}${of}`
  const expired: number[] = []
  const scanned: number[] = []
  for (let time = 0; time < 30; time++) {
    store.put(row(time, 'a'), 'a')
    store.put(row(time, 'b'), 'b')
    const before = scans
    expired.push(await store.deleteRange('', row(time - 3)))
    scanned.push(scans - before)
    const batch = database.batch()
    store.seal(0).write([], batch)
    await batch.commit()
    store.applied()
  }
  expect(expired.slice(0, 5)).toEqual([0, 0, 0, 0, 2])
  expect(expired.slice(4)).toEqual(Array(26).fill(2))
  expect(scanned.slice(8)).toEqual(Array(22).fill(0))
  const left: string[] = []
  for await (const rows of store.scan({})) left.push(...rows.map(({ key }) => key))
  expect(left).toEqual([26, 27, 28, 29].flatMap(time => [row(time, 'a'), row(time, 'b')]))
})

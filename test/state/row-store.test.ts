import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ScanRange } from '../../log/database.ts'
import type { EventLog } from '../../log/port.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { committedRows } from '../../state/committed-rows.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { Codec, RowRange, RowStore } from '../../state/port.ts'
import { openRowStore, type RowStoreOptions } from '../../state/row-store.ts'
import { CHANGELOG, type DatabaseKind, type LogKind, openWorld, type World } from './worlds.ts'

const text: Codec<string> = {
  encode: value => Buffer.from(value),
  decode: bytes => bytes.utf8Slice(),
}

const open = (world: World, options: Partial<RowStoreOptions<string>> = {}) =>
  openRowStore<string>({
    name: 'store',
    partition: 0,
    codec: text,
    database: world.database,
    log: world.log,
    changelog: world.log && CHANGELOG,
    cacheBytesMax: 1 << 20,
    ...options,
  })

async function rendered(store: RowStore<string>, range: RowRange = {}): Promise<string> {
  const out: string[] = []
  for await (const rows of store.scan(range)) {
    for (const { key, value } of rows) out.push(`${key}=${value}`)
  }
  return out.join(' ')
}

async function epoch(world: World, store: RowStore<string>): Promise<void> {
  await world.commit(store.seal(0))
  store.applied()
}

/** Every change of each key in the changelog, newest first, as `k[ v2, DEL, v1 ]`. */
async function histories(log: EventLog): Promise<string> {
  const entries = new Map<string, string[]>()
  const [range] = await log.offsets([CHANGELOG])
  for (let offset = range!.startOffset; offset < range!.endOffset; ) {
    const [response] = await log.fetch([{ ...CHANGELOG, offset, bytesMax: 1 << 20 }])
    const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
    for (const { length, bytes, keyStart, keyEnd, valueStart, valueEnd } of runs) {
      for (let i = 0; i < length; i++) {
        const key = bytes.latin1Slice(keyStart[i], keyEnd[i])
        const value = valueStart[i]! < 0 ? 'DEL' : bytes.utf8Slice(valueStart[i], valueEnd[i])
        entries.set(key, [value, ...(entries.get(key) ?? [])])
      }
    }
    offset = nextOffset
  }
  return [...entries]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, values]) => `${key}[ ${values.join(', ')} ]`)
    .join(' ')
}

describe('row store', () => {
  it('shows its own uncommitted rows, and the database only committed ones', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    const committed = committedRows({
      ...store,
      name: 'store',
      partition: 0,
      codec: text,
      reader: world.database,
    })
    const render = async () => {
      const out: string[] = []
      for await (const rows of committed.scan({})) out.push(...rows.map(r => `${r.key}=${r.value}`))
      return out.join(' ')
    }
    store.put('a', '1')
    store.put('b', '1')
    expect(store.get('a')).toBe('1')
    const sealed = store.seal(0)
    store.put('a', '2')
    store.delete('b')
    expect([store.get('a'), store.get('b')]).toEqual(['2', undefined])
    expect(await rendered(store)).toBe('a=2')
    expect(await render()).toBe('')
    await world.commit(sealed)
    store.applied()
    expect(await render()).toBe('a=1 b=1')
    expect(await rendered(store)).toBe('a=2')
    await epoch(world, store)
    expect(await render()).toBe('a=2')
    expect(await committed.getMany(['b', 'a', 'x'])).toEqual([undefined, '2', undefined])
    await world.dispose()
  })

  it('writes to the changelog the last state of each key in an epoch', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.put('a', 'v1')
    store.put('a', 'v2')
    store.put('b', 'v1')
    await epoch(world, store)
    store.delete('a')
    await epoch(world, store)
    store.put('a', 'v3')
    await epoch(world, store)
    await epoch(world, store)
    expect(await histories(world.log!)).toBe('a[ v3, DEL, v2 ] b[ v1 ]')
    await world.dispose()
  })

  it('a key is read once and remembered, also when it is absent', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    store.put('a', '1')
    await epoch(world, store)
    expect(store.prefetch(['a']), 'what was written is in memory').toBe(undefined)
    world = await world.restart()
    store = await open(world)
    expect(() => store.get('a')).toThrow('prefetched')
    await store.prefetch(['a', 'b', 'c', 'a'])
    expect([store.get('a'), store.get('b'), store.get('c')]).toEqual(['1', undefined, undefined])
    expect(store.prefetch(['c', 'b', 'a'])).toBe(undefined)
    expect(store.metrics).toMatchObject({ reads: 1, keysRead: 1, cachedRows: 3 })
    await world.dispose()
  })

  it('reads no key that cannot have a row', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    await store.prefetch(['a', 'm'])
    expect(store.metrics).toMatchObject({ reads: 0, keysRead: 0 })
    expect([store.get('a'), store.get('m')]).toEqual([undefined, undefined])
    store.put('m', '1')
    await epoch(world, store)
    await store.prefetch(['b', 'm', 'z'])
    expect([store.get('b'), store.get('m'), store.get('z')]).toEqual([undefined, '1', undefined])
    expect(store.metrics).toMatchObject({ reads: 0, keysRead: 0, cachedRows: 4 })
    world = await world.restart()
    store = await open(world)
    // Below the highest key that was there it is not known.
    await store.prefetch(['b', 'z'])
    expect(store.metrics).toMatchObject({ reads: 1, keysRead: 1 })
    await world.dispose()
  })

  it('remembers that a row is gone where it was read, and not where it was only written', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const store = await open(world)
    for (const key of ['read', 'written']) store.put(key, '1')
    await epoch(world, store)
    await store.prefetch(['read'])
    expect(store.get('read')).toBe('1')
    for (const key of ['read', 'written']) store.delete(key)
    await epoch(world, store)
    expect(store.metrics.cachedRows).toBe(1)
    await store.prefetch(['read', 'written'])
    expect([store.get('read'), store.get('written')]).toEqual([undefined, undefined])
    expect(store.metrics).toMatchObject({ reads: 1, keysRead: 1 })
    await world.dispose()
  })

  it('finds rows that a restore has written', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const [store, other] = [await open(world), await open(world)]
    await store.prefetch(['x'])
    expect(store.get('x')).toBe(undefined)
    other.put('x', 'from elsewhere')
    await epoch(world, other)
    await store.restore()
    await store.prefetch(['x', 'y'])
    expect([store.get('x'), store.get('y')]).toEqual(['from elsewhere', undefined])
    await world.dispose()
  })

  it('keeps its cache within the budget, and what is used stays longer', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const store = await open(world, { cacheBytesMax: 2000 })
    for (let i = 0; i < 100; i++) store.put(`k${i}`, `${i}`)
    await epoch(world, store)
    for (let round = 0; round < 5; round++) {
      await store.prefetch(['k7'])
      expect(store.get('k7')).toBe('7')
      await epoch(world, store)
      await store.prefetch([`k${round + 20}`])
    }
    expect(store.metrics.cachedBytes).toBeLessThanOrEqual(2200)
    const { reads } = store.metrics
    expect(store.prefetch(['k7'])).toBe(undefined)
    await store.prefetch(['k55'])
    expect([store.get('k55'), store.metrics.reads]).toEqual(['55', reads + 1])
    await world.dispose()
  })

  it('deletes a range in the database, the sealed epoch and this one', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    for (const key of ['a', 'b1', 'b2']) store.put(key, 'old')
    await epoch(world, store)
    store.put('b3', 'sealed')
    const sealed = store.seal(0)
    store.put('b4', 'dirty')
    expect(await store.deleteRange('b', 'c')).toBe(4)
    store.put('b2', 'new')
    expect(await rendered(store)).toBe('a=old b2=new')
    expect([store.get('b1'), store.get('b3'), store.get('b4')]).toEqual(Array(3).fill(undefined))
    await world.commit(sealed)
    store.applied()
    expect(await rendered(store)).toBe('a=old b2=new')
    await epoch(world, store)
    expect(await rendered(store)).toBe('a=old b2=new')
    expect(await histories(world.log!)).toBe(
      'a[ old ] b1[ DEL, old ] b2[ new, old ] b3[ DEL, sealed ] b4[ DEL ]',
    )
    await world.dispose()
  })

  it('does not take an older row from a read that a commit overtook', async () => {
    let world = await openWorld({ log: 'no log', database: 'memory' })
    let store = await open(world)
    store.put('a', 'old')
    await epoch(world, store)
    world = await world.restart()
    let answer = () => {}
    const answered = new Promise<void>(resolve => (answer = resolve))
    const slow = Object.create(world.database, {
      getMany: {
        value: async (keys: Uint8Array[]) => {
          const values = await world.database.getMany(keys)
          await answered
          return values
        },
      },
      scan: { value: (range: ScanRange) => world.database.scan(range) },
    })
    store = await open(world, { database: slow })
    const reading = store.prefetch(['a'])
    store.put('a', 'new')
    await epoch(world, store)
    answer()
    await reading
    expect(store.get('a')).toBe('new')
    await world.dispose()
  })

  it('names the changed rows of a sealed epoch', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const store = await open(world)
    store.put('a', '1')
    store.delete('b')
    const sealed = store.seal(0)
    store.put('c', '1')
    expect([...store.sealedChanges()]).toEqual([
      { key: 'a', value: '1' },
      { key: 'b', value: undefined },
    ])
    await world.commit(sealed)
    store.applied()
    expect([...store.sealedChanges()]).toEqual([])
    await world.dispose()
  })

  it('starts anew when its rows are of a log that is gone', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const other = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.put('a', '1')
    await epoch(world, store)
    const moved = await open(world, { log: other.log })
    await moved.restore()
    expect(await rendered(moved)).toBe('')
    await world.dispose()
    await other.dispose()
  })

  it('goes on with a restore that was stopped, and shows how far it is', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    const big = 'v'.repeat(100_000)
    for (let i = 0; i < 120; i++) {
      store.put(`k${i % 40}`, `${i}${big}`)
      if (i % 10 === 9) await epoch(world, store)
    }
    const database = new MemoryDatabase()
    const replica = await open(world, { database })
    const progress: [number, number][] = []
    const stop = replica.restore(({ position, end }) => {
      progress.push([position, end])
      if (progress.length === 1) throw new Error('stopped')
    })
    await expect(stop).rejects.toThrow('stopped')
    const again = await open(world, { database })
    await again.restore(({ position, end }) => progress.push([position, end]))
    expect(progress.length).toBeGreaterThan(2)
    expect(progress.at(-1)).toEqual([120, 120])
    expect(progress.map(([p]) => p)).toEqual([...new Set(progress.map(([p]) => p))])
    expect(await rendered(again)).toBe(await rendered(store))
    await again.restore(() => {
      throw new Error('there is nothing left to restore')
    })
    expect(database.openHandles).toBe(0)
    await world.dispose()
  })

  it('takes its turn to read the log, ends it, and can be called off while it waits', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.put('a', '1')
    await epoch(world, store)
    const turns: string[] = []
    const turn = async () => {
      turns.push('begun')
      return () => turns.push('ended')
    }
    const replica = await open(world, { database: new MemoryDatabase() })
    await replica.restore(undefined, { turn })
    expect(turns).toEqual(['begun', 'ended'])
    await replica.restore(undefined, { turn })
    expect(turns, 'nothing to read needs no turn').toHaveLength(2)
    const other = await open(world, { database: new MemoryDatabase() })
    const signal = AbortSignal.abort(new Error('given up'))
    await expect(other.restore(undefined, { turn, signal })).rejects.toThrow('given up')
    expect(turns).toEqual(['begun', 'ended', 'begun', 'ended'])
    await world.dispose()
  })
})

const key = fc.constantFrom('', 'a', 'ab', 'b', '\x00', '\xff', 'b\xff')
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant('put' as const), key, size: fc.nat(40) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('delete' as const), key }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('deleteRange' as const),
      key,
      lt: key,
      rowsMax: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
    }),
  },
  // As rows of windows: above all others, and gone when time has passed them.
  { weight: 4, arbitrary: fc.record({ op: fc.constant('later' as const), ahead: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('expire' as const), ago: fc.nat(4) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('get' as const),
      keys: fc.array(key, { maxLength: 8 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('scan' as const),
      gte: fc.option(key, { nil: undefined }),
      lt: fc.option(key, { nil: undefined }),
      reverse: fc.boolean(),
      limit: fc.option(fc.nat(4), { nil: undefined }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('commit' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('seal' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('reset' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('crash' as const),
      at: fc.constantFrom('running', 'sealed', 'committed'),
    }),
  },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never
type Model = Map<string, string>

const at = (time: number) => `t${String(time).padStart(4, '0')}`

function renderModel(model: Model, { gte, lt, reverse, limit }: RowRange = {}): string {
  const inside = [...model].filter(
    ([k]) => (gte === undefined || k >= gte) && (lt === undefined || k < lt),
  )
  inside.sort(([a], [b]) => (a < b ? -1 : 1))
  if (reverse) inside.reverse()
  return inside
    .slice(0, limit)
    .map(([k, v]) => `${k}=${v}`)
    .join(' ')
}

/** The store and a plain map, side by side. */
class SideBySide {
  world: World
  store!: RowStore<string>
  readonly cacheBytesMax: number
  model: Model = new Map()
  committed: Model = new Map()
  sealed: { epoch: ReturnType<RowStore<string>['seal']>; model: Model } | null = null
  values = 0
  time = 0

  constructor(world: World, cacheBytesMax: number) {
    this.world = world
    this.cacheBytesMax = cacheBytesMax
  }

  async open(): Promise<void> {
    this.store = await open(this.world, { cacheBytesMax: this.cacheBytesMax })
    await this.store.restore()
    this.forget()
  }

  forget(): void {
    this.model = new Map(this.committed)
    this.sealed = null
  }

  seal(): void {
    this.sealed ??= { epoch: this.store.seal(0), model: new Map(this.model) }
  }

  async commit(): Promise<void> {
    this.seal()
    await this.world.commit(this.sealed!.epoch)
    this.committed = this.sealed!.model
    this.sealed = null
  }

  async run(s: Step): Promise<void> {
    const { store, model } = this
    if (s.op === 'put') {
      const value = `${this.values++}`.padEnd(s.size, '.')
      store.put(s.key, value)
      model.set(s.key, value)
    } else if (s.op === 'delete') {
      store.delete(s.key)
      model.delete(s.key)
    } else if (s.op === 'later') {
      const value = `${this.values++}`
      const row = at(this.time++ + s.ahead)
      store.put(row, value)
      model.set(row, value)
    } else if (s.op === 'expire') await this.deleteRange('', at(this.time - s.ago))
    else if (s.op === 'deleteRange') {
      await this.deleteRange(s.key, s.lt, s.rowsMax)
    } else if (s.op === 'get') {
      await store.prefetch(s.keys)
      expect(s.keys.map(k => store.get(k))).toEqual(s.keys.map(k => model.get(k)))
    } else if (s.op === 'scan') {
      expect(await rendered(store, s)).toBe(renderModel(model, s))
    } else if (s.op === 'seal') this.seal()
    else if (s.op === 'commit') {
      await this.commit()
      store.applied()
    } else if (s.op === 'reset') {
      store.reset()
      this.forget()
    } else await this.crash(s.at)
    for (const range of [{ limit: 1 }, { limit: 2, reverse: true }]) {
      expect(await rendered(this.store, range)).toBe(renderModel(this.model, range))
    }
  }

  async deleteRange(gte: string, lt: string, rowsMax?: number): Promise<void> {
    const inside = [...this.model.keys()].filter(k => k >= gte && k < lt)
    const gone = inside.sort((a, b) => (a < b ? -1 : 1)).slice(0, rowsMax)
    expect(await this.store.deleteRange(gte, lt, rowsMax)).toBe(gone.length)
    for (const k of gone) this.model.delete(k)
  }

  async crash(at: string): Promise<void> {
    if (at === 'sealed') this.seal()
    if (at === 'committed') await this.commit()
    this.world = await this.world.restart()
    await this.open()
  }

  /** The folded changelog is the committed rows, and so is a store restored from it alone. */
  async checkChangelog(): Promise<void> {
    if (this.world.log === undefined) return
    const database = new MemoryDatabase()
    const replica = await open(this.world, { database })
    await replica.restore()
    await replica.restore()
    expect(await rendered(replica)).toBe(renderModel(this.committed))
    expect(database.openHandles).toBe(0)
  }
}

describe.each<[DatabaseKind, LogKind, number]>([
  ['memory', 'no log', 60],
  ['memory', 'embedded log', 150],
  ['RocksDB', 'embedded log', 25],
])('row store on %s with %s', (database, log, numRuns) => {
  it('does as a map does, evicted, crashed and reset at every point', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
        fc.constantFrom(0, 400, 1e9),
        async (steps, cacheBytesMax) => {
          const both = new SideBySide(
            await openWorld({ log, database, compacted: true }),
            cacheBytesMax,
          )
          await both.open()
          for (const s of steps) await both.run(s)
          expect(await rendered(both.store)).toBe(renderModel(both.model))
          await both.commit()
          both.store.applied()
          await both.checkChangelog()
          await both.crash('running')
          expect(await rendered(both.store)).toBe(renderModel(both.committed))
          await both.world.dispose()
        },
      ),
      { seed: 20_261_121, numRuns },
    )
  })
})

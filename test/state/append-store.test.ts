import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { hashKey } from '../../state/append-format.ts'
import { type AppendStoreOptions, openAppendStore } from '../../state/append-store.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'
import type { AppendRow, AppendStore, Probe } from '../../state/port.ts'
import { CHANGELOG, type DatabaseKind, type LogKind, openWorld, type World } from './worlds.ts'

const SEGMENT_MS = 100

interface ModelRow {
  readonly key: string
  readonly value: string
  readonly timeMs: number
  readonly streamTimeMs: number
}

const range = (text: string) => {
  // Never at the start of its buffer, so that a store that forgets `start` is seen.
  const bytes = Buffer.from(`##${text}##`, 'latin1')
  const end = bytes.length - 2
  return { bytes, start: 2, end, hash: hashKey(bytes, 2, end) }
}

function appendRow({ key, value, timeMs, streamTimeMs }: ModelRow): AppendRow {
  return { key: range(key), value: range(value), timeMs, streamTimeMs }
}

const row = (key: string, timeMs: number, value = `${key}${timeMs}`): ModelRow => ({
  key,
  value,
  timeMs,
  streamTimeMs: timeMs,
})

async function found(store: AppendStore, key: string, fromMs = 0, toMs = 1e6): Promise<string> {
  const probe: Probe = { key: range(key), fromMs, toMs }
  store.want(probe)
  await store.load()
  const out: string[] = []
  store.lookup(probe, ({ bytes, valueStart, valueEnd, timeMs, streamTimeMs }) => {
    out.push(`${bytes.latin1Slice(valueStart, valueEnd)}@${timeMs}/${streamTimeMs}`)
  })
  if (out.length > 0) expect(screened(store, [key], fromMs, toMs)).toEqual([1])
  return out.join(' ')
}

function screened(store: AppendStore, keys: string[], fromMs = 0, toMs = 1e6): number[] {
  const hashes = Int32Array.from(keys, key => range(key).hash)
  const hits = new Uint8Array(keys.length)
  store.screen({ hashes, hits, first: 0, end: keys.length, fromMs, toMs })
  return [...hits]
}

function expected(rows: readonly ModelRow[], key: string, fromMs: number, toMs: number): string {
  const segment = (timeMs: number) => Math.floor(timeMs / SEGMENT_MS)
  return rows
    .filter(r => r.key === key && r.timeMs >= fromMs && r.timeMs <= toMs)
    .map((r, i) => ({ r, i }))
    .sort((a, b) => segment(a.r.timeMs) - segment(b.r.timeMs) || a.i - b.i)
    .map(({ r }) => `${r.value}@${r.timeMs}/${r.streamTimeMs}`)
    .join(' ')
}

const open = (world: World, options: Partial<AppendStoreOptions> = {}) =>
  openAppendStore({
    name: 'store',
    partition: 0,
    database: world.database,
    log: world.log,
    changelog: world.log && CHANGELOG,
    segmentMs: SEGMENT_MS,
    memoryBytesMax: 1 << 20,
    ...options,
  })

async function epoch(world: World, store: AppendStore): Promise<void> {
  await world.commit(store.seal(0))
  store.applied()
}

describe('append store', () => {
  it('finds the rows of a key in its time range, uncommitted ones too', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.append(appendRow(row('a', 10)))
    store.append(appendRow(row('b', 11)))
    await epoch(world, store)
    store.append(appendRow(row('a', 99)))
    store.append(appendRow(row('a', 100)))
    store.append(appendRow(row('a', 20, '')))
    expect(await found(store, 'a')).toBe('a10@10/10 a99@99/99 @20/20 a100@100/100')
    expect(await found(store, 'a', 20, 99)).toBe('a99@99/99 @20/20')
    expect(await found(store, 'b')).toBe('b11@11/11')
    expect(await found(store, '')).toBe('')
    expect(store.rows).toBe(5)
    expect(store.metrics.overlayRows).toBe(3)
    await world.dispose()
  })

  it('screens out keys that no row in the time range has', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    for (let i = 0; i < 300; i++) store.append(appendRow(row(`k${i}`, i)))
    const keys = ['k5', 'nobody', 'k299', 'k150', 'no one']
    expect(screened(store, keys)).toEqual([1, 0, 1, 1, 0])
    expect(screened(store, keys, 100, 199)).toEqual([0, 0, 0, 1, 0])
    expect(screened(store, keys, 1000)).toEqual([0, 0, 0, 0, 0])
    await world.dispose()
  })

  it('keeps the stream time of a row that was out of order, over a restart too', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    store.append(appendRow({ ...row('a', 10), streamTimeMs: 5_000_000_000 }))
    store.append(appendRow({ ...row('a', 11), streamTimeMs: 12 }))
    await epoch(world, store)
    expect(await found(store, 'a')).toBe('a10@10/5000000000 a11@11/12')
    world = await world.restart()
    store = await open(world)
    await store.restore()
    expect(await found(store, 'a')).toBe('a10@10/5000000000 a11@11/12')
    await world.dispose()
  })

  it('reads indexes and blocks only when they are asked for', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    for (let time = 0; time < 1000; time += 5) store.append(appendRow(row('a', time)))
    await epoch(world, store)
    world = await world.restart()
    store = await open(world)
    await store.restore()
    expect(store.metrics).toMatchObject({ cachedRows: 0, reads: 0 })
    expect(store.rows).toBe(200)
    const probe = { key: range('a'), fromMs: 150, toMs: 160 }
    expect(() => store.lookup(probe, () => {})).toThrow('wanted and loaded')
    expect(await found(store, 'a', 150, 160)).toBe('a150@150/150 a155@155/155 a160@160/160')
    expect(store.metrics).toMatchObject({ cachedRows: 20, reads: 2, keysRead: 2 })
    store.want({ key: range('nobody'), fromMs: 100, toMs: 199 })
    expect(store.load(), 'a miss in an index that is there needs no read').toBe(undefined)
    await world.dispose()
  })

  it('stores the bytes of a block once where the log gives them back', async () => {
    const bytesOf = async (log: LogKind) => {
      const world = await openWorld({ log, database: 'memory' })
      const store = await open(world)
      store.append(appendRow(row('a', 10, 'v'.repeat(10_000))))
      await epoch(world, store)
      let bytes = 0
      const all = { gte: Buffer.of(0), lt: Buffer.of(255) }
      for await (const entries of world.database.scan(all)) {
        for (const { value } of entries) bytes += value.length
      }
      await world.dispose()
      return bytes
    }
    expect(await bytesOf('no log')).toBeLessThan(11_000)
    expect(await bytesOf('embedded log')).toBeLessThan(11_000)
    expect(await bytesOf('log without block reads')).toBeGreaterThan(20_000)
  })

  it('expires whole segments, and trims the changelog below the oldest live block', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    for (const time of [10, 110, 210]) store.append(appendRow(row('a', time)))
    await epoch(world, store)
    expect(store.expire(199), 'the segment [100, 200) may still hold 199').toBe(1)
    expect(await found(store, 'a')).toBe('a110@110/110 a210@210/210')
    expect((await world.log!.offsets([CHANGELOG]))[0]!.startOffset).toBe(0)
    await epoch(world, store)
    const trimmedTo = (startOffset: number) =>
      vi.waitFor(async () =>
        expect((await world.log!.offsets([CHANGELOG]))[0]).toMatchObject({
          startOffset,
          endOffset: 3,
        }),
      )
    await trimmedTo(1)
    expect(store.expire(Number.NEGATIVE_INFINITY)).toBe(0)
    expect(store.expire(1000)).toBe(2)
    await epoch(world, store)
    await trimmedTo(3)
    expect(store.rows).toBe(0)
    const left: string[] = []
    for await (const rows of world.database.scan({ gte: Buffer.from('B'), lt: Buffer.from('C') })) {
      left.push(...rows.map(({ key }) => key.latin1Slice()))
    }
    expect(left).toEqual([])
    await world.dispose()
  })

  it('takes a late record into a segment until it is dropped, over a crash (law 12)', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    store.append(appendRow(row('a', 10)))
    store.append(appendRow(row('z', 510)))
    await epoch(world, store)
    store.append(appendRow({ ...row('a', 20), streamTimeMs: 510 }))
    await epoch(world, store)
    world = await world.restart()
    store = await open(world)
    await store.restore()
    expect(await found(store, 'a')).toBe('a10@10/10 a20@20/510')
    await world.dispose()
  })

  it('brings back on reset what an aborted epoch expired', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.append(appendRow(row('a', 10)))
    await epoch(world, store)
    store.append(appendRow(row('a', 11)))
    store.expire(100)
    store.append(appendRow(row('a', 12)))
    expect(await found(store, 'a')).toBe('a12@12/12')
    store.reset()
    expect(await found(store, 'a')).toBe('a10@10/10')
    expect(store.rows).toBe(1)
    await world.dispose()
  })

  it('writes nothing of a block that is closed and expired in one epoch', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world, { blockBytesMax: 100 })
    for (let i = 0; i < 5; i++) store.append(appendRow(row('a', 10 + i)))
    expect(store.expire(100)).toBe(5)
    expect(store.metrics.overlayRows).toBe(0)
    await epoch(world, store)
    expect(store.metrics.cachedBytes).toBe(0)
    expect((await world.log!.offsets([CHANGELOG]))[0]!.endOffset).toBe(0)
    world = await world.restart()
    store = await open(world)
    expect(store.rows).toBe(0)
    await world.dispose()
  })

  it('keeps in the changelog what an epoch expires that may still abort', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world, { memoryBytesMax: 0 })
    for (const time of [10, 110, 210]) {
      store.append(appendRow(row('a', time)))
      await epoch(world, store)
    }
    store.expire(100)
    const sealed = store.seal(0)
    store.expire(200)
    await world.commit(sealed)
    store.applied()
    await vi.waitFor(async () =>
      expect((await world.log!.offsets([CHANGELOG]))[0]!.startOffset).toBe(1),
    )
    store.reset()
    expect(await found(store, 'a')).toBe('a110@110/110 a210@210/210')
    await world.dispose()
  })

  it('merges index rows of segments whose index is not in memory only when it is', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world, { memoryBytesMax: 0 })
    for (let i = 0; i < 100; i++) {
      store.append(appendRow(row(`k${i % 2}`, i)))
      await epoch(world, store)
      if (i % 10 === 0) expect((await found(store, 'k0')).split(' ')).toHaveLength((i >> 1) + 1)
    }
    world = await world.restart()
    store = await open(world)
    expect((await found(store, 'k1')).split(' ')).toHaveLength(50)
    await world.dispose()
  })

  it('leaves out fetched batches that begin before its position', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    const database = new MemoryDatabase()
    const log = bound(world.log!)
    const replica = await open(world, {
      database,
      log: {
        ...log,
        readBatches: undefined,
        fetch: ([request]) => log.fetch([{ ...request!, offset: 0 }]),
      },
    })
    for (const time of [10, 20, 30]) {
      store.append(appendRow(row('a', time)))
      await epoch(world, store)
      await replica.restore()
      expect(replica.rows).toBe(store.rows)
    }
    await world.dispose()
  })

  it('starts anew when its rows are of a log that is gone', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const other = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.append(appendRow(row('a', 10)))
    store.append(appendRow(row('b', 10)))
    await epoch(world, store)
    const { fetch, offsets } = bound(other.log!)
    const moved = await open(world, { log: { ...bound(world.log!), fetch, offsets } })
    expect(moved.rows).toBe(2)
    await moved.restore()
    expect(moved.rows).toBe(0)
    expect(await found(moved, 'a')).toBe('')
    await world.dispose()
    await other.dispose()
  })

  it('reads a block again that was asked for while in memory and let go of since', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world, { memoryBytesMax: 0, blockBytesMax: 1 })
    // Two blocks of one segment, so that one is asked for while the other is not in memory.
    for (const key of ['a', 'b']) store.append(appendRow(row(key, 10)))
    await epoch(world, store)
    await epoch(world, store)
    for (let i = 0; i < 3; i++) {
      expect(await found(store, 'a')).toBe('a10@10/10')
      expect(await found(store, 'a')).toBe('a10@10/10')
      await epoch(world, store)
    }
    await world.dispose()
  })

  it('counts the memory of expired blocks once', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world, { memoryBytesMax: 25_000 })
    const add = async (timeMs: number) => {
      store.append(appendRow(row('a', timeMs, 'v'.repeat(10_000))))
      await epoch(world, store)
    }
    for (const time of [10, 110]) await add(time)
    store.expire(200)
    for (const time of [210, 310, 410, 510, 610]) await add(time)
    const { cachedBytes } = store.metrics
    expect(cachedBytes).toBeGreaterThan(10_000)
    expect(cachedBytes).toBeLessThan(40_000)
    await world.dispose()
  })

  it('holds one epoch sealed at a time', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const store = await open(world)
    store.seal(0)
    expect(() => store.seal(0)).toThrow('one sealed epoch')
    await world.dispose()
  })

  it('reads few index rows at a start after many small commits', async () => {
    let world = await openWorld({ log: 'embedded log', database: 'memory' })
    let store = await open(world)
    for (let i = 0; i < 600; i++) {
      store.append(appendRow(row(`k${i % 7}`, i % 100, `${i}`)))
      await epoch(world, store)
    }
    let chunks = 0
    const { gte, lt } = { gte: Buffer.from('Bstore\0\0\0c'), lt: Buffer.from('Bstore\0\0\0d') }
    for await (const rows of world.database.scan({ gte, lt })) chunks += rows.length
    expect(chunks).toBe((600 % 16) + (Math.floor(600 / 16) % 16) + Math.floor(600 / 256))
    world = await world.restart()
    store = await open(world)
    const values = (await found(store, 'k3')).split(' ').map(text => Number(text.split('@')[0]))
    expect(values).toEqual(Array.from({ length: 86 }, (_, i) => i * 7 + 3).filter(v => v < 600))
    await world.dispose()
  })

  it('a changelog of another segment length is refused, not misread', async () => {
    const world = await openWorld({ log: 'embedded log', database: 'memory' })
    const store = await open(world)
    store.append(appendRow(row('a', 10)))
    store.append(appendRow(row('a', 90)))
    await epoch(world, store)
    const other = await open(world, { database: new MemoryDatabase(), segmentMs: 50 })
    await expect(other.restore()).rejects.toMatchObject({ code: 'CHANGELOG_FOREIGN' })
    await world.dispose()
  })
})

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('append' as const),
      key: fc.constantFrom('', 'a', 'b', 'cc'),
      timeMs: fc.nat(600),
      late: fc.oneof(fc.constant(0), fc.nat(100_000)),
      size: fc.nat(60),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('lookup' as const),
      key: fc.constantFrom('', 'a', 'b', 'cc', 'none'),
      fromMs: fc.integer({ min: -50, max: 600 }),
      length: fc.nat(600),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('commit' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('seal' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('expire' as const), timeMs: fc.nat(500) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('crash' as const),
      at: fc.constantFrom('running', 'sealed', 'committed'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('reset' as const) }) },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

/** The store and a plain array, side by side. */
class SideBySide {
  world: World
  store!: AppendStore
  readonly options: Partial<AppendStoreOptions>
  rows: ModelRow[] = []
  sealedRows: ModelRow[] | null = null
  committedRows: ModelRow[] = []
  sealed: ReturnType<AppendStore['seal']> | null = null
  expiredMs = Number.NEGATIVE_INFINITY
  values = 0

  constructor(world: World, options: Partial<AppendStoreOptions>) {
    this.world = world
    this.options = options
  }

  async open(): Promise<void> {
    this.store = await open(this.world, this.options)
    await this.store.restore()
    this.rows = [...this.committedRows]
    this.sealed = null
    this.sealedRows = null
  }

  seal(): void {
    if (this.sealed) return
    this.sealed = this.store.seal(0)
    this.sealedRows = [...this.rows]
  }

  /** Makes the sealed epoch durable; the store has not heard of it. */
  async commit(): Promise<void> {
    this.seal()
    await this.world.commit(this.sealed!)
    this.committedRows = this.sealedRows!
    this.sealed = null
    this.sealedRows = null
  }

  async crash(at: string): Promise<void> {
    if (at === 'sealed') this.seal()
    if (at === 'committed') await this.commit()
    this.world = await this.world.restart()
    await this.open()
  }

  async run(s: Step): Promise<void> {
    const { store } = this
    if (s.op === 'append') {
      const { key, timeMs } = s
      const value = `${this.values++}`.padEnd(s.size, '.')
      const appended = { key, value, timeMs, streamTimeMs: timeMs + s.late }
      store.append(appendRow(appended))
      this.rows.push(appended)
    } else if (s.op === 'lookup') {
      const toMs = s.fromMs + s.length
      expect(await found(store, s.key, s.fromMs, toMs)).toBe(
        expected(this.rows, s.key, s.fromMs, toMs),
      )
    } else if (s.op === 'commit') {
      await this.commit()
      store.applied()
    } else if (s.op === 'seal') this.seal()
    else if (s.op === 'expire') {
      const live = this.rows.filter(
        r => (Math.floor(r.timeMs / SEGMENT_MS) + 1) * SEGMENT_MS > s.timeMs,
      )
      expect(store.expire(s.timeMs)).toBe(this.rows.length - live.length)
      this.rows = live
      this.expiredMs = Math.max(this.expiredMs, s.timeMs)
    } else if (s.op === 'crash') await this.crash(s.at)
    else {
      store.reset()
      this.rows = [...this.committedRows]
      this.sealed = null
      this.sealedRows = null
    }
    expect(this.store.rows).toBe(this.rows.length)
  }

  async checkAll(store: AppendStore, rows: readonly ModelRow[]): Promise<void> {
    for (const key of ['', 'a', 'b', 'cc', 'none']) {
      expect(await found(store, key, -1e6, 1e6)).toBe(expected(rows, key, -1e6, 1e6))
    }
  }

  /** The changelog alone gives the live rows, whatever the local state was. */
  async checkChangelog(): Promise<void> {
    if (this.world.log === undefined) return
    const database = new MemoryDatabase()
    const replica = await open(this.world, {
      ...this.options,
      database,
      log: { ...bound(this.world.log), readBatches: undefined },
    })
    await replica.restore()
    await replica.restore()
    replica.expire(this.expiredMs)
    const live = this.committedRows.filter(
      r => (Math.floor(r.timeMs / SEGMENT_MS) + 1) * SEGMENT_MS > this.expiredMs,
    )
    await this.checkAll(replica, live)
    expect(database.openHandles).toBe(0)
  }
}

const bound = (log: NonNullable<World['log']>) => ({
  ...log,
  offsets: log.offsets.bind(log),
  describeTopic: log.describeTopic.bind(log),
  fetch: log.fetch.bind(log),
  incarnation: log.incarnation,
})

describe.each<[DatabaseKind, LogKind, number]>([
  ['memory', 'no log', 60],
  ['memory', 'embedded log', 150],
  ['memory', 'log without block reads', 80],
  ['RocksDB', 'embedded log', 25],
])('append store on %s with %s', (database, log, numRuns) => {
  it('does as an array does, evicted, crashed and reset at every point', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 60, size: 'max' }),
        fc.constantFrom(0, 3000, 1e9),
        fc.constantFrom(150, 300, 65_536),
        async (steps, memoryBytesMax, blockBytesMax) => {
          const world = await openWorld({ log, database })
          const both = new SideBySide(world, { memoryBytesMax, blockBytesMax })
          await both.open()
          for (const s of steps) await both.run(s)
          await both.checkAll(both.store, both.rows)
          await both.commit()
          both.store.applied()
          await both.checkChangelog()
          await both.crash('running')
          await both.checkAll(both.store, both.rows)
          await both.world.dispose()
        },
      ),
      { seed: 20_261_121, numRuns },
    )
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Codec } from '../../state/port.ts'
import { openRowStore } from '../../state/row-store.ts'
import { VersionedStore, type VersionRows, versionsCodec } from '../../state/versioned-store.ts'
import { CHANGELOG, openWorld, type World } from './worlds.ts'

const text: Codec<string> = {
  encode: value => Buffer.from(value),
  decode: bytes => bytes.utf8Slice(),
}
const codec = versionsCodec(text)
const ALL = Number.NEGATIVE_INFINITY

async function open(world: World) {
  const rows = await openRowStore<VersionRows<string>>({
    name: 'versions',
    partition: 0,
    codec,
    database: world.database,
    log: world.log,
    changelog: world.log && CHANGELOG,
    cacheBytesMax: 0,
  })
  await rows.restore()
  return { rows, store: new VersionedStore(rows) }
}

const rendered = (store: VersionedStore<string>, key: string): string =>
  store
    .history(key)
    .map(({ value, fromMs, toMs }) => `${value ?? 'DEL'} [${fromMs}, ${toMs})`)
    .join(' ')

describe('versioned store', () => {
  it('puts versions in the order of their times, whatever the order of the puts', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const { store } = await open(world)
    await store.prefetch(['k'])
    for (const [value, fromMs] of [
      ['v1', 10],
      ['v3', 30],
      ['v2', 20],
      [undefined, 40],
    ] as const) {
      expect(store.put('k', value, { fromMs, horizonMs: ALL })).toBe(true)
    }
    expect(rendered(store, 'k')).toBe('v1 [10, 20) v2 [20, 30) v3 [30, 40) DEL [40, Infinity)')
    expect(store.asOf('k', 9)).toBe(undefined)
    expect(store.asOf('k', 10)).toEqual({ value: 'v1', fromMs: 10, toMs: 20 })
    expect(store.asOf('k', 29)?.value).toBe('v2')
    expect(store.latest('k')).toEqual({ value: undefined, fromMs: 40, toMs: Infinity })
    store.put('k', 'v2b', { fromMs: 20, horizonMs: ALL })
    expect(rendered(store, 'k')).toBe('v1 [10, 20) v2b [20, 30) v3 [30, 40) DEL [40, Infinity)')
    await world.dispose()
  })

  it('keeps what was in force at the horizon and drops what had ended', async () => {
    const world = await openWorld({ log: 'no log', database: 'memory' })
    const { rows, store } = await open(world)
    await store.prefetch(['k', 'gone'])
    for (const fromMs of [10, 20, 30]) store.put('k', `v${fromMs}`, { fromMs, horizonMs: ALL })
    store.put('k', 'v40', { fromMs: 40, horizonMs: 25 })
    expect(rendered(store, 'k')).toBe('v20 [20, 30) v30 [30, 40) v40 [40, Infinity)')
    expect(store.put('k', 'late', { fromMs: 15, horizonMs: 25 }), 'it is late').toBe(false)
    expect(rendered(store, 'k')).toBe('v20 [20, 30) v30 [30, 40) v40 [40, Infinity)')
    store.put('gone', 'v', { fromMs: 1, horizonMs: ALL })
    store.put('gone', undefined, { fromMs: 6, horizonMs: 6 })
    expect(rows.get('gone'), 'nothing is left to store').toBe(undefined)
    await world.dispose()
  })

  it('the format is what it was', () => {
    const bytes = codec.encode([
      { fromMs: 1_000, value: 'ab' },
      { fromMs: 1_001, value: undefined },
      { fromMs: 2_000, value: '' },
    ])
    expect(bytes.toString('hex')).toBe('01' + 'd00f046162' + '0201' + 'ce0f00')
    expect(() => codec.decode(Buffer.from('02d00f046162', 'hex'))).toThrow('format 1, not 2')
    expect(() => codec.decode(Buffer.from('01d00f0461', 'hex'))).toThrow('cut off')
  })

  it('answers as a list of all puts does, over commits, aborts and restarts', async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          op: fc.constant('put' as const),
          key: fc.constantFrom('a', 'b'),
          fromMs: fc.integer({ min: -20, max: 50 }),
          deleted: fc.boolean(),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ op: fc.constant('horizon' as const), byMs: fc.nat(10) }),
      },
      { weight: 2, arbitrary: fc.record({ op: fc.constant('commit' as const) }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('reset' as const) }) },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('restart' as const) }) },
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 50, size: 'max' }),
        async steps => {
          let world = await openWorld({ log: 'embedded log', database: 'memory', compacted: true })
          let { rows, store } = await open(world)
          let horizonMs = -30
          let puts: { key: string; fromMs: number; value: string | undefined }[] = []
          let committed = puts
          for (const [i, s] of steps.entries()) {
            await store.prefetch(['a', 'b'])
            if (s.op === 'put') {
              const value = s.deleted ? undefined : `${i}`
              const isLate = s.fromMs < horizonMs
              expect(store.put(s.key, value, { fromMs: s.fromMs, horizonMs })).toBe(!isLate)
              if (isLate) continue
              puts = [
                ...puts.filter(p => p.key !== s.key || p.fromMs !== s.fromMs),
                { ...s, value },
              ]
            } else if (s.op === 'horizon') horizonMs += s.byMs
            else if (s.op === 'commit') {
              await world.commit(rows.seal(0))
              rows.applied()
              committed = puts
            } else {
              if (s.op === 'reset') rows.reset()
              else {
                world = await world.restart()
                ;({ rows, store } = await open(world))
              }
              puts = committed
            }
            await store.prefetch(['a', 'b'])
            for (const key of ['a', 'b']) {
              for (let timeMs = horizonMs; timeMs <= 60; timeMs += 7) {
                const known = puts.filter(p => p.key === key && p.fromMs <= timeMs)
                const newest = known.sort((a, b) => b.fromMs - a.fromMs)[0]
                expect(store.asOf(key, timeMs)?.value).toBe(newest?.value)
              }
            }
          }
          await world.dispose()
        },
      ),
      { seed: 20_261_121, numRuns: 80 },
    )
  })
})

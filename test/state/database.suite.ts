/** The facts and laws that every `Database` keeps; each driver's test runs them. */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Database, DatabaseReader, ScanRange } from '../../log/database.ts'

export interface DatabaseUnderTest {
  open(): Promise<Database>
  /** Opens the same data again, after `open`'s database was closed. */
  reopen(closed: Database): Promise<Database>
  dispose(): Promise<void>
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

async function rendered(reader: DatabaseReader, range?: Partial<ScanRange>): Promise<string> {
  const out: string[] = []
  const all = { gte: bytes(''), lt: bytes('\xff\xff\xff\xff'), ...range }
  for await (const entries of reader.scan(all)) {
    for (const { key, value } of entries) out.push(`${key.latin1Slice()}=${value.latin1Slice()}`)
  }
  return out.join(' ')
}

async function put(database: Database, ...pairs: string[]): Promise<void> {
  const batch = database.batch()
  for (const pair of pairs) {
    const [key, value] = pair.split('=')
    batch.put(bytes(key), bytes(value))
  }
  await batch.commit()
}

export function databaseSuite(name: string, make: () => Promise<DatabaseUnderTest>): void {
  describe(`${name} database`, () => {
    let subject: DatabaseUnderTest
    let database: Database

    beforeEach(async () => {
      subject = await make()
      database = await subject.open()
    })
    afterEach(async () => {
      await database.close()
      await subject.dispose()
    })

    it('answers in the order of the keys asked, null where there is none', async () => {
      await put(database, 'a=1', 'b=', 'c=3')
      const values = await database.getMany(['c', 'x', 'b', 'a', 'c'].map(bytes))
      expect(values.map(value => value?.latin1Slice() ?? null)).toEqual(['3', null, '', '1', '3'])
      expect(await database.getMany([])).toEqual([])
    })

    it('shows nothing of a batch before its commit and all of it after', async () => {
      const batch = database.batch()
      batch.put(bytes('a'), bytes('1'))
      batch.put(bytes('b'), bytes('2'))
      expect(batch.size).toBe(2)
      expect(await rendered(database)).toBe('')
      await batch.commit()
      expect(await rendered(database)).toBe('a=1 b=2')
    })

    it('drops a discarded batch', async () => {
      const batch = database.batch()
      batch.put(bytes('a'), bytes('1'))
      batch.discard()
      batch.discard()
      await expect(batch.commit()).rejects.toThrow('committed once')
      expect(await rendered(database)).toBe('')
    })

    it('lets the later operation of a batch win', async () => {
      await put(database, 'a=0', 'b=0', 'c=0', 'd=0')
      const batch = database.batch()
      batch.put(bytes('a'), bytes('1'))
      batch.delete(bytes('a'))
      batch.put(bytes('b'), bytes('1'))
      batch.deleteRange(bytes('b'), bytes('d'))
      batch.put(bytes('c'), bytes('2'))
      batch.put(bytes('c'), bytes('3'))
      await batch.commit()
      expect(await rendered(database)).toBe('c=3 d=0')
    })

    it('deletes a range with its start and without its end', async () => {
      await put(database, 'a=1', 'b=2', 'ba=3', 'c=4')
      const batch = database.batch()
      batch.deleteRange(bytes('b'), bytes('c'))
      batch.deleteRange(bytes('c'), bytes('c'))
      batch.deleteRange(bytes('z'), bytes('a'))
      await batch.commit()
      expect(await rendered(database)).toBe('a=1 c=4')
    })

    it('scans a range in either direction, up to its limit', async () => {
      await put(database, 'a=1', 'b=2', 'ba=3', 'c=4', '\xff=5')
      const range = { gte: bytes('b'), lt: bytes('c') }
      expect(await rendered(database, range)).toBe('b=2 ba=3')
      expect(await rendered(database, { ...range, reverse: true })).toBe('ba=3 b=2')
      expect(await rendered(database, { limit: 2 })).toBe('a=1 b=2')
      expect(await rendered(database, { limit: 2, reverse: true })).toBe('\xff=5 c=4')
      expect(await rendered(database, { limit: 0 })).toBe('')
      expect(await rendered(database, { gte: bytes('c'), lt: bytes('b') })).toBe('')
    })

    it('scans far more than one chunk, whole in both directions', async () => {
      const batch = database.batch()
      const keys = Array.from({ length: 5000 }, (_, i) => `k${String(i).padStart(6, '0')}`)
      for (const key of keys) batch.put(bytes(key), bytes('v'.repeat(100)))
      await batch.commit()
      const expected = keys.map(key => `${key}=${'v'.repeat(100)}`)
      expect(await rendered(database)).toBe(expected.join(' '))
      expect(await rendered(database, { reverse: true })).toBe(expected.reverse().join(' '))
      expect((await rendered(database, { limit: 4321 })).split(' ')).toHaveLength(4321)
    })

    it('orders keys as unsigned bytes', async () => {
      await put(database, '\x80=3', '\x00=1', '\x7f=2', '\xfe=4', '\x00\x00=1')
      expect(await rendered(database)).toBe('\x00=1 \x00\x00=1 \x7f=2 \x80=3 \xfe=4')
    })

    it('keeps a snapshot as it was', async () => {
      await put(database, 'a=1', 'b=2')
      const snapshot = database.snapshot()
      const batch = database.batch()
      batch.put(bytes('a'), bytes('9'))
      batch.deleteRange(bytes('b'), bytes('c'))
      batch.put(bytes('c'), bytes('3'))
      await batch.commit()
      expect(await rendered(snapshot)).toBe('a=1 b=2')
      expect((await snapshot.getMany([bytes('b')]))[0]?.latin1Slice()).toBe('2')
      expect(await rendered(database)).toBe('a=9 c=3')
      await snapshot.release()
      await snapshot.release()
      expect(database.openHandles).toBe(0)
    })

    it('finishes a scan on the entries it began with', async () => {
      const batch = database.batch()
      for (let i = 0; i < 3000; i++) batch.put(bytes(`k${10_000 + i}`), bytes('v'))
      await batch.commit()
      let seen = 0
      for await (const entries of database.scan({ gte: bytes('k'), lt: bytes('l') })) {
        if (seen === 0) {
          const later = database.batch()
          later.deleteRange(bytes('k'), bytes('l'))
          await later.commit()
        }
        seen += entries.length
      }
      expect(seen).toBe(3000)
      expect(await rendered(database)).toBe('')
    })

    it('closes the iterator of a loop that was left', async () => {
      await put(database, 'a=1', 'b=2')
      for await (const _ of database.scan({ gte: bytes('a'), lt: bytes('z') })) break
      const failing = async () => {
        for await (const _ of database.scan({ gte: bytes('a'), lt: bytes('z') })) {
          throw new Error('left')
        }
      }
      await expect(failing()).rejects.toThrow('left')
      expect(database.openHandles).toBe(0)
    })

    it('counts what is open', async () => {
      const snapshot = database.snapshot()
      const batch = database.batch()
      expect(database.openHandles).toBe(2)
      batch.discard()
      await snapshot.release()
      expect(database.openHandles).toBe(0)
    })

    it('closes, again and again, although a caller left handles behind', async () => {
      await put(database, ...Array.from({ length: 500 }, (_, i) => `k${1000 + i}=v`))
      database.snapshot()
      database.batch().put(bytes('lost'), bytes('1'))
      const scan = database.scan({ gte: bytes('a'), lt: bytes('z') })[Symbol.asyncIterator]()
      await scan.next()
      const reading = database.getMany([bytes('k1000')])
      await Promise.all([database.close(), database.close()])
      await database.close()
      expect((await reading)[0]?.latin1Slice()).toBe('v')
      expect(database.openHandles).toBe(0)
      await expect(database.getMany([bytes('a')])).rejects.toThrow('closed')
      expect(() => database.batch()).toThrow('closed')
      expect(() => database.snapshot()).toThrow('closed')
    })

    it('keeps what was committed over a restart', async () => {
      await put(database, 'a=1', 'b=2')
      await database.close()
      database = await subject.reopen(database)
      expect(await rendered(database)).toBe('a=1 b=2')
    })

    it('does as a sorted map does', async () => {
      const { numRuns, seed } = { numRuns: 60, seed: 20_261_121 }
      const key = fc.string({
        unit: fc.constantFrom('\x00', 'a', 'b', '\x7f', '\x80', '\xff'),
        maxLength: 3,
      })
      const write = fc.oneof(
        fc.record({ op: fc.constant('put' as const), key, other: key }),
        fc.record({ op: fc.constant('delete' as const), key, other: key }),
        fc.record({ op: fc.constant('deleteRange' as const), key, other: key }),
      )
      const step = fc.record({
        writes: fc.array(write, { maxLength: 8, size: 'max' }),
        gte: key,
        lt: key,
        reverse: fc.boolean(),
        limit: fc.option(fc.nat(6), { nil: undefined }),
      })
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 12, size: 'max' }), async steps => {
          const wipe = database.batch()
          wipe.deleteRange(bytes(''), bytes('\xff\xff\xff\xff'))
          await wipe.commit()
          const model = new Map<string, string>()
          const kept: { model: string; snapshot: ReturnType<Database['snapshot']> }[] = []
          for (const { writes, gte, lt, reverse, limit } of steps) {
            const batch = database.batch()
            for (const [i, { op, key: at, other }] of writes.entries()) {
              if (op === 'put') batch.put(bytes(at), bytes(`${i}`))
              else if (op === 'delete') batch.delete(bytes(at))
              else batch.deleteRange(bytes(at), bytes(other))
              if (op === 'put') model.set(at, `${i}`)
              else if (op === 'delete') model.delete(at)
              else for (const k of [...model.keys()]) if (k >= at && k < other) model.delete(k)
            }
            await batch.commit()
            const inRange = [...model].filter(([k]) => k >= gte && k < lt).sort(byKey)
            if (reverse) inRange.reverse()
            expect(
              await rendered(database, { gte: bytes(gte), lt: bytes(lt), reverse, limit }),
            ).toBe(render(inRange.slice(0, limit)))
            const keys = [...model.keys(), 'absent']
            const values = await database.getMany(keys.map(bytes))
            expect(values.map(v => v?.latin1Slice())).toEqual(keys.map(k => model.get(k)))
            kept.push({ model: render([...model].sort(byKey)), snapshot: database.snapshot() })
          }
          for (const { model: then, snapshot } of kept) {
            expect(await rendered(snapshot)).toBe(then)
            await snapshot.release()
          }
          expect(database.openHandles).toBe(0)
        }),
        { seed, numRuns },
      )
    })
  })
}

const byKey = (a: [string, string], b: [string, string]): number => (a[0] < b[0] ? -1 : 1)
const render = (pairs: [string, string][]): string => pairs.map(p => p.join('=')).join(' ')

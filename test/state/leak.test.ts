/** A long run of everything that opens handles, with failures and early ends: none stays open. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Database, DatabaseReader } from '../../log/database.ts'
import type { RowStore } from '../../state/port.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { openRowStore } from '../../state/row-store.ts'

const key = (n: number) => Buffer.from(`k${String(n).padStart(5, '0')}`)
const ALL = { gte: Buffer.from('k'), lt: Buffer.from('l') }

async function scan(reader: DatabaseReader, chunksMax: number): Promise<void> {
  let chunks = 0
  for await (const _ of reader.scan(ALL)) if (++chunks >= chunksMax) break
}

/** What the run is made of; each number makes its action a little different. */
function actionsOn(database: Database, store: RowStore<string>) {
  const actions: ((n: number) => Promise<unknown>)[] = [
    async n => {
      const batch = database.batch()
      for (let i = 0; i < 50; i++) batch.put(key((n + i * 97) % 2000), Buffer.alloc(100, n))
      await batch.commit()
    },
    async n => {
      const batch = database.batch()
      batch.deleteRange(key(n % 2000), key((n % 2000) + 100))
      if (n % 2) batch.discard()
      else await batch.commit()
    },
    async n => scan(database, n % 3),
    async n => {
      await using snapshot = database.snapshot()
      await Promise.all([scan(snapshot, n % 4), snapshot.getMany([key(n), key(n + 1)])])
    },
    async n => database.getMany([key(n % 2000), key(n)]),
    async n => {
      const entries = database.scan(ALL)[Symbol.asyncIterator]()
      await entries.next()
      if (n % 2) await entries.next()
      await entries.return!()
    },
    async n => {
      await store.prefetch([`${n}`])
      store.put(`${n % 100}`, 'v'.repeat(n % 100))
      if (n % 5 === 0) await store.deleteRange(`${n % 10}`, '5')
      const batch = database.batch()
      store.seal(0).write([], batch)
      await batch.commit()
      store.applied()
      for await (const _ of store.scan({ limit: n % 7 })) if (n % 3 === 0) break
    },
    async () => {
      const batch = database.batch()
      batch.put('no bytes' as unknown as Buffer, Buffer.alloc(0))
      batch.discard()
    },
  ]
  return actions
}

it('after a long random run nothing is open, and close resolves', async () => {
  const path = await mkdtemp(join(tmpdir(), 'millrace-leak-'))
  const database = await openRocksDB(path, { writeBufferBytes: 1 << 20 })
  const store = await openRowStore({
    name: 'rows',
    partition: 0,
    codec: { encode: (text: string) => Buffer.from(text), decode: bytes => bytes.utf8Slice() },
    database,
    cacheBytesMax: 1000,
  })
  const actions = actionsOn(database, store)
  const last = actions.length - 1
  const pick = fc.tuple(fc.nat(last), fc.nat(5000), fc.boolean())
  const [picks] = fc.sample(fc.array(pick, { minLength: 1500, maxLength: 1500 }), {
    seed: 20_261_121,
    numRuns: 1,
  })
  let together: Promise<unknown>[] = []
  let storeBusy: Promise<unknown> = Promise.resolve()
  for (const [action, n, wait] of picks!) {
    // The store is one task's: its turns follow one another, everything else overlaps.
    if (action === 6) together.push((storeBusy = storeBusy.then(() => actions[6]!(n))))
    else together.push(actions[action]!(n))
    if (wait) continue
    await Promise.all(together)
    expect(database.openHandles).toBe(0)
    together = []
  }
  await Promise.all(together)
  expect(database.openHandles).toBe(0)
  await database.close()
  await rm(path, { recursive: true, force: true })
})

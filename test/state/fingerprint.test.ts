import { expect, it } from 'vitest'
import {
  encodeFingerprint,
  readFingerprint,
  type StoreIdentity,
  verifyFingerprint,
} from '../../state/fingerprint.ts'
import { MemoryDatabase } from '../../state/memory-database.ts'

const orders: StoreIdentity = { kind: 'rows', format: 1, codec: 'text/json', partitions: 4 }
const payments: StoreIdentity = {
  kind: 'blocks',
  format: 1,
  codec: 'text/avro',
  partitions: 4,
  segmentMs: 60_000,
}

it('takes the same stores, new ones, and fewer', async () => {
  const database = new MemoryDatabase()
  await verifyFingerprint(database, new Map([['orders', orders]]))
  await verifyFingerprint(database, new Map([['payments', payments]]))
  await verifyFingerprint(
    database,
    new Map([
      ['orders', orders],
      ['payments', payments],
    ]),
  )
  expect(await readFingerprint(database)).toEqual(
    new Map([
      ['orders', { ...orders }],
      ['payments', { ...payments }],
    ]),
  )
  expect(database.openHandles).toBe(0)
})

it('refuses a store that another topology wrote, with the reason, and changes nothing', async () => {
  const database = new MemoryDatabase()
  await verifyFingerprint(
    database,
    new Map([
      ['orders', orders],
      ['payments', payments],
    ]),
  )
  const before = await readFingerprint(database)
  const changed = new Map<string, StoreIdentity>([
    ['orders', { ...orders, codec: 'text/avro', partitions: 8 }],
    ['payments', { ...payments, segmentMs: 1000 }],
    ['new', orders],
  ])
  await expect(verifyFingerprint(database, changed)).rejects.toMatchObject({
    code: 'STATE_FOREIGN',
    details: { stores: ['orders', 'payments'] },
    message: expect.stringMatching(
      /store orders: its codec was text\/json and is now text\/avro, its partitions was 4 and is now 8; store payments: its segmentMs was 60000 and is now 1000.*millrace reset/s,
    ),
  })
  expect(await readFingerprint(database)).toEqual(before)
  await verifyFingerprint(database, new Map([['orders', orders]]))
})

it('a store that was dropped and comes back with another kind is refused', async () => {
  const database = new MemoryDatabase()
  await verifyFingerprint(database, new Map([['orders', orders]]))
  await verifyFingerprint(database, new Map())
  await expect(
    verifyFingerprint(database, new Map([['orders', { ...orders, kind: 'blocks' as const }]])),
  ).rejects.toMatchObject({ code: 'STATE_FOREIGN' })
})

it('the format is what it was, and a later one is refused', async () => {
  expect(
    encodeFingerprint(
      new Map([
        ['b', payments],
        ['a', orders],
      ]),
    ).toString(),
  ).toBe(
    '{"version":1,"stores":{"a":{"kind":"rows","format":1,"codec":"text/json","partitions":4},' +
      '"b":{"kind":"blocks","format":1,"codec":"text/avro","partitions":4,"segmentMs":60000}}}',
  )
  const database = new MemoryDatabase()
  const batch = database.batch()
  batch.put(Buffer.from('M\0\0\0fingerprint', 'latin1'), Buffer.from('{"version":2,"stores":{}}'))
  await batch.commit()
  await expect(verifyFingerprint(database, new Map())).rejects.toThrow('has version 2')
})

/**
 * A bit flipped in a stored batch, at every position of its header. Kafka's CRC covers the header
 * only from the attributes on; the rest is held against the row's key.
 */
import { describe, expect, test } from 'vitest'
import { openEmbeddedLog } from '../../../log/embedded/index.ts'
import * as keys from '../../../log/embedded/keys.ts'
import { AT, HEADER_BYTES } from '../../../log/record-batch.ts'
import { MemoryDatabase } from '../../../state/memory-database.ts'
import { Topology, text, textKey } from '../../../streams/index.ts'
import { TopologyTestDriver } from '../../../streams/testing/index.ts'
import { append, codeOf, p0, readAll } from '../../conformance/log.ts'
import { environment } from './environment.ts'

const BATCHES = [
  ['a=1', 'b=2', 'c=3'],
  ['d=4', 'e=5', 'f=6'],
  ['g=7', 'h=8', 'i=9'],
]
const lines = { key: textKey(), value: text() }

/** A log of three batches, one of them with changed bytes. */
async function changed(batch: number, change: (bytes: Buffer) => void): Promise<MemoryDatabase> {
  const database = new MemoryDatabase()
  const log = await openEmbeddedLog(database, environment)
  await log.createTopic('orders', 1)
  for (const records of BATCHES) await append(log, p0, ...records)
  await log.close()
  const key = keys.batchKey({ topic: 1, partition: 0 }, batch * 3)
  const [value] = await database.getMany([key])
  const bytes = Buffer.from(value as Buffer)
  change(bytes)
  const write = database.batch()
  write.put(key, bytes)
  await write.commit()
  return database
}

function copied(): Topology {
  const topology = new Topology('copy')
  topology.stream('orders', lines).to('out', lines)
  return topology
}

async function processed(database: MemoryDatabase): Promise<{ out: string[]; dead: string[] }> {
  const driver = await TopologyTestDriver.open(copied(), { database, startMs: Date.now() })
  await driver.process()
  const out = (await driver.output('out', lines)).map(({ key, value }) => `${key}=${value}`)
  const letters = await driver.output('copy-dead-letters', lines)
  const dead = letters.map(({ headers }) => `${headers.dl_reason} ${headers.dl_offset}`)
  await driver.close()
  return { out, dead }
}

const isHarmless = (position: number) => position >= AT.leaderEpoch && position < AT.magic

describe('a flipped bit', () => {
  const good = BATCHES.flat()
  const without = (batch: number) => BATCHES.filter((_, i) => i !== batch).flat()

  for (let position = 0; position < HEADER_BYTES; position++) {
    test(`at byte ${position} takes its batch out, once, and no other record`, async () => {
      for (const bit of [0x01, 0x10, 0x80]) {
        for (const batch of [0, 1]) {
          const database = await changed(batch, bytes => {
            bytes[position]! ^= bit
          })
          const { out, dead } = await processed(database)
          const spared = isHarmless(position)
          expect(out, `bit ${bit} of batch ${batch}`).toEqual(spared ? good : without(batch))
          expect(dead).toEqual(spared ? [] : [`poison ${batch * 3}`])
        }
      }
    })

    test(`at byte ${position} of the last batch stops the start: where to append is not known`, async () => {
      const database = await changed(2, bytes => {
        bytes[position]! ^= 0x01
      })
      if (isHarmless(position)) return expect((await processed(database)).out).toEqual(good)
      const code = await codeOf(() => openEmbeddedLog(database, environment))
      expect(['LOG_CORRUPT', 'BATCH_MAGIC', 'BATCH_CORRUPT']).toContain(code)
      expect(database.openHandles).toBe(0)
    })
  }
})

test.each([0, 1, 11, 12, 60])(
  'a batch cut to %i bytes is met once, as a corrupt one',
  async size => {
    const database = await changed(1, () => {})
    const key = keys.batchKey({ topic: 1, partition: 0 }, 3)
    const [value] = await database.getMany([key])
    const write = database.batch()
    write.put(key, (value as Buffer).subarray(0, size))
    await write.commit()
    expect(await processed(database)).toEqual({
      out: [...BATCHES[0]!, ...BATCHES[2]!],
      dead: ['poison 3'],
    })
  },
)

test('a reader that begins inside a corrupt batch goes on behind it', async () => {
  const database = await changed(1, bytes => {
    bytes[AT.lastOffsetDelta]! ^= 0x01
  })
  const log = await openEmbeddedLog(database, environment)
  expect(await readAll(log, p0, 4)).toEqual(['6 g=7', '7 h=8', '8 i=9'])
  expect(await codeOf(() => readAll(log, p0, 3))).toBe('BATCH_CORRUPT')
})

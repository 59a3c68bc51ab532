import { expect, it } from 'vitest'
import { MemoryDatabase } from '../../state/memory-database.ts'
import { databaseSuite } from './database.suite.ts'

databaseSuite('memory', async () => ({
  open: async () => new MemoryDatabase(),
  reopen: async closed => (closed as MemoryDatabase).reopen(),
  dispose: async () => {},
}))

it('a rejected commit has written nothing', async () => {
  const database = new MemoryDatabase({
    beforeCommit: () => Promise.reject(new Error('disk full')),
  })
  const batch = database.batch()
  batch.put(Buffer.from('a'), Buffer.from('1'))
  await expect(batch.commit()).rejects.toThrow('disk full')
  expect(await database.getMany([Buffer.from('a')])).toEqual([null])
  expect(database.openHandles).toBe(0)
})

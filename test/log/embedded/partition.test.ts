import { expect, test } from 'vitest'
import { Partition, TailBudget } from '../../../log/embedded/partition.ts'
import { readBatchHeaders } from '../../../log/record-batch.ts'
import { batchOf } from '../batches.ts'

test('many small batches in memory stay within their budget with the objects that they are', () => {
  const bytes = batchOf('k=v')
  const [header] = readBatchHeaders(bytes)
  const bounds = { startOffset: 0, endOffset: 0, maxTimestamp: 0 }
  const partition = new Partition({ topic: 1, partition: 0 }, 'small-0', bounds)
  const tail = new TailBudget(20_000)
  for (let i = 0; i < 1000; i++) {
    partition.stage(header!, bytes)
    tail.add(partition, partition.publish())
  }
  const held = Array.from({ length: 1000 }, (_, offset) => partition.fromMemory(offset, 1) ?? [])
  const count = held.filter(batches => batches.length > 0).length
  expect(count).toBeGreaterThan(20)
  // A buffer and two objects are not to be had for less.
  expect(count).toBeLessThan(20_000 / (bytes.length + 200))
  expect(partition.fromMemory(999, 1)).toEqual([bytes])
})

import { expect, test } from 'vitest'
import { VERSION } from '../../recording/format.ts'
import { openRecording } from '../../recording/reader.ts'
import { RecordingWriter } from '../../recording/writer.ts'
import { makeBatch } from '../log/batches.ts'
import { contents, MemoryFile } from './worlds.ts'

async function begin(partitions: number) {
  const file = new MemoryFile()
  const from = Array.from({ length: partitions }, () => 0)
  const topics = [{ name: 't', id: '', partitions, config: {} as never, from }]
  const source = { kind: 'embedded', incarnation: '' }
  const header = { version: VERSION, createdMs: 0, source, topics }
  return { file, writer: await RecordingWriter.create(file, header) }
}

const batchAt = (baseOffset: number, values: readonly string[]) =>
  makeBatch(
    values.map((value, i) => ({ key: 'k', value, timestampMs: 100 + baseOffset + i })),
    { baseOffset },
  )

test('what comes record by record is one span a partition and block, not one a record', async () => {
  const { file, writer } = await begin(3)
  for (let offset = 0; offset < 40; offset++) {
    for (const partition of [0, 1, 2]) {
      const range = { from: offset, to: offset + 1, recordsMax: Number.POSITIVE_INFINITY }
      const bytes = batchAt(offset, [`v${offset}`])
      writer.add({ topic: 0, partition, ...range, bytes })
    }
    if (offset === 19) await writer.flush()
  }
  await writer.finish()
  const recording = await openRecording(file)
  expect(recording.blocks.map(({ spans }) => spans.length)).toEqual([3, 3])
  const { bytes: _, ...span } = recording.blocks[1]!.spans[2]!
  const times = { minTimestamp: 120, maxTimestamp: 139 }
  expect(span).toEqual({ topic: 0, partition: 2, from: 20, to: 40, records: 20, ...times })
  const own = Array.from({ length: 40 }, (_, i) => `t-0: ${i}@${100 + i} k=v${i}`)
  expect((await contents(recording)).slice(0, 40)).toEqual(own)
})

test('spans that share a batch stay two, each with its records', async () => {
  const { file, writer } = await begin(1)
  const bytes = batchAt(0, ['a', 'b', 'c'])
  const place = { topic: 0, partition: 0 }
  expect(writer.add({ ...place, from: 0, to: 3, recordsMax: 2, bytes }).to).toBe(2)
  writer.add({ ...place, from: 2, to: 3, recordsMax: 9, bytes })
  writer.add({ ...place, from: 5, to: 6, recordsMax: 9, bytes: batchAt(5, ['d']) })
  await writer.finish()
  const recording = await openRecording(file)
  expect(recording.blocks[0]!.spans.map(({ from, to }) => [from, to])).toEqual([
    [0, 2],
    [2, 6],
  ])
  expect((await contents(recording)).map(line => line.slice(-1))).toEqual(['a', 'b', 'c', 'd'])
})

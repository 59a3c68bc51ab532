import { expect, test } from 'vitest'
import { MillraceError } from '../../log/errors.ts'
import {
  blockBatches,
  blockSpans,
  encodeBlock,
  encodeEntry,
  encodeHeader,
  encodeIndex,
  frameBody,
  type RecordingHeader,
  VERSION,
} from '../../recording/format.ts'
import { inspect } from '../../recording/inspection.ts'
import { openRecording } from '../../recording/reader.ts'
import { Random } from '../support/random.ts'
import { contents, contentsOf, MemoryFile, recordInto, resumeInto, smallLog } from './worlds.ts'

/** A small recording of several blocks. */
async function sample(): Promise<Buffer> {
  const { log, dispose } = await smallLog(2)
  const file = new MemoryFile()
  await recordInto(file, log, { options: { recordsMax: 4 } })
  await resumeInto(file, log)
  await dispose()
  return file.bytes
}

test('the bytes are those of version 1', async () => {
  const config = { cleanup: 'delete', retentionMs: -1, deleteRetentionMs: 1, batchBytesMax: 2 }
  const header = encodeHeader({
    version: VERSION,
    createdMs: 7,
    source: { kind: 'embedded', incarnation: 'i' },
    topics: [{ name: 't', id: 'x', partitions: 1, config: config as never, from: [3] }],
  })
  const json =
    '{"version":1,"createdMs":7,"source":{"kind":"embedded","incarnation":"i"},"topics":[{"name":"t","id":"x","partitions":1,"config":{"cleanup":"delete","retentionMs":-1,"deleteRetentionMs":1,"batchBytesMax":2},"from":[3]}]}'
  expect(header.toString('hex', 0, 8)).toBe('894d5245430d0a1a')
  expect(header.toString('hex', 8, 17)).toBe('f137499a000000dc48')
  expect(header.toString('utf8', 17)).toBe(json)
  const times = { minTimestamp: -1, maxTimestamp: 1_795_255_017_138 }
  const span = { topic: 1, partition: 2, from: 3, to: 2 ** 40, records: 5, ...times, bytes: 4 }
  const block = await encodeBlock([span], [Buffer.from('abcd')])
  const spanHex =
    '0001000000020000000000000003000001000000000000000005ffffffffffffffff000001a1fd899eb200000004'
  const body = frameBody(block)
  expect(body.toString('hex', 0, 54)).toBe(`0000000400000001${spanHex}`)
  expect(blockSpans(body)).toEqual([span])
  expect(await blockBatches(body, [span])).toEqual([Buffer.from('abcd')])
  const index = await encodeIndex([encodeEntry({ position: 17, size: 9, spans: [span] })], 99)
  expect(index.toString('hex', index.length - 16)).toBe('00000000000000634d5245434944581a')
})

test('by its index and by a scan a recording holds the same', async () => {
  const bytes = await sample()
  const byIndex = await openRecording(new MemoryFile(bytes))
  const byScan = await openRecording(new MemoryFile(bytes), { scan: true })
  expect(byIndex.isComplete).toBe(true)
  expect(byIndex.blocks.length).toBeGreaterThan(1)
  expect(byScan.blocks).toEqual(byIndex.blocks)
  expect(await contents(byScan)).toEqual(await contents(byIndex))
})

test('cut off anywhere it is read to its last whole block, or refused where no header is', async () => {
  const bytes = await sample()
  const whole = await openRecording(new MemoryFile(bytes))
  const all = await contents(whole)
  const ends = [...whole.blocks.slice(1).map(({ position }) => position), whole.end]
  const headerEnd = whole.blocks[0]!.position
  for (let size = 0; size < bytes.length; size++) {
    const file = new MemoryFile(bytes.subarray(0, size))
    if (size < headerEnd) {
      const code = size < 8 ? 'RECORDING_FOREIGN' : 'RECORDING_DAMAGED'
      await expect(openRecording(file)).rejects.toMatchObject({ code })
      continue
    }
    const cut = await openRecording(file)
    expect(cut.isComplete).toBe(false)
    expect(cut.blocks).toEqual(whole.blocks.slice(0, ends.filter(end => end <= size).length))
    expect(cut.damage === undefined || cut.damage.isTorn).toBe(true)
    const read = await contents(cut)
    expect(all).toEqual(expect.arrayContaining(read))
  }
})

test('one flipped bit anywhere is an error with its place, or changes nothing that is read', async () => {
  const bytes = await sample()
  const { end: indexAt } = await openRecording(new MemoryFile(bytes))
  const all = await contentsOf(new MemoryFile(bytes))
  let found = 0
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Buffer.from(bytes)
    flipped[at]! ^= 1 << (at % 8)
    try {
      const recording = await openRecording(new MemoryFile(flipped), { scan: true })
      const { damage } = await inspect(recording)
      const read = await contents(recording)
      if (damage === undefined) expect(read).toEqual(all)
      else {
        found++
        expect(damage.position).toBeLessThanOrEqual(at)
        expect(all).toEqual(expect.arrayContaining(read))
        expect(read.length < all.length).toBe(damage.position < indexAt)
      }
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error
      found++
      expect(error.code).toMatch(/^RECORDING_(FOREIGN|DAMAGED)$/)
    }
  }
  expect(found).toBeGreaterThan(bytes.length / 2)
})

test('a frame size that is damaged is no interruption: whole blocks follow it, or an index does', async () => {
  const bytes = await sample()
  const { blocks, end } = await openRecording(new MemoryFile(bytes))
  for (const [size, places] of [
    [bytes.length, [...blocks.map(({ position }) => position), end]],
    [end, blocks.slice(0, -1).map(({ position }) => position)],
  ] as const) {
    for (const position of places) {
      for (const bit of [0x0400_0000, 0x1000]) {
        const damaged = Buffer.from(bytes.subarray(0, size))
        damaged.writeUInt32BE((damaged.readUInt32BE(position + 4) ^ bit) >>> 0, position + 4)
        const { damage } = await openRecording(new MemoryFile(damaged), { scan: true })
        expect(damage).toMatchObject({ position, isTorn: false })
      }
    }
  }
})

test('read by its index, a flipped bit of a block is an error that names the block', async () => {
  const bytes = await sample()
  const { blocks } = await openRecording(new MemoryFile(bytes))
  const { position } = blocks[1]!
  bytes[position + 40]! ^= 4
  const recording = await openRecording(new MemoryFile(bytes))
  expect(recording.isComplete).toBe(true)
  await expect(contents(recording)).rejects.toThrow(`damaged at byte ${position}: its CRC does not`)
})

test('garbage, other files and later versions are refused as what they are', async () => {
  const random = new Random(5)
  for (let round = 0; round < 300; round++) {
    const bytes = Buffer.from(Array.from({ length: random.below(200) }, () => random.below(256)))
    const code = 'RECORDING_FOREIGN'
    await expect(openRecording(new MemoryFile(bytes))).rejects.toMatchObject({ code })
  }
  // Behind a good beginning: no exception but those of the catalogue.
  const good = await sample()
  for (let round = 0; round < 300; round++) {
    const bytes = Buffer.from(good)
    for (let i = random.below(60); i >= 0; i--)
      bytes[random.below(bytes.length)] = random.below(256)
    try {
      await inspect(await openRecording(new MemoryFile(bytes)))
    } catch (error) {
      expect(error).toBeInstanceOf(MillraceError)
    }
  }
  const source = { kind: 'embedded', incarnation: '' }
  const later = encodeHeader({ version: 2, createdMs: 0, source, topics: [] })
  await expect(openRecording(new MemoryFile(later))).rejects.toThrow(
    'version 2; this version reads 1',
  )
  await expect(openRecording(new MemoryFile())).rejects.toThrow('it is empty')
})

test('a header or a span of another shape is damage with its place, whatever its CRC says', async () => {
  const source = { kind: 'embedded', incarnation: '' }
  const topic = { name: 't', id: '', partitions: 1, config: {}, from: [0] }
  const good = { version: VERSION, createdMs: 0, source, topics: [topic] }
  const file = (header: unknown) => new MemoryFile(encodeHeader(header as RecordingHeader))
  expect((await openRecording(file(good))).damage).toBeUndefined()
  for (const header of [
    ...[null, 5, [], {}, { ...good, version: 'x' }, { ...good, createdMs: undefined }],
    ...[
      { ...good, createdMs: 1e16 },
      { ...good, source: { kind: 5 } },
      { ...good, source: null },
    ],
    { ...good, topics: [null] },
    ...[
      { from: [] },
      { from: [-1] },
      { from: null },
      { partitions: 2 },
      { config: 5 },
      { name: 5 },
    ].map(change => ({ ...good, topics: [{ ...topic, ...change }] })),
  ]) {
    const damaged = { code: 'RECORDING_DAMAGED', details: { position: 8 } }
    await expect(openRecording(file(header))).rejects.toMatchObject(damaged)
  }
  const later = { code: 'RECORDING_VERSION' }
  await expect(openRecording(file({ version: 2, inputs: [] }))).rejects.toMatchObject(later)
  const times = { minTimestamp: 0, maxTimestamp: 0 }
  const span = { topic: 0, partition: 0, from: 0, to: 1, records: 1, ...times, bytes: 0 }
  const empty = file(good)
  const position = empty.bytes.length
  await empty.append(await encodeBlock([span], []))
  expect((await openRecording(empty)).damage).toMatchObject({ position, isTorn: false })
})

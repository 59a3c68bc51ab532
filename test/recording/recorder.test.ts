import { describe, expect, test } from 'vitest'
import type { EmbeddedLog } from '../../log/embedded/index.ts'
import type { FetchRequest, TopicPartition } from '../../log/port.ts'
import { openRecording, readBlock } from '../../recording/reader.ts'
import { nextOffsets, record, resumeWriter } from '../../recording/recorder.ts'
import { environment, openOnMemory } from '../log/embedded/environment.ts'
import {
  append,
  contents,
  contentsOf,
  MemoryFile,
  recordInto,
  resumeInto,
  smallLog,
} from './worlds.ts'

const orders = (partition: number) => ({ topic: 'orders', partition })

test('batches are the bytes of the log, each partition in its order', async () => {
  const { log, dispose } = await smallLog()
  const file = new MemoryFile()
  expect(await recordInto(file, log)).toBe(24)
  const recording = await openRecording(file)
  for (const partition of [0, 1]) {
    const bytes: Buffer[] = []
    for (const entry of recording.blocks) {
      for (const data of await readBlock(recording, entry)) {
        if (data.span.partition === partition) bytes.push(data.bytes)
      }
    }
    const [stored] = await log.fetch([{ ...orders(partition), offset: 0, bytesMax: 1 << 20 }])
    expect(Buffer.concat(bytes).equals(stored!.bytes)).toBe(true)
  }
  await dispose()
})

test('a limit of records is kept exactly, and the rest comes with a resume', async () => {
  const { log, dispose } = await smallLog()
  const whole = new MemoryFile()
  await recordInto(whole, log)
  const all = await contentsOf(whole)
  for (let recordsMax = 1; recordsMax <= 24; recordsMax++) {
    const file = new MemoryFile()
    expect(await recordInto(file, log, { options: { recordsMax } })).toBe(recordsMax)
    expect(await contentsOf(file)).toHaveLength(recordsMax)
    expect(await resumeInto(file, log)).toBe(24 - recordsMax)
    expect(await contentsOf(file)).toEqual(all)
  }
  await dispose()
})

test('from a time, from now, and from inside a batch', async () => {
  const { log, dispose } = await smallLog()
  const first = async (from: 'now' | { timestampMs: number }) => {
    const file = new MemoryFile()
    const records = await recordInto(file, log, { from })
    return [records, (await contentsOf(file)).map(line => line.split(' ')[1])]
  }
  expect(await first('now')).toEqual([0, []])
  const later = ['7@2010', '8@2020', '9@3000', '10@3010', '11@3020']
  const other = ['6@2100', '7@2110', '8@2120', '9@3100', '10@3110', '11@3120']
  expect(await first({ timestampMs: 2010 })).toEqual([11, [...later, ...other]])
  await dispose()
})

test('what comes while it records is taken until the signal, and an empty topic stays empty', async () => {
  const { log, dispose } = await smallLog(1)
  const file = new MemoryFile()
  const ended = new AbortController()
  const recording = recordInto(file, log, {
    from: 'now',
    options: {
      toEnd: false,
      signal: ended.signal,
      onProgress: ({ records }) => records >= 2 && ended.abort(),
    },
  })
  await append(log, orders(1), [{ key: 'a', value: 'x' }])
  await append(log, orders(0), [{ key: 'b', value: 'y' }])
  expect(await recording).toBe(2)
  expect(await contentsOf(file)).toEqual(['orders-0: 3@0 b=y', 'orders-1: 3@0 a=x'])
  await dispose()
})

test('a duration ends it by the clock it was given', async () => {
  const { log, dispose } = await smallLog(1)
  let nowMs = 0
  const clock = () => (nowMs += 100)
  const options = { toEnd: false, durationMs: 900, environment: { clock } }
  expect(await recordInto(new MemoryFile(), log, { options })).toBe(6)
  expect(nowMs).toBeLessThan(2000)
  await dispose()
})

describe('an interrupted recording goes on', () => {
  test('from wherever it was cut off, with nothing lost and nothing twice', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 5 } })
    await resumeInto(file, log)
    const all = await contentsOf(file)
    const start = (await openRecording(file)).blocks[0]!.position
    await append(log, orders(0), [{ key: 'later', value: 'x' }])
    for (let size = start; size <= file.bytes.length; size++) {
      const cut = new MemoryFile(file.bytes.subarray(0, size))
      await resumeInto(cut, log)
      const recording = await openRecording(cut)
      expect(recording.isComplete).toBe(true)
      const lines = await contents(recording)
      expect(lines.filter(line => !line.endsWith('later=x'))).toEqual(all)
      expect(lines).toHaveLength(all.length + 1)
    }
    await dispose()
  })

  test('when the disk was full: what is there stays readable', async () => {
    const { log, dispose } = await smallLog()
    const whole = new MemoryFile()
    await recordInto(whole, log)
    const { blocks } = await openRecording(whole)
    const file = new MemoryFile()
    file.sizeMax = blocks[0]!.position + 100
    await expect(recordInto(file, log)).rejects.toThrow('cannot be written: ENOSPC')
    file.sizeMax = Number.POSITIVE_INFINITY
    await resumeInto(file, log)
    expect(await contentsOf(file)).toEqual(await contentsOf(whole))
    await dispose()
  })

  test('but not where it is damaged, nor on another log or topic', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 4 }, finish: false })
    const { blocks } = await openRecording(file)
    const damaged = new MemoryFile(file.bytes)
    damaged.bytes[blocks[0]!.position + 30]! ^= 1
    await expect(resumeInto(damaged, log)).rejects.toMatchObject({ code: 'RECORDING_DAMAGED' })
    expect(damaged.bytes.length).toBe(file.bytes.length)
    const other = await openOnMemory()
    await expect(resumeInto(file, other.log as EmbeddedLog)).rejects.toThrow('of another log')
    await other.dispose()
    await log.deleteTopic('orders')
    const again = () => openRecording(file).then(recording => resumeWriter(recording, log))
    await expect(again()).rejects.toThrow('topic orders is gone')
    await log.createTopic('orders', 2)
    await expect(again()).rejects.toThrow('topic orders was created anew')
    await dispose()
  })

  test('and cuts nothing off where the size of a frame is damaged, or the log lost its place', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 4 }, finish: false })
    await resumeInto(file, log)
    const { blocks, end } = await openRecording(file)
    const damaged = new MemoryFile(file.bytes.subarray(0, end))
    damaged.bytes[blocks[0]!.position + 4]! ^= 4
    await expect(resumeInto(damaged, log)).rejects.toMatchObject({ code: 'RECORDING_DAMAGED' })
    expect(damaged.bytes.length).toBe(end)
    const torn = new MemoryFile(file.bytes.subarray(0, end - 1))
    await log.deleteRecords(orders(0), 6)
    await log.deleteRecords(orders(1), 6)
    const recording = await openRecording(torn)
    expect(recording.damage?.isTorn).toBe(true)
    const refused = { code: 'RECORD_SOURCE_LOST' }
    await expect(resumeWriter(recording, log)).rejects.toMatchObject(refused)
    expect(torn.bytes.length).toBe(end - 1)
    await dispose()
  })

  test('and says so when the log has lost what comes next', async () => {
    const { log, dispose } = await smallLog(2)
    const file = new MemoryFile()
    await recordInto(file, log, { options: { recordsMax: 2 } })
    await log.deleteRecords(orders(0), 4)
    await expect(resumeInto(file, log)).rejects.toThrow(
      'Offset 2 of orders-0 can no longer be recorded: the log holds 4 to 6',
    )
    await dispose()
  })
})

test('what two processes wrote at once is damaged where records come again', async () => {
  const { log, dispose } = await smallLog(2)
  const file = new MemoryFile()
  await recordInto(file, log)
  await append(log, orders(0), [{ key: 'new', value: 'once' }])
  const open = async () => {
    const recording = await openRecording(file)
    const writer = await resumeWriter(recording, log)
    return { writer, offsets: nextOffsets(recording) }
  }
  const both = [await open(), await open()]
  const all = { source: log, environment, toEnd: true }
  for (const one of both) expect(await record({ ...all, ...one })).toBe(1)
  for (const { writer } of both) await writer.finish()
  const { damage, blocks } = await openRecording(file)
  expect(blocks).toHaveLength(2)
  expect(damage).toMatchObject({ isTorn: false, reason: expect.stringContaining('before') })
  await expect(resumeInto(file, log)).rejects.toMatchObject({ code: 'RECORDING_DAMAGED' })
  await dispose()
})

test('blocks behind an index are not passed over', async () => {
  const { log, dispose } = await smallLog(2)
  const file = new MemoryFile()
  await recordInto(file, log, { options: { recordsMax: 4 } })
  await file.append(file.bytes.subarray((await openRecording(file)).blocks[0]!.position))
  const { damage } = await openRecording(file)
  expect(damage).toMatchObject({ isTorn: false, reason: 'more follows its index' })
  await dispose()
})

test('a log that fails ends it; what was taken before is in the file', async () => {
  const { log, dispose } = await smallLog(2)
  const file = new MemoryFile()
  let fetches = 0
  const source = {
    incarnation: log.incarnation,
    offsets: (targets: readonly TopicPartition[]) => log.offsets(targets),
    describeTopic: (name: string) => log.describeTopic(name),
    offsetForTimestamp: async () => 0,
    fetch: async (requests: readonly FetchRequest[]) => {
      if (++fetches > 1) throw new Error('no broker answers')
      return log.fetch(requests)
    },
  }
  const options = { source, toEnd: false }
  await expect(recordInto(file, log, { options })).rejects.toThrow('no broker answers')
  expect(await contentsOf(file)).toHaveLength(12)
  await dispose()
})

test('a topic that is not there is named', async () => {
  const { log, dispose } = await smallLog(1)
  const file = new MemoryFile()
  await expect(recordInto(file, log, { topics: ['absent'] })).rejects.toThrow(
    'absent does not exist',
  )
  expect(file.bytes.length).toBe(0)
  await dispose()
})

import { expect, test } from 'vitest'
import { openRecording } from '../../recording/reader.ts'
import { timeline } from '../../recording/timeline.ts'
import { MemoryFile, recordInto, resumeInto, smallLog } from './worlds.ts'

/** Places and stream times of what is delivered, and the error that ends it. */
async function delivered(file: MemoryFile) {
  const lines: string[] = []
  const times: number[] = []
  try {
    for await (const runs of timeline(await openRecording(file))) {
      for (const { topic, partition, columns, streamTimes, start, end } of runs) {
        for (let i = start; i < end; i++) {
          lines.push(`${topic}-${partition}: ${columns.offsets[i]}`)
          times.push(streamTimes[i]!)
        }
      }
    }
  } catch (error) {
    return { lines, times, error: (error as Error).message }
  }
  return { lines, times, error: undefined }
}

test('what lies before a damaged block is delivered in the order of time, then the error', async () => {
  const { log, dispose } = await smallLog(4)
  const file = new MemoryFile()
  await recordInto(file, log, { options: { recordsMax: 5 } })
  for (const recordsMax of [4, 8]) await resumeInto(file, log, { recordsMax })
  await resumeInto(file, log)
  await dispose()
  const { blocks } = await openRecording(file)
  expect(blocks).toHaveLength(4)
  for (const { position, size } of blocks) {
    const damaged = new MemoryFile(file.bytes)
    damaged.bytes[position + size]! ^= 1
    const { lines, times, error } = await delivered(damaged)
    expect(error).toContain(`is damaged at byte ${position}: its CRC does not match`)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
    const before = await delivered(new MemoryFile(file.bytes.subarray(0, position)))
    expect(lines).toEqual(expect.arrayContaining(before.lines))
    for (const partition of ['0-0', '0-1']) {
      const own = lines.filter(line => line.startsWith(partition))
      expect(own).toEqual(own.map((_, offset) => `${partition}: ${offset}`))
    }
  }
})

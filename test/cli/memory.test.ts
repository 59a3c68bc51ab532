import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { cachedRowsBytes, MEMORY_MIB, memoryOf } from '../../cli/memory.ts'
import { readSettings } from '../../cli/settings.ts'

const MIB = 2 ** 20
const roomy = { heapBytes: 4096 * MIB, containerBytes: 0 }
const memory = (text: string) => readSettings(['memory'], {}, { MEMORY: text }).memory

test('MEMORY is MiB, and a quarter of it is for cached rows', () => {
  expect(memory('1024')).toBe(1024)
  expect(memoryOf(memory('1024'), roomy)).toBe(1024)
  expect(cachedRowsBytes(1024)).toBe(256 * MIB)
  for (const text of ['255', '1g', '-1', '1e4', '100000000']) {
    expect(() => memory(text)).toThrow('MEMORY: expected MiB, an integer of at least 256')
  }
})

test('unless MEMORY is set, a process takes no more than its container and its heap', () => {
  expect(memoryOf(undefined, roomy)).toBe(MEMORY_MIB)
  // What Node says where no container bounds it: as on cgroup 1, and as on cgroup 2.
  expect(memoryOf(undefined, { ...roomy, containerBytes: 2 ** 63 })).toBe(MEMORY_MIB)
  expect(memoryOf(undefined, { ...roomy, containerBytes: 700 * MIB })).toBe(700)
  expect(memoryOf(undefined, { ...roomy, containerBytes: 64 * MIB })).toBe(256)
  expect(memoryOf(undefined, { ...roomy, heapBytes: 500 * MIB })).toBe(1000)
})

test('a MEMORY whose rows the heap does not take is refused, saying what heap it needs', () => {
  expect(() => memoryOf(8192 + 1, roomy)).toThrow(
    /MEMORY: with 8193 MiB the heap must take 4097 MiB, .* takes 4096: set NODE_OPTIONS=--max-old-space-size=4097/,
  )
  expect(memoryOf(8192, roomy)).toBe(8192)
  // A container may have more than it says: what is asked counts.
  expect(memoryOf(2048, { ...roomy, containerBytes: 700 * MIB })).toBe(2048)
})

test('npm start and the image run with the same settings of the allocator', () => {
  const settings = (file: string) =>
    readFileSync(join(import.meta.dirname, '../..', file), 'utf8').match(/\bMALLOC_\w+=\d+/g)
  expect(settings('package.json')).toHaveLength(3)
  expect(settings('Dockerfile')).toEqual(settings('package.json'))
})

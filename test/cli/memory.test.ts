import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { cachedRowsBytes, MEMORY_MIB, memoryOf } from '../../cli/memory.ts'
import { readSettings } from '../../cli/settings.ts'

const MIB = 2 ** 20
const root = join(import.meta.dirname, '../..')
/** As V8 counts: with its young generation. */
const heap = (oldMiB: number) => (oldMiB + 192) * MIB
const roomy = { heapBytes: heap(4096), containerBytes: 0 }
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
  expect(memoryOf(undefined, { ...roomy, containerBytes: 1024 * MIB })).toBe(768)
  expect(memoryOf(undefined, { ...roomy, containerBytes: 64 * MIB })).toBe(48)
  expect(memoryOf(undefined, { ...roomy, heapBytes: heap(500) })).toBe(1000)
  expect(memoryOf(undefined, { ...roomy, heapBytes: heap(64) })).toBe(128)
})

test('a MEMORY whose rows the heap does not take is refused, saying what heap it needs', () => {
  expect(() => memoryOf(8192 + 1, roomy)).toThrow(
    /MEMORY: 8193 MiB need 4097 MiB .* has 4096: set NODE_OPTIONS=--max-old-space-size=4097/,
  )
  expect(memoryOf(8192, roomy)).toBe(8192)
  // A container may have more than it says: what is asked counts.
  expect(memoryOf(2048, { ...roomy, containerBytes: 700 * MIB })).toBe(2048)
})

test.each([64, 256])('a heap of %i MiB takes the rows that are cached by default', async oldMiB => {
  const script = `
    const { cachedRowsBytes, memoryBounds, memoryOf } = await import('./cli/memory.ts')
    const { openRowStore } = await import('./state/row-store.ts')
    const { MemoryDatabase } = await import('./state/memory-database.ts')
    const cacheBytesMax = cachedRowsBytes(memoryOf(undefined, memoryBounds()))
    const database = new MemoryDatabase()
    // Rows are kept nowhere but in the cache.
    database.getMany = async keys => keys.map(() => Buffer.alloc(100))
    const codec = { encode: text => Buffer.from(text), decode: bytes => bytes.toString('latin1') }
    const options = { name: 'rows', partition: 0, codec, database, cacheBytesMax }
    const store = await openRowStore(options)
    store.put('z', 'z')
    await store.prefetch(['z'])
    for (let i = 0; i < (2 * cacheBytesMax) / 350; i += 1000) {
      await store.prefetch(Array.from({ length: 1000 }, (_, j) => 'key' + (i + j)))
      store.seal(0)
      store.applied()
    }
    console.log(store.metrics.cachedBytes > 0.9 * cacheBytesMax)
  `
  const args = [`--max-old-space-size=${oldMiB}`, '--input-type=module', '-e', script]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root })
  expect(stdout).toBe('true\n')
})

test('npm start and the image run with the same settings of allocator and collector', () => {
  const settings = (file: string) =>
    readFileSync(join(root, file), 'utf8').match(/\bMALLOC_\w+=\d+|--max-semi-space-size=\d+/g)
  expect(settings('package.json')).toHaveLength(4)
  expect(settings('Dockerfile')).toEqual(settings('package.json'))
})

/** How the memory that a process may take is shared out (docs/OPERATIONS.md, Memory). */
import { getHeapStatistics } from 'node:v8'
import { cliError } from './errors.ts'

/**
 * Of the memory, for cached rows. The rest is what the collector has not taken back yet, batches on
 * their way, the code, and RocksDB.
 */
const CACHED_SHARE = 1 / 4
/** Of the old generation, for cached rows at most: beside them it holds what comes and goes. */
const OLD_SHARE = 1 / 2
/** What V8 counts into its limit for the young generation, where rows do not stay. */
const YOUNG_MIB = 192
/** Of a container, which ends who passes its limit; the budget may be passed by a little. */
const CONTAINER_SHARE = 3 / 4
const MIB = 2 ** 20
const MEMORY_MIB_MIN = 256

/** What a process takes where nobody says and nothing bounds it. */
export const MEMORY_MIB = 2048

export interface MemoryBounds {
  /** At which V8 gives up, bytes: `heap_size_limit`. */
  readonly heapBytes: number
  /** Of the container, bytes; 0, or more than there is, where there is none. */
  readonly containerBytes: number
}

export function memoryBounds(): MemoryBounds {
  const heapBytes = getHeapStatistics().heap_size_limit
  return { heapBytes, containerBytes: process.constrainedMemory() }
}

/**
 * MiB that the process is to stay within: what is asked, else `MEMORY_MIB` or what the container or
 * the heap allows. Throws SETTINGS_INVALID where the heap is too small for what is asked.
 */
export function memoryOf(askedMiB: number | undefined, bounds: MemoryBounds): number {
  const oldMiB = Math.max(Math.floor(bounds.heapBytes / MIB) - YOUNG_MIB, 0)
  const takesMiB = Math.floor((oldMiB * OLD_SHARE) / CACHED_SHARE)
  if (askedMiB === undefined) {
    const containerMiB = Math.floor((bounds.containerBytes / MIB) * CONTAINER_SHARE)
    return Math.min(MEMORY_MIB, takesMiB, containerMiB || Number.POSITIVE_INFINITY)
  }
  if (askedMiB <= takesMiB) return askedMiB
  const neededMiB = Math.ceil((askedMiB * CACHED_SHARE) / OLD_SHARE)
  const problems =
    `  MEMORY: ${askedMiB} MiB need ${neededMiB} MiB of the heap for what lives long, and this ` +
    `process has ${oldMiB}: set NODE_OPTIONS=--max-old-space-size=${neededMiB}`
  throw cliError('SETTINGS_INVALID', { problems })
}

/** An integer of MiB; nothing for as much as fits. */
export function parseMemory(text: string): number | undefined {
  if (text === '') return undefined
  const memoryMiB = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN
  if (memoryMiB >= MEMORY_MIB_MIN) return memoryMiB
  throw new Error(`MiB, an integer of at least ${MEMORY_MIB_MIN}`)
}

/** Bytes of cached rows, of a process that may take so many MiB. */
export function cachedRowsBytes(memoryMiB: number): number {
  return Math.floor(memoryMiB * MIB * CACHED_SHARE)
}

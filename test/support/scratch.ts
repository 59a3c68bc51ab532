/** A folder for the tests of a file, or of the `describe` around the call; gone after them. */
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { scratchFolder } from './service-process.ts'

/** Paths in it; of '' its own. */
export function scratchPaths(): (name: string) => string {
  let folder: Awaited<ReturnType<typeof scratchFolder>>
  beforeAll(async () => {
    folder = await scratchFolder()
  })
  afterAll(() => folder.remove())
  return name => join(folder.path, name)
}

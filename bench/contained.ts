/**
 * What a bench starts and writes ends with it, however it ends: its processes carry a mark, and all
 * temporary files of theirs are in one folder.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { childEnvironment, endStrays } from '../test/support/processes.ts'

/** To be called once, before anything is started. */
export function contain(): void {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  Object.assign(process.env, childEnvironment, { TMPDIR: folder })
  process.on('exit', () => {
    endStrays()
    // What was killed may write for another moment.
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => process.exit(128 + constants.signals[signal]))
  }
}

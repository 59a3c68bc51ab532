/**
 * Forces the database's log to the disk now and then: what was acknowledged longer ago than the
 * interval survives a power cut. A disk that fails at it has to be known of, and a later success
 * proves nothing for what was lost: the first failure ends the service.
 */
import type { Database } from '../log/database.ts'
import type { LogEnvironment } from '../log/port.ts'

export interface SyncTimer {
  /** Rejects with the first failure; never resolves. */
  readonly failed: Promise<never>
  /** Resolves when no sync runs any more. */
  stop(): Promise<void>
}

/** Syncs never overlap: the interval begins again when one is done. Infinity: none. */
export function syncEvery(
  database: Required<Pick<Database, 'sync'>>,
  intervalMs: number,
  { schedule }: Pick<LogEnvironment, 'schedule'>,
): SyncTimer {
  let fail!: (error: unknown) => void
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  // Whoever waits for it learns of it; nobody has to.
  failed.catch(() => {})
  let stopped = intervalMs === Number.POSITIVE_INFINITY
  let running: Promise<void> = Promise.resolve()
  let cancel = () => {}
  const again = () => {
    if (!stopped) cancel = schedule(run, intervalMs)
  }
  const run = () => {
    running = database.sync().then(again, fail)
  }
  again()
  return {
    failed,
    stop() {
      stopped = true
      cancel()
      return running
    },
  }
}

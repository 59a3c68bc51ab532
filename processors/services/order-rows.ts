/**
 * The row that a service has of each order: it is forgotten `keepMs` after its first event, and
 * after that was read. By event time alone a backlog of more than that would be forgotten while the
 * other services' answers to it are still to come.
 */
import type { KeyedRows, ProcessorRecord, Timer } from '../../streams/index.ts'

type OrderRows<R> = KeyedRows<string, R>

interface Scheduler {
  schedule(timer: Timer<string>): void
  readonly wallTimeMs: number
}

const forget = 'forget'

/** The row of a record's order; undefined where nothing was heard of it before. */
export function rowOf<R>(
  rows: OrderRows<R>,
  { key, timeMs }: Pick<ProcessorRecord<string, unknown>, 'key' | 'timeMs'>,
  context: Scheduler,
  keepMs: number,
): R | undefined {
  const row = rows.get(key)
  if (row === undefined) {
    const atMs = Math.max(timeMs, context.wallTimeMs) + keepMs
    context.schedule({ clock: 'wall', atMs, key, name: forget })
  }
  return row
}

/** The row that a timer has something to do with; when its time is over, it is forgotten. */
export function timedRow<R>(rows: OrderRows<R>, { key, name }: Timer<string>): R | undefined {
  if (name !== forget) return rows.get(key)
  rows.delete(key)
  return undefined
}

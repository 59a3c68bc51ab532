/**
 * The log's incarnation (law 20): it changes when an acknowledged tail may be gone, which only
 * a machine that went down can cause. A killed process loses nothing: what was acknowledged is
 * in the operating system.
 */
import type { Database } from '../database.ts'
import type { LogEnvironment } from '../port.ts'
import { decodeJson, encodeJson, type IncarnationRow, incarnationKey } from './keys.ts'

async function write(database: Database, row: IncarnationRow): Promise<void> {
  const batch = database.batch()
  batch.put(incarnationKey, encodeJson(row))
  await batch.commit()
  await database.sync?.()
}

/**
 * Reads or makes the incarnation and marks the log as in use. A clean end is only believed of
 * a database that can sync: elsewhere a power cut could take the mark of the next start with
 * the tail, and show the clean end before it again.
 */
export async function openIncarnation(
  database: Database,
  environment: LogEnvironment,
  bootId: string,
): Promise<IncarnationRow> {
  const [value] = await database.getMany([incarnationKey])
  const found = value && decodeJson<IncarnationRow>(value, 'the incarnation')
  const sure = found && (found.bootId === bootId || (found.clean && database.sync))
  const row: IncarnationRow = {
    incarnation: sure ? found.incarnation : environment.randomBytes(8).toString('hex'),
    bootId,
    clean: false,
  }
  await write(database, row)
  return row
}

/** Marks the end as clean. Nothing is written to the log afterwards. */
export async function closeIncarnation(database: Database, row: IncarnationRow): Promise<void> {
  await database.sync?.()
  await write(database, { ...row, clean: true })
}

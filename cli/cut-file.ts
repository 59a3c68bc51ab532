/**
 * What a salvage cuts off and can still be read, as lines of JSON (`record-lines.ts`): events in
 * the form that `millrace import` takes.
 */
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import type { Database } from '../log/database.ts'
import { batchKey, OFFSET_END } from '../log/embedded/keys.ts'
import { decodeBatches } from '../log/record-columns.ts'
import { type LinePlace, recordLine } from './record-lines.ts'
import type { Cut } from './salvage-plan.ts'

/** Writes the readable records of a cut; resolves with the file and how many there were. */
export async function writeCutFile(
  database: Database,
  folder: string,
  { report, from }: Cut,
): Promise<{ readonly path: string; readonly records: number }> {
  const path = join(folder, `${report.topic}-${report.partition}-from-${from}.ndjson`)
  const file = createWriteStream(path, { flags: 'wx' })
  let records = 0
  let gte = batchKey(report.id, from)
  const lt = batchKey(report.id, OFFSET_END)
  for (const to of [...report.unreadable, undefined]) {
    const end = to === undefined ? lt : batchKey(report.id, to.from)
    try {
      for await (const entries of database.scan({ gte, lt: end })) {
        for (const { value } of entries)
          records += writeBatch(value, report, line => {
            file.write(`${line}\n`)
          })
      }
    } catch {
      // More is unreadable than was found: what has been read is in the file.
    }
    if (to?.to !== undefined) gte = batchKey(report.id, Math.max(to.to, from))
  }
  file.end()
  await finished(file)
  return { path, records }
}

function writeBatch(bytes: Buffer, place: LinePlace, write: (line: string) => void): number {
  let records = 0
  try {
    for (const columns of decodeBatches(bytes).runs) {
      for (let i = 0; i < columns.length; i++) write(recordLine(place, columns, i))
      records += columns.length
    }
  } catch {
    // The damaged batches themselves are only in the database that was set aside.
  }
  return records
}

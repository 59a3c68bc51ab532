/**
 * What a salvage cuts off and can still be read, as lines of JSON: events in the form that
 * `millrace import` takes, other records with their bytes in base64.
 */
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { decodeEvent } from '../contracts/event-codec.ts'
import type { Database } from '../log/database.ts'
import { batchKey, OFFSET_END } from '../log/embedded/keys.ts'
import { decodeBatches, type RecordColumns } from '../log/record-columns.ts'
import { readHeaders } from '../log/record-headers.ts'
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
          records += writeBatch(value, report.topic, line => {
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

function writeBatch(bytes: Buffer, topic: string, write: (line: string) => void): number {
  let records = 0
  try {
    for (const columns of decodeBatches(bytes).runs) {
      for (let i = 0; i < columns.length; i++) write(lineOf(topic, columns, i))
      records += columns.length
    }
  } catch {
    // The damaged batches themselves are only in the database that was set aside.
  }
  return records
}

function lineOf(topic: string, columns: RecordColumns, i: number): string {
  const { bytes, keyStart, keyEnd, valueStart, valueEnd } = columns
  const timestamp = columns.timestamps[i]!
  const headers = Object.fromEntries(
    readHeaders(columns, i).map(([name, value]) => [name, value?.toString() ?? '']),
  )
  const base64 = (start: number, end: number) =>
    start < 0 ? null : bytes.toString('base64', start, end)
  try {
    const { type, ...value } = decodeEvent(bytes, valueStart[i]!, valueEnd[i]!)
    const key = bytes.utf8Slice(keyStart[i]!, keyEnd[i]!)
    return JSON.stringify({ topic, type, key, timestamp, value, headers })
  } catch {
    const key = base64(keyStart[i]!, keyEnd[i]!)
    const value = base64(valueStart[i]!, valueEnd[i]!)
    const offset = columns.offsets[i]
    return JSON.stringify({ topic, offset, timestamp, key, value, headers })
  }
}

/** `log`: the embedded log alone, 1 M records of about 100 B in batches of 1,000. */
import type { EventLog } from '../log/port.ts'
import { RecordBatchBuilder } from '../log/record-batch-builder.ts'
import { decodeBatches } from '../log/record-columns.ts'
import { withBed } from './environment.ts'
import { type Figure, measured } from './report.ts'

export const RECORDS = 1_000_000
const BATCH = 1_000
const target = { topic: 'bench', partition: 0 }

/** The records, in batches. */
export function* builtBatches(): Generator<Buffer> {
  const value = Buffer.alloc(85, 'x')
  const builder = new RecordBatchBuilder()
  for (let i = 0; i < RECORDS; i += BATCH) {
    for (let j = 0; j < BATCH; j++) {
      const key = Buffer.from(`order-${i + j}`)
      const slice = { bytes: key, start: 0, end: key.length }
      builder.append(i + j, slice, { bytes: value, start: 0, end: value.length })
    }
    yield builder.finish()
  }
}

/** Appends them to the topic `bench`, a transaction each. */
export async function appendBatches(
  log: EventLog,
  batches: Iterable<Buffer> = builtBatches(),
): Promise<void> {
  for (const batch of batches) {
    const transaction = log.begin()
    transaction.append(target, batch)
    await transaction.commit()
  }
}

export async function logBench(): Promise<Figure[]> {
  const figures: Figure[] = []
  await withBed(async ({ log }) => {
    await log.createTopic('bench', 1)
    const append = await measured(() => appendBatches(log))
    let read = 0
    const fetch = await measured(async () => {
      for (let offset = 0; offset < RECORDS; ) {
        const [response] = await log.fetch([{ ...target, offset, bytesMax: 1 << 20 }])
        const { runs, nextOffset } = decodeBatches(response!.bytes, { fromOffset: offset })
        for (const columns of runs) read += columns.length
        offset = nextOffset
      }
    })
    if (read !== RECORDS) throw new Error(`read ${read} of ${RECORDS} records`)
    const perSecond = (ms: number) => (RECORDS / ms) * 1000
    figures.push(
      { name: 'append', value: perSecond(append.ms), unit: 'records/s' },
      { name: 'appendCpu', value: append.cpuUs / RECORDS, unit: 'µs/record' },
      { name: 'read', value: perSecond(fetch.ms), unit: 'records/s, decoded, CRC checked' },
      { name: 'readCpu', value: fetch.cpuUs / RECORDS, unit: 'µs/record' },
    )
  })
  return figures
}

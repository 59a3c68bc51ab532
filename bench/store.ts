/** `store`: RocksDB as the stores use it, 19-B keys, 100-B values, batches of 5,000. */
import { withBed } from './environment.ts'
import { type Figure, measured } from './report.ts'

const ROWS = 500_000
const BATCH = 5_000

export async function storeBench(): Promise<Figure[]> {
  const figures: Figure[] = []
  await withBed(async ({ database }) => {
    const order = Array.from({ length: ROWS }, (_, i) => (i * 7919) % ROWS)
    const key = (i: number) => Buffer.from(`Sbench-row-${String(i).padStart(8, '0')}`)
    const value = Buffer.alloc(100, 'v')
    const put = await measured(async () => {
      for (let i = 0; i < ROWS; i += BATCH) {
        const batch = database.batch()
        for (let j = 0; j < BATCH; j++) batch.put(key(order[i + j]!), value)
        await batch.commit()
      }
    })
    let hits = 0
    const get = async (offset: number) => {
      for (let i = 0; i < ROWS; i += BATCH) {
        const keys = Array.from({ length: BATCH }, (_, j) => key(order[i + j]! + offset))
        for (const found of await database.getMany(keys)) if (found !== null) hits++
      }
    }
    const hit = await measured(() => get(0))
    if (hits !== ROWS) throw new Error(`found ${hits} of ${ROWS} rows`)
    const miss = await measured(() => get(ROWS))
    let scanned = 0
    const scan = await measured(async () => {
      const range = { gte: Buffer.from('S'), lt: Buffer.from('T') }
      for await (const chunk of database.scan(range)) scanned += chunk.length
    })
    const each = (run: { ms: number }) => (run.ms * 1000) / ROWS
    figures.push(
      { name: 'put', value: each(put), unit: 'µs/row' },
      { name: 'putCpu', value: put.cpuUs / ROWS, unit: 'µs/row' },
      { name: 'multiGetHit', value: each(hit), unit: 'µs/row' },
      { name: 'multiGetMiss', value: each(miss), unit: 'µs/row' },
      { name: 'scan', value: (scan.ms * 1000) / scanned, unit: 'µs/row' },
    )
  })
  return figures
}

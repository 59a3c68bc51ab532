import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { openRocksDB } from '../../state/rocksdb.ts'
import { orderLines } from '../support/order-lines.ts'
import { damageBatch, flipLastBit } from '../support/poisoned-log.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const startMs = Date.UTC(2026, 0, 5)
const ORDERS = 24
const closing: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function start(dataDir: string): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, ['--no-demo'])
  closing.push(() => service.kill())
  return service
}

const doctor = (dataDir: string, ...flags: string[]) =>
  millrace(['doctor', '--data-dir', dataDir, ...flags])

const positionOf = async (service: ServiceProcess) =>
  (await service.get<{ position: string }>('/v1/views/order-volume/rows')).position

/** Orders counted by the view. */
async function counted(service: ServiceProcess, position: string) {
  const rows = await service.rows('order-volume', position)
  return rows.reduce((sum, row) => sum + (row.orders as number), 0)
}

/** A folder in which each order is a batch of its own. */
async function folder(): Promise<{ dataDir: string; position: string }> {
  const { path: dataDir, remove } = await scratchFolder()
  closing.push(remove)
  const service = await start(dataDir)
  let position = ''
  for (let i = 0; i < ORDERS; i++) position = await service.post([orderLines(i, startMs).order])
  expect(await counted(service, position)).toBe(ORDERS)
  await service.stop()
  return { dataDir, position }
}

interface Report {
  readonly sound: boolean
  readonly partitions: readonly {
    readonly topic: string
    readonly partition: number
    readonly records: number
    readonly endOffset: number
    readonly problems: readonly string[]
  }[]
  readonly stores: readonly { readonly store: string; readonly problems: readonly string[] }[]
}

const report = async (dataDir: string): Promise<Report> =>
  JSON.parse((await doctor(dataDir, '--json')).output)

test('a folder at rest is read through; one in use is refused', async () => {
  const { dataDir } = await folder()
  const { code, output } = await doctor(dataDir)
  expect([code, output]).toEqual([0, expect.stringContaining('Nothing is damaged.')])
  const { sound, partitions, stores } = await report(dataDir)
  expect(sound).toBe(true)
  const orders = partitions.filter(({ topic }) => topic === 'orders')
  expect(orders.reduce((sum, { records }) => sum + records, 0)).toBe(ORDERS)
  expect(stores.map(({ store }) => store)).toContain('analytics.order-volume')
  const service = await start(dataDir)
  const refused = await doctor(dataDir)
  expect([refused.code, refused.output]).toEqual([1, expect.stringContaining(service.url)])
  await service.stop()
  const missing = await doctor(join(dataDir, 'nothing'))
  expect([missing.code, missing.output]).toEqual([1, expect.stringContaining('no database')])
})

test('a damaged batch of the input is found, cut, and what followed it can be imported', async () => {
  const { dataDir } = await folder()
  const before = await report(dataDir)
  const { partition, endOffset } = before.partitions
    .filter(({ topic }) => topic === 'orders')
    .reduce((a, b) => (a.endOffset > b.endOffset ? a : b))
  const database = await openRocksDB(join(dataDir, 'db'))
  await damageBatch(database, { topic: 'orders', partition, offset: 2 }, flipLastBit)
  await database.close()

  const found = await doctor(dataDir)
  expect(found.code).toBe(1)
  expect(found.output).toContain(`orders-${partition}: the batch at offset 2: its CRC`)
  const unasked = await doctor(dataDir, '--salvage')
  expect([unasked.code, unasked.output]).toEqual([2, expect.stringContaining('--yes')])
  const { code, output } = await doctor(dataDir, '--salvage', '--yes')
  expect(output).toContain(`cuts orders-${partition} at offset 2 (it ended at ${endOffset})`)
  expect(output).toContain('begins analytics anew at the start of its input')
  expect(code).toBe(0)
  const [, records, cutFile] = /^(\d+) readable records .* are in (.*)$/m.exec(output)!
  expect(Number(records)).toBe(endOffset - 3)
  expect((await doctor(dataDir)).output).toContain('Nothing is damaged.')

  const service = await start(dataDir)
  // It begins anew, so views fill up again.
  const now = async () => counted(service, await positionOf(service))
  await expect.poll(now, { timeout: 20_000 }).toBe(ORDERS - (endOffset - 2))
  const imported = await millrace(['import', cutFile!, '--data-dir', dataDir, '--json'])
  expect(imported.code, imported.output).toBe(0)
  const answer = JSON.parse(imported.output) as { accepted: number; position: string }
  expect(answer.accepted).toBe(endOffset - 3)
  expect(await counted(service, answer.position)).toBe(ORDERS - 1)
  const aside = (await readdir(dataDir)).filter(name => name.startsWith('db-damaged-'))
  expect(aside).toHaveLength(1)
})

test('a store whose rows are damaged is restored from its changelog, and nothing is cut', async () => {
  const { dataDir } = await folder()
  const database = await openRocksDB(join(dataDir, 'db'))
  const batch = database.batch()
  for await (const rows of database.scan({
    gte: Buffer.from('Sanalytics.order-volume\0'),
    lt: Buffer.from('Sanalytics.order-volume\x01'),
  })) {
    for (const { key } of rows) batch.put(key, Buffer.from('no row'))
  }
  await batch.commit()
  await database.close()
  const found = await doctor(dataDir)
  expect(found.output).toMatch(/analytics.order-volume\/\d: row .*: /)
  const { code, output } = await doctor(dataDir, '--salvage', '--yes')
  expect(output).toMatch(/restores analytics.order-volume\/\d from its changelog/)
  expect(output).not.toContain('anew')
  expect(code).toBe(0)
  const service = await start(dataDir)
  expect(await counted(service, await positionOf(service))).toBe(ORDERS)
})

test('damage stops the start with the place and what to do; positions of before are refused', async () => {
  const { dataDir, position } = await folder()
  const names = (await readdir(join(dataDir, 'db'))).filter(name => name.endsWith('.log'))
  const path = join(dataDir, 'db', names.sort().at(-1)!)
  const bytes = await readFile(path)
  bytes[bytes.length >> 1]! ^= 16
  await writeFile(path, bytes)
  await expect(start(dataDir)).rejects.toThrow(/is damaged.*`millrace doctor --salvage`/)
  const found = await doctor(dataDir)
  expect([found.code, found.output]).toEqual([1, expect.stringContaining('the database: ')])
  const { code, output } = await doctor(dataDir, '--salvage', '--yes')
  expect([code, output]).toEqual([0, expect.stringContaining('keeps the readable prefix')])
  const service = await start(dataDir)
  const headers = { 'millrace-position': position }
  const answer = await service.get<{ code: string }>('/v1/views/order-volume/rows', headers)
  expect(answer.code).toBe('POSITION_LOST')
})

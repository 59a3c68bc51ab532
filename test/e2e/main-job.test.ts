import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { effects } from '../../cli/effects.ts'
import { openEmbeddedLog } from '../../log/embedded/index.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import { header } from '../../log/record-headers.ts'
import { type DemoSnapshot, DemoWorld } from '../../processors/demo/world.ts'
import { openRocksDB } from '../../state/rocksdb.ts'
import { eventLines } from '../support/order-lines.ts'
import { childEnvironment, root } from '../support/processes.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const startMs = Date.UTC(2026, 0, 5)
const closing: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function scratch(): Promise<string> {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  return path
}

async function start(
  dataDir: string,
  flags: readonly string[] = ['--no-demo'],
  environment: NodeJS.ProcessEnv = {},
): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, flags, environment)
  closing.push(() => service.kill())
  return service
}

interface Row {
  readonly [field: string]: unknown
}

const sum = (rows: readonly Row[], field: string) =>
  rows.reduce((total, row) => total + (row[field] as number), 0)

async function allRows(service: ServiceProcess, position: string): Promise<Record<string, Row[]>> {
  const { views } = await service.get<{ views: { name: string }[] }>('/v1/views')
  const rows: Record<string, Row[]> = {}
  for (const { name } of views) rows[name] = await service.rows(name, position)
  return rows
}

// How soon is a figure of `bench startup`.
test('the demo shows rows by itself, and two signals end it with 0', async () => {
  const service = await start(await scratch(), [])
  const readyMs = Date.now()
  let rows: Row[] = []
  while (rows.length === 0 && Date.now() - readyMs < 60_000) {
    const page = await service.get<{ rows: Row[] }>('/v1/views/order-volume/rows')
    rows = page.rows
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  expect(rows.length).toBeGreaterThan(0)
  expect(service.stdout).toBe(`millrace ready ${service.url}\n`)
  service.child.kill('SIGTERM')
  await new Promise(resolve => setTimeout(resolve, 20))
  service.child.kill('SIGTERM')
  expect(await service.exited).toEqual({ code: 0, signal: null })
})

test.each(['npm alone', 'the whole group'])('a SIGTERM to %s ends npm start with 0', async who => {
  const env = { ...childEnvironment, PORT: '0', DATA_DIR: await scratch() }
  const args = ['start', '--', '--no-demo']
  const npm = spawn('npm', args, { cwd: root, env, detached: true, stdio: 'pipe' })
  closing.push(async () => {
    if (npm.exitCode === null) process.kill(-npm.pid!, 'SIGKILL')
  })
  let log = ''
  npm.stderr.on('data', chunk => {
    log += chunk
  })
  const exited = once(npm, 'exit')
  await new Promise<void>(resolve => {
    npm.stdout.on('data', chunk => {
      if (String(chunk).includes('millrace ready')) resolve()
    })
  })
  process.kill(who === 'npm alone' ? npm.pid! : -npm.pid!, 'SIGTERM')
  expect(await exited).toEqual([0, null])
  expect(log).toContain('"msg":"stopped"')
})

test('after kill -9 it goes on: nothing acknowledged is lost, nothing counted twice', async () => {
  const dataDir = await scratch()
  let service = await start(dataDir)
  let position = await service.post(eventLines(0, 300, startMs))
  const before = await allRows(service, position)
  expect(sum(before['order-volume']!, 'orders')).toBe(300)
  expect(sum(before.revenue!, 'paidOrders')).toBe(300)
  expect(sum(before['payment-outcomes']!, 'authorized')).toBe(300)
  await service.kill()

  service = await start(dataDir)
  expect(await allRows(service, position)).toEqual(before)
  // Killed with input that is acknowledged and perhaps not processed.
  position = await service.post(eventLines(300, 900, startMs))
  await service.kill()

  service = await start(dataDir)
  const after = await allRows(service, position)
  expect(sum(after['order-volume']!, 'orders')).toBe(900)
  expect(sum(after.revenue!, 'paidOrders')).toBe(900)
  const whole = await start(await scratch())
  const wholePosition = await whole.post(eventLines(0, 900, startMs))
  expect(after).toEqual(await allRows(whole, wholePosition))
})

test('the demo goes on after kill -9 where it was: no event is missing, none there twice', async () => {
  const dataDir = await scratch()
  const options = { RATE: '200', SEED: '3', SERVICES: 'off' }
  for (let run = 0; run < 3; run++) {
    const service = await start(dataDir, [], options)
    const before = await inputEnd(service)
    await expect.poll(() => inputEnd(service)).not.toBe(before)
    await sleep(300)
    await service.kill()
  }
  const { ids, snapshot } = await demoEvents(dataDir)
  const world = new DemoWorld({ ...snapshot, resumeMs: snapshot.startMs })
  const told = world.advance(snapshot.resumeMs).map(({ ceId }) => ceId)
  expect(ids.length).toBeGreaterThan(1000)
  expect(ids.sort()).toEqual(told.sort())
})

/** How many records its input topics have had. */
async function inputEnd(service: ServiceProcess): Promise<number> {
  const { topics } = await service.get<{
    topics: { name: string; partitions: { endOffset: number }[] }[]
  }>('/v1/topology')
  const inputs = topics.filter(({ name }) => ['orders', 'payments'].includes(name))
  return sum(
    inputs.flatMap(({ partitions }) => partitions),
    'endOffset',
  )
}

/** What the log of a stopped service holds of the demo, and how far the demo says it is. */
async function demoEvents(dataDir: string): Promise<{ ids: string[]; snapshot: DemoSnapshot }> {
  const database = await openRocksDB(join(dataDir, 'db'))
  const log = await openEmbeddedLog(database, effects)
  const [committed] = await log.committed('millrace-demo', [{ topic: 'orders', partition: 0 }])
  const ids: string[] = []
  for (const topic of ['orders', 'payments']) {
    for (let partition = 0; partition < 4; partition++) {
      for (let offset = 0; ; ) {
        const [{ bytes }] = await log.fetch([{ topic, partition, offset, bytesMax: 1 << 20 }])
        const { runs, nextOffset } = decodeBatches(bytes, { fromOffset: offset })
        if (nextOffset === offset) break
        offset = nextOffset
        for (const columns of runs) {
          for (let i = 0; i < columns.length; i++) {
            ids.push(header(columns, i, Buffer.from('ce_id'))!.toString())
          }
        }
      }
    }
  }
  await log.close()
  await database.close()
  return { ids, snapshot: JSON.parse(committed!.metadata) }
}

test('a second process on the same folder is refused and says who holds it', async () => {
  const dataDir = await scratch()
  const service = await start(dataDir)
  const second = await millrace(['start', '--no-demo', '--port', '0', '--data-dir', dataDir])
  expect(second.code).toBe(1)
  expect(second.output).toContain(`pid ${service.child.pid}`)
  expect(await service.stop()).toEqual({ code: 0, signal: null })
})

test('import goes through the running instance, and opens the folder when there is none', async () => {
  const dataDir = await scratch()
  const file = join(await scratch(), 'events.ndjson')
  await writeFile(file, eventLines(0, 1500, startMs).join('\n'))
  let service = await start(dataDir)
  const through = await millrace(['import', file, '--data-dir', dataDir, '--json'])
  expect(through.code).toBe(0)
  const first = JSON.parse(through.output.split('\n').at(-2)!)
  expect(first).toMatchObject({ accepted: 3000, rejectedCount: 0 })
  expect(sum(await service.rows('order-volume', first.position), 'orders')).toBe(1500)
  await service.kill()

  const more = [
    ...eventLines(1500, 1600, startMs),
    '{"no":"event"}',
    ...eventLines(1600, 1700, startMs),
  ]
  await writeFile(file, more.join('\n'))
  const alone = await millrace(['import', file, '--data-dir', dataDir])
  expect(alone.code).toBe(1)
  expect(alone.output).toContain('400 accepted, 1 rejected')
  expect(alone.output).toContain('line 201')
  const allowed = await millrace([
    'import',
    file,
    '--data-dir',
    dataDir,
    '--allow-rejected',
    '--json',
  ])
  expect(allowed.code).toBe(0)
  service = await start(dataDir)
  const { position } = JSON.parse(allowed.output.split('\n').at(-2)!)
  const rows = await service.rows('order-volume', position)
  // What was imported twice has the same ids, and counts once.
  expect(sum(rows, 'orders')).toBe(1700)
})

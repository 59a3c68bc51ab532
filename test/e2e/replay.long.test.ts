/**
 * What the demo wrote, recorded and replayed into an empty folder and into Kafka: every view must
 * be what it was, byte for byte. The recording from Kafka is killed again and again.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openFolder } from '../../cli/log-access.ts'
import { openRecordingFile } from '../../cli/recording-file.ts'
import { openRecording } from '../../recording/reader.ts'
import { encodePosition } from '../../streams/position.ts'
import { contents } from '../recording/worlds.ts'
import { type KafkaUnderTest, startKafka, steady } from '../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { childEnvironment, root } from '../support/processes.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const TEST_MS = 180_000
/** The demo tells a whole day at first, so that what closes after a day does. */
const RATE = '0.2'
const EVENTS_MIN = 15_000
/** All that the views are made of. */
const topics = ['orders', 'payments', 'inventory', 'fulfilment', 'stock']
const closing: (() => Promise<unknown>)[] = []

let folder: string
let recorded: string
let original: Record<string, string>
/** The demo has some of its own. */
let originalDuplicates: number

async function start(dataDir: string, flags: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const service = await ServiceProcess.start(dataDir, flags, { IDLE_AFTER: 'never', ...env })
  closing.push(() => service.kill())
  return service
}

/** Runs a command that must succeed; resolves with its JSON. */
async function run(...args: string[]): Promise<Record<string, unknown>> {
  const { code, output } = await millrace([...args, '--json'])
  expect(code, output).toBe(0)
  return JSON.parse(output.trim().split('\n').at(-1)!)
}

/** Each view's rows as they are answered, by view. */
async function views(service: ServiceProcess, position: string): Promise<Record<string, string>> {
  while (!(await fetch(`${service.url}/readyz`)).ok) await sleep(50)
  await service.reach(position, TEST_MS)
  const { views: all } = await service.get<{ views: { name: string }[] }>('/v1/views')
  const rows: Record<string, string> = {}
  for (const { name } of all) {
    rows[name] = (await service.rows(name, position)).map(row => JSON.stringify(row)).join('\n')
  }
  return rows
}

async function duplicates(service: ServiceProcess, position: string): Promise<number> {
  const letters = await service.deadLetters(position)
  return letters.filter(({ reason }) => reason === 'duplicate').length
}

/** What covers all input of a folder at rest. */
async function positionOf(dataDir: string): Promise<string> {
  const { log, close } = await openFolder(dataDir)
  const offsets: Record<string, number[]> = {}
  for (const topic of topics) {
    const targets = [0, 1, 2, 3].map(partition => ({ topic, partition }))
    offsets[topic] = (await log.offsets(targets)).map(range => range.highWatermark)
  }
  const position = encodePosition({ incarnation: log.incarnation, offsets })
  await close()
  return position
}

/** An order's events say where they are, and on Kafka offsets have gaps. */
function withoutOffsets(rows: Readonly<Record<string, string>>): Record<string, string> {
  const { 'order-status': orders, ...others } = rows
  return { ...others, 'order-status': orders!.replace(/"offset":\d+/g, '') }
}

/** Records by partition, without their offsets: on Kafka these have gaps. */
async function recordsOf(path: string): Promise<string[]> {
  const file = await openRecordingFile(path)
  const lines = await contents(await openRecording(file))
  await file.close()
  return lines.map(line => line.replace(/ \d+@/, ' @'))
}

beforeAll(async () => {
  const scratch = await scratchFolder()
  closing.push(scratch.remove)
  folder = scratch.path
  recorded = join(folder, 'run.mrec')
  const data = join(folder, 'data')
  const demo = await start(data, [], { RATE })
  for (let events = 0; events < EVENTS_MIN; await sleep(200)) {
    const { topics: all } = await demo.get<{ topics: Topic[] }>('/v1/topology')
    const input = all.filter(({ name }) => topics.includes(name))
    events = input.flatMap(({ partitions }) => partitions).reduce((n, p) => n + p.endOffset, 0)
  }
  await demo.stop()
  const position = await positionOf(data)
  const service = await start(data, ['--no-demo'])
  original = await views(service, position)
  originalDuplicates = await duplicates(service, position)
  await service.stop()
}, TEST_MS)

interface Topic {
  readonly name: string
  readonly partitions: readonly { readonly endOffset: number }[]
}

afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

test(
  'a folder at rest is recorded whole, and the recording is sound',
  async () => {
    const flags = ['--topics', topics.join(','), '--out', recorded]
    const { records } = await run('record', '--data-dir', join(folder, 'data'), ...flags)
    expect(records).toBeGreaterThanOrEqual(EVENTS_MIN)
    const { partitions, damage, isComplete } = await run('inspect', recorded)
    const counts = (partitions as { records: number }[]).map(row => row.records)
    expect(counts.reduce((sum, count) => sum + count)).toBe(records)
    expect([damage, isComplete]).toEqual([null, true])
    const again = await millrace(['record', '--data-dir', join(folder, 'data'), ...flags])
    expect(again.code).toBe(1)
    expect(again.output).toContain('it exists already')
  },
  TEST_MS,
)

test(
  'replayed into an empty folder, every view is what it was, byte for byte',
  async () => {
    const fresh = join(folder, 'fresh')
    const { position, acknowledged, planned } = await run(
      'replay',
      recorded,
      '--to',
      fresh,
      '--speed',
      'max',
    )
    expect(acknowledged).toBe(planned)
    const service = await start(fresh, ['--no-demo'])
    const rows = await views(service, position as string)
    expect(Object.keys(rows).length).toBeGreaterThan(8)
    expect(rows).toEqual(original)
    await service.stop()
  },
  TEST_MS,
)

test(
  'in a loop, later passes are new events on times of their own',
  async () => {
    const looped = join(folder, 'looped')
    const flags = ['--to', looped, '--speed', 'max', '--loop', '2', '--rewrite-time', 'now']
    const { position } = await run('replay', recorded, ...flags)
    const service = await start(looped, ['--no-demo'])
    const rows = await views(service, position as string)
    const orders = (view: string | undefined) =>
      view!.split('\n').reduce((sum, row) => sum + (JSON.parse(row).orders as number), 0)
    // Of windows a few records more or less are late: they lie elsewhere in the minute now.
    expect(orders(rows['customer-profile'])).toBe(2 * orders(original['customer-profile']))
    expect(await duplicates(service, position as string)).toBe(2 * originalDuplicates)
    await service.stop()
  },
  TEST_MS,
)

test(
  'replayed to an instance that runs, every view is what it was, byte for byte',
  async () => {
    const live = join(folder, 'live')
    const service = await start(live, ['--no-demo'])
    const { acknowledged, planned, refused } = await run(
      ...['replay', recorded, '--to', service.url, '--speed', '100000'],
    )
    expect([acknowledged, refused]).toEqual([planned, {}])
    // Without --to it finds the instance by its folder, and what it has no use for is counted.
    const foreign = join(folder, 'foreign.ndjson')
    const line = { topic: 'orders', partition: 1, timestamp: 1, encoding: 'base64', key: null }
    await writeFile(foreign, JSON.stringify({ ...line, value: 'AAAA', headers: [] }))
    const convert = ['convert', foreign, `${foreign}.mrec`, '--partitions', '4']
    expect((await millrace(convert)).code).toBe(0)
    const args = ['replay', `${foreign}.mrec`, '--data-dir', live, '--speed', 'max']
    const { code, output } = await millrace(args)
    expect(code).toBe(1)
    expect(output).toContain('refused     1 records: RECORD_NOT_EVENT')
    const busy = await millrace(['record', '--data-dir', live, '--topics', 'orders', '--out', 'x'])
    expect(busy.code).toBe(1)
    expect(busy.output).toContain(`${service.child.pid} at ${service.url} has ${live} open`)
    const into = await millrace(['replay', recorded, '--to', live])
    expect(into.output).toContain('stop it first')
    await service.stop()
    const position = await positionOf(live)
    const again = await start(live, ['--no-demo'])
    expect(await views(again, position)).toEqual(original)
    await again.stop()
  },
  TEST_MS,
)

describe.skipIf(kafkaIsMissing !== undefined)('on Kafka', { timeout: TEST_MS }, () => {
  let kafka: KafkaUnderTest
  let replayed: Record<string, unknown>
  const fromKafka = () => join(folder, 'kafka.mrec')

  beforeAll(async () => {
    kafka = await startKafka({ config: steady })
  }, START_MS_MAX)

  afterAll(async () => {
    await kafka?.destroy()
  })

  let isReplaying = false

  /** Lets `record` run until its file has grown, or nothing more can come, and kills it. */
  async function recordAndKill(flags: readonly string[]): Promise<void> {
    const size = async () => (await stat(fromKafka()).catch(() => undefined))?.size ?? 0
    const before = await size()
    const args = ['cli/main.ts', 'record', '--out', fromKafka(), ...flags]
    const child = spawn('node', args, { cwd: root, env: childEnvironment, stdio: 'ignore' })
    const exited = once(child, 'exit')
    const isWaiting = () => child.exitCode === null && isReplaying
    while (isWaiting() && (await size()) < before + 20_000) await sleep(20)
    child.kill('SIGKILL')
    await exited
  }

  test('a recording that is killed while records come in is continued: nothing lost, nothing twice', async () => {
    const to = `kafka://${kafka.bootstrap}`
    const source = ['--from-kafka', kafka.bootstrap]
    isReplaying = true
    const replaying = run('replay', recorded, '--to', to, '--rate', '600/s').finally(() => {
      isReplaying = false
    })
    // Its topics are made by the replay: until then there is nothing to record.
    while ((await stat(fromKafka()).catch(() => undefined)) === undefined && isReplaying) {
      await recordAndKill([...source, '--topics', topics.join(',')])
    }
    let kills = 1
    for (; isReplaying; kills++) await recordAndKill([...source, '--resume'])
    replayed = await replaying
    expect(kills).toBeGreaterThan(1)
    await run('record', '--out', fromKafka(), ...source, '--resume', '--to-end')
    expect((await run('inspect', fromKafka())).damage).toBe(null)
    expect(await recordsOf(fromKafka())).toEqual(await recordsOf(recorded))
  })

  test('Ctrl-C ends a recording with what it has, and it is whole', async () => {
    const args = ['--out', fromKafka(), '--from-kafka', kafka.bootstrap, '--resume', '--json']
    const child = spawn('node', ['cli/main.ts', 'record', ...args], {
      cwd: root,
      env: childEnvironment,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.on('data', chunk => void (output += chunk))
    const exited = once(child, 'exit')
    // Index and trailer go first: then it records.
    const whole = (await stat(fromKafka())).size
    while ((await stat(fromKafka())).size === whole) await sleep(20)
    child.kill('SIGINT')
    expect(await exited).toEqual([0, null])
    expect(JSON.parse(output)).toMatchObject({ records: 0, sizeBytes: whole })
    expect(await run('inspect', fromKafka())).toMatchObject({ isComplete: true, damage: null })
  })

  test('every view is what it was, byte for byte', async () => {
    expect(replayed).toMatchObject({ failure: null, refused: {} })
    expect(replayed.acknowledged).toBe(replayed.planned)
    const service = await start(join(folder, 'on-kafka'), ['--no-demo'], {
      MILLRACE_BROKERS: kafka.bootstrap,
    })
    const found = await views(service, replayed.position as string)
    expect(withoutOffsets(found)).toEqual(withoutOffsets(original))
    await service.stop()
  })
})

/** The main job on real Kafka, as `MILLRACE_BROKERS` starts it: one instance, two, three. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type KafkaUnderTest, startKafka, steady, toolClasses } from '../support/kafka/kafka.ts'
import { kafkaIsMissing, START_MS_MAX } from '../support/kafka/shared.ts'
import { eventLines } from '../support/order-lines.ts'
import { keepablePort } from '../support/ports.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const TEST_MS = 180_000
const startMs = Date.UTC(2026, 0, 5)
const APPLICATION = 'analytics'

let kafka: KafkaUnderTest
const closing: (() => Promise<unknown>)[] = []

async function scratch(): Promise<string> {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  return path
}

/** On Kafka, unless without brokers. No clock decides what is final, so that all runs are equal. */
async function start(
  dataDir: string,
  { brokers = kafka.bootstrap, port = 0 } = {},
): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(dataDir, ['--no-demo'], {
    PORT: String(port),
    IDLE_AFTER: 'never',
    ...(brokers === '' ? {} : { MILLRACE_BROKERS: brokers }),
  })
  closing.push(() => service.kill())
  return service
}

type Row = Record<string, unknown>

const sum = (rows: readonly Row[], field: string) =>
  rows.reduce((total, row) => total + (row[field] as number), 0)

/**
 * Rows of all views, in an order of their own: instances may give equal keys in any. Without the
 * offsets of an order's events, which have gaps on Kafka.
 */
async function allRows(service: ServiceProcess, position: string): Promise<Record<string, Row[]>> {
  const { views } = await service.get<{ views: { name: string }[] }>('/v1/views')
  const rows: Record<string, Row[]> = {}
  for (const { name } of views) rows[name] = await service.rows(name, position)
  for (const row of rows['order-status']!) {
    row.events = (row.events as Row[]).map(({ offset: _, ...event }) => event)
  }
  return rows
}

/** What the embedded log gives for the same events. */
async function embeddedRows(lines: readonly string[]): Promise<Record<string, Row[]>> {
  const service = await start(await scratch(), { brokers: '' })
  const position = await service.post(lines)
  const rows = await allRows(service, position)
  await service.stop()
  return rows
}

async function untilReady(...services: readonly ServiceProcess[]): Promise<void> {
  for (const service of services) {
    while (!(await fetch(`${service.url}/readyz`)).ok) await sleep(50)
  }
}

/** Members of the group as Kafka's own tool tells them: id, member epoch, active tasks. */
async function members(): Promise<string[]> {
  const args = ['--bootstrap-server', kafka.bootstrap, '--describe', '--group', APPLICATION]
  const { stdout } = await kafka.tool(toolClasses.streamsGroups, [
    ...args,
    '--members',
    '--verbose',
  ])
  const [header, ...lines] = stdout.split('\n').filter(line => line.trim() !== '')
  const names = header!.trim().split(/\s{2,}|\s(?=[A-Z])/)
  expect(names).toContain('MEMBER')
  expect([names[1], names[5]]).toEqual(['TARGET-ASSIGNMENT-EPOCH', 'MEMBER-EPOCH'])
  return lines.map(line => line.replace(/\s+/g, ' ').trim()).sort()
}

/** The same, once each has taken up what the group's newest epoch gives it. */
async function settledMembers(count: number): Promise<string[]> {
  let found: string[] = []
  const behind = async () => {
    found = await members()
    const epochs = found.map(line => line.split(' ')).map(([, target, , , , own]) => [target, own])
    return [found.length, ...epochs.filter(([target, own]) => target !== own)]
  }
  await expect.poll(behind, { interval: 500 }).toEqual([count])
  return found
}

/** Transactional ids whose transaction is neither committed nor aborted. */
async function openTransactions(): Promise<string[]> {
  const args = ['--bootstrap-server', kafka.bootstrap, 'list']
  const { stdout, stderr, code } = await kafka.tool(toolClasses.transactions, args)
  expect(code, stderr).toBe(0)
  return stdout.split('\n').filter(line => /\b(Ongoing|Prepare\w+)\b/.test(line))
}

const isMissing = kafkaIsMissing !== undefined

/** One story: each test goes on with the instances and events of those before it. */
describe.skipIf(isMissing)('the main job on Kafka', { timeout: TEST_MS }, () => {
  const folders: string[] = []
  const ports: number[] = []
  const services: ServiceProcess[] = []
  let posted = 0

  /** Where an instance can be asked is part of its membership: it comes back to its port. */
  async function startOne(i: number): Promise<ServiceProcess> {
    folders[i] ??= await scratch()
    ports[i] ??= await keepablePort()
    const service = await start(folders[i]!, { port: ports[i]! })
    services[i] = service
    await untilReady(service)
    return service
  }

  /** The next so many orders and their payments. */
  function lines(orders: number): string[] {
    posted += orders
    return eventLines(posted - orders, posted, startMs)
  }

  const expected = () => embeddedRows(eventLines(0, posted, startMs))

  beforeAll(async () => {
    kafka = await startKafka({ config: steady })
  }, START_MS_MAX)

  afterAll(async () => {
    for (const close of closing.splice(0).reverse()) await close()
    await kafka?.destroy()
  })

  test('a restart keeps all; a second process is refused; SIGTERM leaves nothing open', async () => {
    let service = await startOne(0)
    const first = await service.post(lines(300))
    const before = await allRows(service, first)
    expect(sum(before['order-volume']!, 'orders')).toBe(300)
    const flags = ['--no-demo', '--port', '0', '--data-dir', folders[0]!]
    const second = await millrace(['start', ...flags], { MILLRACE_BROKERS: kafka.bootstrap })
    expect(second.code).toBe(1)
    expect(second.output).toContain(`pid ${service.child.pid}`)
    // With events that are acknowledged and perhaps not processed.
    const last = await service.post(lines(300))
    expect(await service.stop()).toEqual({ code: 0, signal: null })
    expect(await openTransactions()).toEqual([])
    service = await startOne(0)
    expect(await allRows(service, last)).toEqual(await expected())
    expect(service.stderr).not.toContain('an epoch failed')
  })

  test('two instances: each event counts once over both, whoever is asked', async () => {
    const both = [services[0]!, await startOne(1)]
    const posts = [0, 1, 2, 3].map(i => both[i % 2]!.post(lines(100)))
    const positions = await Promise.all(posts)
    const rows = await expected()
    await settledMembers(2)
    await untilReady(...both)
    for (const service of both) {
      for (const position of positions) await service.reach(position, 60_000)
      expect(await allRows(service, positions[0]!)).toEqual(rows)
    }
  })

  test('a rolling restart of three instances moves no task', async () => {
    await startOne(2)
    await untilReady(...services)
    const before = await settledMembers(3)
    for (let i = 0; i < services.length; i++) {
      expect(await services[i]!.stop()).toEqual({ code: 0, signal: null })
      await startOne(i)
    }
    // Epochs too: the group has not even thought about it.
    expect(await members()).toEqual(before)
    const position = await services[0]!.post(lines(100))
    expect(await allRows(services[1]!, position)).toEqual(await expected())
  })
})

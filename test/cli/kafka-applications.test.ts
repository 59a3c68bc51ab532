/** Several applications on Kafka: each a group of its own, together in one process or apart. */
import { pino } from 'pino'
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { noAuth } from '../../api/index.ts'
import { openPeers } from '../../cli/peers.ts'
import { openService, type Service } from '../../cli/service.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { encodePosition, json, Topology, textKey } from '../../streams/index.ts'
import { describeOnKafka, ownName } from '../support/kafka/shared.ts'
import { freePort } from '../support/ports.ts'
import { scratchFolder } from '../support/service-process.ts'

const PARTITIONS = 4
const logger = pino({ level: 'silent' })

/** Counts records by key, behind an exchange. */
function counting(application: string, topic: string): Topology {
  const topology = new Topology(application)
  topology
    .stream(topic, { key: textKey(), value: json<number>() })
    .groupBy(value => `k${value % 7}`, { name: 'by-digit', key: textKey('key') })
    .count({ name: 'count' })
    .view({
      name: `${application}-count`,
      description: 'Records',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

describeOnKafka('several applications', kafka => {
  const closing: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })

  interface Instance {
    readonly service: Service
    readonly get: (path: string, position?: string) => Promise<Answer>
    stop(): Promise<void>
  }

  interface Answer {
    readonly status: number
    readonly body: Readonly<Record<string, unknown>>
  }

  async function start(topologies: readonly Topology[], folder?: string): Promise<Instance> {
    const dataDir = folder ?? (await scratch())
    const endpoint = { host: '127.0.0.1', port: await freePort() }
    const service = await openService({
      dataDir,
      kafka: { connection: { bootstrap: [kafka.bootstrap] }, endpoint, standbyReplicas: 0 },
      peers: openPeers(endpoint, undefined, { auth: noAuth, logger }),
      topologies,
      leaveOnStop: true,
      idleAfterMs: Number.POSITIVE_INFINITY,
      auth: noAuth,
      createTopics: true,
      logger,
    })
    const url = await service.server.listen(endpoint)
    for (const { engine } of service.applications) engine.run().catch(() => {})
    const get = async (path: string, position = ''): Promise<Answer> => {
      const headers: Record<string, string> =
        position === '' ? {} : { 'Millrace-Position': position }
      const response = await fetch(url + path, { headers })
      return { status: response.status, body: (await response.json()) as Answer['body'] }
    }
    let stopped = false
    const stop = async () => {
      if (!stopped) await service.close()
      stopped = true
    }
    closing.push(stop)
    return { service, get, stop }
  }

  async function scratch(): Promise<string> {
    const { path, remove } = await scratchFolder()
    closing.push(remove)
    return path
  }

  async function untilReady(...instances: readonly Instance[]): Promise<void> {
    for (const { get } of instances) {
      await expect.poll(async () => (await get('/readyz')).status).toBe(200)
    }
  }

  async function append({ service }: Instance, topic: string, count: number): Promise<string> {
    const { log } = service
    const transaction = log.begin()
    const builder = new RecordBatchBuilder()
    for (let i = 0; i < count; i++) {
      builder.append(1000 + i, slice(`r${i}`), slice(String(i)))
      transaction.append({ topic, partition: i % PARTITIONS }, builder.finish())
      builder.reset()
    }
    await transaction.commit()
    const targets = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition }))
    const offsets = { [topic]: (await log.offsets(targets)).map(range => range.highWatermark) }
    return encodePosition({ incarnation: log.incarnation, offsets })
  }

  const total = ({ body }: Answer) =>
    (body.rows as { count: number }[]).reduce((sum, { count }) => sum + count, 0)

  test('together and apart: each application has its tasks, and a view is whole where it runs', async () => {
    const [one, two, topic] = [ownName('one'), ownName('two'), ownName('records')]
    const a = await start([counting(one, topic), counting(two, topic)])
    const b = await start([counting(two, topic)])
    await untilReady(a, b)
    const tasks = ({ service }: Instance, name: string) =>
      service.applications.find(found => found.name === name)?.engine.assembly.tasks.length ?? 0
    // Two sub-topologies of four partitions each.
    const shared = () => {
      const [mine, theirs] = [tasks(a, two), tasks(b, two)]
      return mine > 0 && theirs > 0 ? mine + theirs : 0
    }
    await expect.poll(shared).toBe(8)
    await untilReady(a, b)
    expect([tasks(a, one), tasks(b, one)]).toEqual([8, 0])
    const position = await append(a, topic, 70)
    for (const [instance, application] of [
      [a, one],
      [a, two],
      [b, two],
    ] as const) {
      const path = `/v1/views/${application}-count/rows?limit=100`
      let answer!: Answer
      // Where a task has gone to is told to others by the group, later.
      const status = async () => {
        answer = await instance.get(path, position)
        return answer.status
      }
      await expect.poll(status).toBe(200)
      expect(total(answer)).toBe(70)
    }
    expect((await b.get(`/v1/views/${one}-count/rows`)).body.code).toBe('VIEW_UNKNOWN')
    const { applications } = (await a.get('/v1/topology')).body as {
      applications: { application: string; instances: unknown[] }[]
    }
    const instances = applications.map(found => [found.application, found.instances.length])
    expect(instances).toEqual([
      [one, 1],
      [two, 2],
    ])
    // The process of the service ends; the other one takes its tasks over.
    await b.stop()
    await expect.poll(() => tasks(a, two)).toBe(8)
    const more = await append(a, topic, 7)
    for (const application of [one, two]) {
      expect(total(await a.get(`/v1/views/${application}-count/rows?limit=100`, more))).toBe(77)
    }
  })

  test('an application that has stopped leaves the others and their group alone', async () => {
    const [one, two, topic] = [ownName('one'), ownName('two'), ownName('records')]
    const a = await start([counting(one, topic), counting(two, topic)])
    await untilReady(a)
    const [first, second] = a.service.applications
    await first!.engine.stop()
    const position = await append(a, topic, 14)
    expect(total(await a.get(`/v1/views/${two}-count/rows`, position))).toBe(14)
    expect((await a.get(`/v1/views/${one}-count/rows`)).body.code).toBe('VIEW_NOT_READY')
    expect(String((await a.get('/readyz')).body.detail)).toContain(`${one}: `)
    expect(second!.engine.state).toBe('running')
  })

  test('a folder that starts again has its tasks and state in every group', async () => {
    const [one, two, topic] = [ownName('one'), ownName('two'), ownName('records')]
    const folder = await scratch()
    const topologies = () => [counting(one, topic), counting(two, topic)]
    const a = await start(topologies(), folder)
    await untilReady(a)
    await append(a, topic, 35)
    await a.stop()
    const again = await start(topologies(), folder)
    await untilReady(again)
    const position = await append(again, topic, 35)
    for (const application of [one, two]) {
      expect(total(await again.get(`/v1/views/${application}-count/rows`, position))).toBe(70)
    }
    const ids = again.service.applications.map(({ engine }) => engine.membership!.memberId)
    expect(new Set(ids).size).toBe(1)
  })
})

function slice(text: string) {
  const bytes = Buffer.from(text)
  return { bytes, start: 0, end: bytes.length }
}

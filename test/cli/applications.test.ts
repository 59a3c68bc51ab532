/** Several applications in one service, each seen over HTTP under its own name. */
import { Type } from 'typebox'
import { afterEach, expect, test } from 'vitest'
import { chosenApplications } from '../../cli/applications.ts'
import type { Service } from '../../cli/service.ts'
import { json, Topology, textKey } from '../../streams/index.ts'
import { until } from '../support/grouped-service.ts'
import { metricLines, metricSum } from '../support/metrics.ts'
import { openQuietService } from '../support/quiet-service.ts'
import { scratchFolder } from '../support/service-process.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** Counts the records of a topic; a value that is no JSON is a dead letter. */
function counts(application: string, topic: string): Topology {
  const topology = new Topology(application)
  topology
    .stream(topic, { key: textKey(), value: json<object>() })
    .groupByKey({ name: 'by-key', key: textKey('key') })
    .count({ name: 'count' })
    .view({
      name: `${application}-count`,
      description: 'Records of each key',
      value: { count: Type.Integer() },
      row: count => ({ count }),
    })
  return topology
}

async function start(topologies: readonly Topology[], dataDir?: string): Promise<Service> {
  let path = dataDir
  if (path === undefined) {
    const folder = await scratchFolder()
    closing.push(folder.remove)
    path = folder.path
  }
  const service = await openQuietService({ dataDir: path, topologies })
  closing.push(() => service.close())
  return service
}

async function get({ server }: Service, url: string, headers: Record<string, string> = {}) {
  const { statusCode, body } = await server.inject({ method: 'GET', url, headers })
  return { status: statusCode, body: JSON.parse(body) }
}

const event = (i: number) =>
  JSON.stringify({
    topic: 'orders',
    type: 'OrderCancelled',
    key: `o${i}`,
    timestamp: 1000 + i,
    value: { orderId: `o${i}`, reason: 'none', cancelledAt: 1000 + i },
  })

/** Appends events that are dead letters to both applications, as they are not JSON. */
async function append({ server }: Service, count: number): Promise<string> {
  const { statusCode, headers } = await server.inject({
    method: 'POST',
    url: '/v1/events',
    headers: { 'content-type': 'application/x-ndjson' },
    payload: Array.from({ length: count }, (_, i) => event(i)).join('\n'),
  })
  expect(statusCode).toBe(200)
  return String(headers['millrace-position'])
}

const both = () => [counts('one', 'orders'), counts('two', 'orders')]

function run({ applications }: Service): void {
  for (const { engine } of applications) engine.run().catch(() => {})
}

test('ready is when all applications are; the reason names the one that is not', async () => {
  const service = await start(both())
  run(service)
  await until(async () => (await get(service, '/readyz')).status === 200)
  expect((await get(service, '/readyz')).body).toMatchObject({
    status: 'ready',
    applications: [
      { application: 'one', state: 'running' },
      { application: 'two', state: 'running' },
    ],
    tasks: expect.arrayContaining([
      expect.objectContaining({ application: 'two', task: expect.stringMatching(/\/0$/) }),
    ]),
  })
  await service.applications[1]!.engine.stop()
  const position = await append(service, 3)
  const { status, body } = await get(service, '/readyz')
  expect([status, body.code]).toEqual([503, 'NOT_READY'])
  expect(body.detail).toContain('two: ')
  // What does not need it goes on.
  expect((await get(service, '/v1/views/one-count/rows')).status).toBe(200)
  expect((await get(service, '/v1/views', { 'millrace-position': position })).status).toBe(200)
  const gone = await get(service, '/v1/views/two-count/rows')
  expect([gone.status, gone.body.code]).toEqual([503, 'VIEW_NOT_READY'])
})

test('topology, metrics, views and dead letters tell the applications apart', async () => {
  const service = await start(both())
  run(service)
  const position = await append(service, 5)
  const headers = { 'millrace-position': position }
  for (const name of ['one', 'two']) {
    expect((await get(service, `/v1/views/${name}-count/rows`, headers)).body.rows).toEqual([])
  }
  const { body } = await get(service, '/v1/topology')
  const drawn = body.applications as { application: string; views: unknown; instances: unknown[] }[]
  expect(drawn.map(({ application }) => application)).toEqual(['one', 'two'])
  expect(drawn[1]!.views).toMatchObject([{ name: 'two-count' }])
  expect(drawn[1]!.instances).toHaveLength(1)
  const { body: metrics } = await service.server.inject({ method: 'GET', url: '/metrics' })
  const lines = metricLines(metrics)
  for (const application of ['one', 'two']) {
    const labels = { application, topic: 'orders' }
    expect(metricSum(lines, 'records_consumed_total', labels)).toBe(5)
  }
  const { body: views } = await get(service, '/v1/views')
  expect(views.views.map(({ name }: { name: string }) => name)).toEqual(['one-count', 'two-count'])
})

test('dead letters of all applications come page by page, those of one by its name', async () => {
  const service = await start(both())
  run(service)
  const position = await append(service, 5)
  const headers = { 'millrace-position': position }
  const pages: string[][] = []
  let cursor = ''
  do {
    const { body } = await get(service, `/v1/dead-letters?limit=2${cursor}`, headers)
    pages.push(body.deadLetters.map((letter: { application: string }) => letter.application))
    cursor = body.next === null ? '' : `&cursor=${body.next}`
  } while (cursor !== '')
  expect(pages.flat()).toEqual([...Array(5).fill('one'), ...Array(5).fill('two')])
  expect(pages.every(page => page.length <= 2)).toBe(true)
  const two = await get(service, '/v1/dead-letters?application=two')
  expect(two.body.deadLetters).toHaveLength(5)
  expect(two.body.next).toBe(null)
  expect(new Set(two.body.deadLetters.map((letter: { topic: string }) => letter.topic))).toEqual(
    new Set(['orders']),
  )
  const none = await get(service, '/v1/dead-letters?application=three')
  expect([none.status, none.body.code, none.body.parameter]).toEqual([
    400,
    'QUERY_INVALID',
    'application',
  ])
  expect((await get(service, '/v1/dead-letters?cursor=b25lOg&application=two')).body.code).toBe(
    'CURSOR_INVALID',
  )
})

test('applications that clash are refused before anything is opened', async () => {
  await expect(start([counts('a', 'orders'), counts('a', 'orders')])).rejects.toMatchObject({
    code: 'APPLICATIONS_CLASH',
  })
})

test('a folder opens only the applications that have begun there, and the first', async () => {
  const { path, remove } = await scratchFolder()
  closing.push(remove)
  const first = await start([counts('two', 'orders')], path)
  await first.close()
  const topologies = ['one', 'two', 'three'].map(name => counts(name, 'orders'))
  const service = await openQuietService({ dataDir: path, topologies, begunOnly: true })
  closing.push(() => service.close())
  expect(service.applications.map(({ name }) => name)).toEqual(['one', 'two'])
})

test('what runs is chosen by settings; a service that is none, and nothing at all, are refused', () => {
  const chosen = (given: object, withDemo = false) =>
    chosenApplications(
      { viewRetention: 1e9, analytics: true, services: undefined, ...given },
      withDemo,
    ).map(({ application }) => application)
  expect(chosen({})).toEqual(['analytics'])
  expect(chosen({ services: 'off' }, true)).toEqual(['analytics'])
  expect(chosen({}, true)).toContain('payment')
  expect(chosen({ services: ['order'], analytics: false })).toEqual(['order'])
  expect(() => chosen({ services: ['analytics'] })).toThrow('there is no service analytics')
  expect(() => chosen({ analytics: false })).toThrow('nothing would run')
})

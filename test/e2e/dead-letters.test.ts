/** Dead letters over HTTP and the command line, of a real service that is killed in between. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { encodeEvent } from '../../contracts/event-codec.ts'
import type { OrderCreated } from '../../contracts/events.ts'
import { writeRawRecords } from '../support/poisoned-log.ts'
import { millrace, ServiceProcess, scratchFolder } from '../support/service-process.ts'

const environment = { IDLE_AFTER: 'never', LOG_LEVEL: 'warn', VIEW_RETENTION: 'forever' }
const timeMs = Date.UTC(2026, 0, 5)

let dataDir = ''
let remove = async () => {}
let service: ServiceProcess

function order(orderId: string): OrderCreated {
  return {
    type: 'OrderCreated',
    orderId,
    customerId: 'customer',
    region: 'eu',
    currency: 'EUR',
    items: [],
    totalMinor: 500,
    createdAt: timeMs,
  }
}

const event = (orderId: string, key: string | null = orderId) => ({
  key: key === null ? null : Buffer.from(key),
  value: encodeEvent(order(orderId)),
  timestamp: timeMs,
})

/** Offsets 0 to 5 of orders-0: two are good. */
const records = [
  event('good-1'),
  { key: Buffer.from('k'), value: Buffer.from('no event'), timestamp: timeMs },
  event('foreign', 'other'),
  event('keyless', null),
  { key: Buffer.from([255]), value: Buffer.alloc(1_100_000, 7), timestamp: timeMs },
  event('good-2'),
]

beforeAll(async () => {
  const folder = await scratchFolder()
  dataDir = folder.path
  remove = folder.remove
  await writeRawRecords(dataDir, 'orders', records)
  service = await ServiceProcess.start(dataDir, ['--no-demo'], environment)
})
afterAll(async () => {
  await service?.kill()
  await remove()
})

async function ask(path: string, method = 'GET') {
  const response = await fetch(service.url + path, { method })
  const type = response.headers.get('content-type')
  return { status: response.status, type, body: (await response.json()) as never }
}

async function cli(...args: string[]) {
  const { output, code } = await millrace(['dead-letters', ...args], {
    ...environment,
    DATA_DIR: dataDir,
  })
  return { output: output.trim(), code }
}

interface Listed {
  readonly id: string
  readonly offset: number
  readonly [more: string]: unknown
}

async function letters(search = ''): Promise<Listed[]> {
  const { body } = await ask(`/v1/dead-letters?${search}`)
  return (body as { deadLetters: Listed[] }).deadLetters.toReversed()
}

async function eventually(read: () => Promise<unknown>, wanted: unknown): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (JSON.stringify(await read()) === JSON.stringify(wanted)) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  expect(await read()).toEqual(wanted)
}

const places = async (search?: string) => {
  return (await letters(search)).map(({ offset, reason, step }) => `${offset} ${reason} ${step}`)
}

const first = [
  '1 poison orders',
  '2 poison orders-checked',
  '3 null-key orders-checked',
  '4 poison orders',
]

test('each is listed once with its place, after a kill too, and found by filters', async () => {
  await eventually(async () => (await places()).length, first.length)
  const listed = await places()
  expect(listed.map(line => line.split(' ')[0]).sort()).toEqual(['1', '2', '3', '4'])
  const whole = await letters()
  await service.kill()
  service = await ServiceProcess.start(dataDir, ['--no-demo'], environment)
  expect(await letters()).toEqual(whole)
  expect((await places('step=orders')).sort()).toEqual(['1 poison orders', '4 poison orders'])
  expect(await places('step=orders&topic=payments')).toEqual([])
  expect(await places(`from=${Date.now() + 1e6}`)).toEqual([])
  expect(await places('application=analytics&reason=late')).toEqual([])
})

test('one of them is shown with headers, bytes, digest and whether it can be replayed', async () => {
  const [poison] = await letters('step=orders')
  const shown = (await ask(`/v1/dead-letters/${poison!.id}`)).body as { deadLetter: Listed }
  expect(shown.deadLetter).toMatchObject({
    ...{ application: 'analytics', state: 'open', topic: 'orders', partition: 0, offset: 1 },
    ...{ attempts: 1, content: 'record', timestamp: timeMs, key: 'k', headers: [] },
    ...{ valueText: 'no event', valueBase64: 'bm8gZXZlbnQ=', replayable: true },
    code: expect.any(String),
    stack: expect.stringMatching(/^[0-9a-f]{16}$/),
  })
  const foreign = (await letters()).find(({ offset }) => offset === 2)!
  const event = (await ask(`/v1/dead-letters/${foreign.id}`)).body as { deadLetter: Listed }
  expect(event.deadLetter.value).toMatchObject(order('foreign'))
  const large = (await letters()).find(({ offset }) => offset === 4)!
  expect(large).toMatchObject({ valueBytes: 1_100_000, keyBase64: '/w==' })
  expect(large.valueSha256).toMatch(/^[0-9a-f]{64}$/)
  expect(large.valueBase64).toBe(undefined)
  const { output } = await cli('show', large.id)
  expect(JSON.parse(output)).toMatchObject({
    id: large.id,
    replayable: true,
    valueBytes: 1_100_000,
  })
})

test('a replay puts the record back once, also when the process is killed and asked again', async () => {
  const [poison] = await letters('step=orders')
  const { id } = poison!
  expect((await ask(`/v1/dead-letters/${id}/replay?dryRun=true`, 'POST')).body).toMatchObject({
    ...{ id, state: 'replayed', changed: true, dryRun: true },
  })
  const both = await Promise.all([1, 2].map(() => ask(`/v1/dead-letters/${id}/replay`, 'POST')))
  const changed = both.map(({ body }) => (body as { changed: boolean }).changed)
  expect(changed.toSorted()).toEqual([false, true])
  await service.kill()
  service = await ServiceProcess.start(dataDir, ['--no-demo'], environment)
  expect(await cli('replay', id)).toEqual({
    ...{ output: '0 replayed, 1 had been before', code: 0 },
  })
  // It is no event now either: a letter of its own, of the place where it was first.
  await eventually(async () => (await letters('step=orders')).map(({ offset }) => offset), [4, 1])
  expect(await letters('state=replayed')).toMatchObject([{ id, offset: 1, state: 'replayed' }])
})

test('the command line replays and discards all that match, and says what it would do', async () => {
  expect(await cli('discard', '--step', 'orders', '--dry-run')).toMatchObject({
    ...{ output: '2 would be discarded', code: 0 },
  })
  expect(await cli('discard', '--step', 'orders')).toMatchObject({ output: '2 discarded', code: 0 })
  expect(await places('step=orders')).toEqual([])
  expect(await letters('state=discarded')).toHaveLength(2)
  const { output } = await cli('list', '--state', 'all')
  expect(output.split('\n')).toHaveLength(1 + 5)
  expect(output).toMatch(/^id +state +reason +step +record +attempts +detail/)
  expect(await cli('replay', 'analytics.99')).toMatchObject({
    ...{ output: 'There is no dead letter analytics.99.\n0 replayed, 1 could not be', code: 1 },
  })
  expect((await cli('replay')).output).toMatch(/without a filter it must be true/)
  expect((await cli('show')).code).toBe(2)
  expect((await cli('mend')).code).toBe(2)
})

const bad: readonly [method: string, path: string, status: number, code: string, name?: string][] =
  [
    ['GET', '?reason=wrong', 400, 'QUERY_INVALID', 'reason'],
    ['GET', '?state=closed', 400, 'QUERY_INVALID', 'state'],
    ['GET', '?from=2&to=1', 400, 'QUERY_INVALID', 'from'],
    ['GET', '?application=nobody', 400, 'QUERY_INVALID', 'application'],
    ['GET', '?colour=red', 400, 'QUERY_INVALID', 'colour'],
    ['GET', '?cursor=bm9uc2Vuc2U', 400, 'CURSOR_INVALID'],
    ['GET', '/analytics.999', 404, 'LETTER_UNKNOWN'],
    ['GET', '/analytics.1e3', 404, 'LETTER_UNKNOWN'],
    ['GET', '/__proto__.1', 404, 'LETTER_UNKNOWN'],
    ['GET', '/analytics.1?x=1', 400, 'QUERY_INVALID', 'x'],
    ['GET', '/replay', 405, 'METHOD_REFUSED'],
    ['POST', '/analytics.1', 405, 'METHOD_REFUSED'],
    ['POST', '/nobody.1/replay', 404, 'LETTER_UNKNOWN'],
    ['POST', '/analytics.999/discard', 404, 'LETTER_UNKNOWN'],
    ['POST', '/replay', 400, 'QUERY_INVALID', 'all'],
    ['POST', '/discard?dryRun=perhaps&all=true', 400, 'QUERY_INVALID', 'dryRun'],
  ]

test.each(bad)('%s %s is a problem', async (...row) => {
  const [method, path, status, code, parameter] = row
  const before = await letters('state=all')
  const answer = await ask(`/v1/dead-letters${path}`, method)
  expect(answer.type).toContain('application/problem+json')
  expect(answer.body).toMatchObject({ status, code, ...(parameter && { parameter }) })
  expect(await letters('state=all')).toEqual(before)
})

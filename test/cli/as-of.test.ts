/** Versioned views asked as of a time, over real HTTP, on two instances that share the tasks. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fetchRows } from '../../client/index.ts'
import { stamp } from '../oracle/inputs.ts'
import { type Entry, notes } from '../oracle/proofs/versioned.ts'
import { GroupedService, type Instance } from '../support/grouped-service.ts'

const PARTITIONS = 4
const HISTORY_MS = 5_000
const ACCOUNTS = Array.from({ length: 40 }, (_, i) => `account ${i}`)

let service: GroupedService
let instances: Instance[]
let token: string
const records = Array.from({ length: 400 }, (_, i) => {
  const value: Entry = { account: ACCOUNTS[(i * 7) % 40]!, note: i % 9 === 0 ? null : `note ${i}` }
  return { topic: 'events', partition: i % PARTITIONS, key: `k${i}`, value, timeMs: 10 * i }
})

beforeAll(async () => {
  service = await GroupedService.open(() => notes(HISTORY_MS), ['events'], PARTITIONS)
  instances = [
    await service.start({ events: [0, 1], 'by-account': [2, 3] }),
    await service.start({ events: [2, 3], 'by-account': [0, 1] }),
  ]
  token = await service.append('events', records)
})

afterAll(() => service.close())

/** The last note of each account, as of a time. */
function notesAsOf(timeMs: number): Map<string, string> {
  const last = new Map<string, string>()
  for (const { value, timeMs: at } of stamp(records)) {
    const { account, note } = value as Entry
    if (at > timeMs) continue
    if (note === null) last.delete(account)
    else last.set(account, note)
  }
  return last
}

async function get({ address }: Instance, path: string) {
  const response = await fetch(address + path, { headers: { 'Millrace-Position': token } })
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test('rows as of a time come from all instances, page by page, whichever is asked', async () => {
  for (const asOf of [-1, 0, 95, 1_234, 3_990].map(ms => Math.max(ms, 0))) {
    const wanted = notesAsOf(asOf)
    const found = new Map<string, string>()
    let cursor = ''
    for (let page = 0; page === 0 || cursor !== ''; page++) {
      const path = `/v1/views/view/rows?limit=7&asOf=${asOf}${cursor && `&cursor=${cursor}`}`
      const { status, body } = await get(instances[page % 2]!, path)
      expect(status).toBe(200)
      for (const row of body.rows as { account: string; text: string }[]) {
        expect(found.has(row.account)).toBe(false)
        found.set(row.account, row.text)
      }
      cursor = (body.next as string | null) ?? ''
    }
    expect(found).toEqual(wanted)
  }
})

test('one row as of a time, in epoch ms or ISO 8601, is found wherever it is', async () => {
  const asOf = 2_345
  const wanted = notesAsOf(asOf)
  for (const account of ACCOUNTS) {
    const path = `/v1/views/view/rows/${encodeURIComponent(account)}?asOf=`
    for (const instance of instances) {
      const { status, body } = await get(instance, path + asOf)
      const text = wanted.get(account)
      expect([status, body.row]).toEqual(text ? [200, { account, text }] : [404, undefined])
      expect((await get(instance, `${path}1970-01-01T00:00:02.345Z`)).body.row).toEqual(body.row)
    }
  }
})

test('what is before the history is 410 with its begin, from the other instance, too', async () => {
  const at = { topic: 'events', key: 'end', timeMs: 9_000, value: { account: 'end', note: 'end' } }
  const late = Array.from({ length: PARTITIONS }, (_, partition) => ({ ...at, partition }))
  token = await service.append('events', late)
  for (const instance of instances) {
    for (const path of ['rows', ...ACCOUNTS.slice(0, 6).map(name => `rows/${name}`)]) {
      const { status, body } = await get(instance, `/v1/views/view/${path}?asOf=3999`)
      expect([status, body.code]).toEqual([410, 'HISTORY_GONE'])
      expect([body.historyFrom, body.asOf]).toEqual([4_000, 3_999])
      expect(body.detail).toContain('The history of view begins at 4000')
    }
    expect((await get(instance, '/v1/views/view/rows?asOf=4000')).status).toBe(200)
  }
})

test('the client asks as of a time', async () => {
  const found: unknown[] = []
  const request = { baseUrl: instances[0]!.address, view: 'view', asOf: 4_500, limit: 10 }
  for await (const page of fetchRows(fetch, request)) found.push(...page.rows)
  expect(found).toHaveLength(notesAsOf(4_500).size)
})

test('the declaration and OpenAPI tell that the view is versioned, and for how long', async () => {
  const { body } = await get(instances[0]!, '/v1/views/view')
  expect(body.versioned).toEqual({ historyMs: HISTORY_MS })
  const { body: document } = await get(instances[0]!, '/openapi.json')
  expect((await new Validator().validate(document)).errors).toBeUndefined()
  const paths = document.paths as Record<string, { get: { parameters: { name: string }[] } }>
  for (const path of ['/v1/views/view/rows', '/v1/views/view/rows/{key}']) {
    expect(paths[path]!.get.parameters.map(({ name }) => name)).toContain('asOf')
    expect(paths[path]!.get).toHaveProperty('responses.410')
  }
})

import { afterAll, beforeAll, expect, test } from 'vitest'
import { fetchRows, ProblemError } from '../../client/index.ts'
import { fakeServer, volumeRow } from '../support/fake-server.ts'

let made: Awaited<ReturnType<typeof fakeServer>>
let baseUrl: string

beforeAll(async () => {
  made = await fakeServer()
  baseUrl = await made.server.listen({ host: '127.0.0.1', port: 0 })
  for (let minute = 0; minute < 25; minute++) {
    made.views.put('order-volume', volumeRow('eu', minute, minute), volumeRow('us', minute, 0))
  }
})

afterAll(() => made.server.close())

test('pages follow each other to the last row', async () => {
  const orders: number[] = []
  let pages = 0
  const request = { baseUrl, view: 'order-volume', filter: { region: 'eu' }, limit: 10 }
  for await (const page of fetchRows<{ orders: number }>(fetch, request)) {
    pages++
    orders.push(...page.rows.map(row => row.orders))
  }
  expect(pages).toBe(3)
  expect(orders).toEqual(Array.from({ length: 25 }, (_, minute) => minute))
})

test('a problem is thrown with its code', async () => {
  const pages = fetchRows(fetch, { baseUrl, view: 'a/b' })
  await expect(pages.next()).rejects.toThrow(ProblemError)
  const late = { baseUrl, view: 'order-volume', position: made.views.token(9999), timeoutMs: 10 }
  await expect(fetchRows(fetch, late).next()).rejects.toMatchObject({
    code: 'POSITION_TIMEOUT',
    status: 503,
  })
})

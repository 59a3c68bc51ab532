import { Validator } from '@seriousme/openapi-schema-validator'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Server } from '../../api/index.ts'
import { fakeServer } from '../support/fake-server.ts'

let server: Server

beforeAll(async () => {
  server = (await fakeServer()).server
})

afterAll(() => server.close())

async function document() {
  return (await server.inject('/openapi.json')).json()
}

test('the document is valid OpenAPI 3.1', async () => {
  const result = await new Validator().validate(await document())
  expect(result.errors).toBeUndefined()
  expect(result.valid).toBe(true)
})

test('the validator would find a mistake', async () => {
  const broken = await document()
  broken.paths['/livez'].get.responses = 3
  expect((await new Validator().validate(broken)).valid).toBe(false)
})

test('every view has its row schema and its parameters', async () => {
  const { paths, components } = await document()
  expect(Object.keys(components.schemas['top-products'].properties)).toEqual(
    'currency rank windowStart windowEnd final sku quantity grossMinor'.split(' '),
  )
  const rows = paths['/v1/views/order-volume/rows'].get
  const names = rows.parameters.map(({ name }: { name: string }) => name)
  expect(names.join(' ')).toBe(
    'region currency prefix from to limit cursor timeout Millrace-Position Millrace-Partitions',
  )
  expect(rows.parameters.at(-1)['x-internal']).toBe(true)
  expect(paths['/v1/views/customer-profile/rows/{key}']).toBeDefined()
  expect(paths['/v1/views/order-volume/rows/{key}']).toBeUndefined()
})

test('every path of the document is served', async () => {
  const { paths } = await document()
  for (const path of Object.keys(paths)) {
    if (path.startsWith('/v1/stream')) continue
    const url = path.replace('{key}', 'x')
    const method = paths[path].post === undefined ? 'GET' : 'POST'
    const { statusCode, body } = await server.inject({ method, url })
    expect(`${path} ${statusCode} ${body}`).not.toContain('ROUTE_UNKNOWN')
  }
})

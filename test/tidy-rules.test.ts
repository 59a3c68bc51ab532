/** Each house rule, shown a violation and seen to fail, and shown the right form beside it. */
import { expect, test } from 'vitest'
import { type CatalogueRow, comparePage, renderPage } from './support/errors-page.ts'
import {
  checkColumns,
  checkEffects,
  checkHeader,
  checkSizes,
  checkTypes,
} from './support/tidy/code.ts'
import { judge } from './support/tidy/exceptions.ts'
import { checkImports } from './support/tidy/imports.ts'
import { parseSource } from './support/tidy/sources.ts'
import {
  checkCommands,
  checkMarkdown,
  checkPath,
  checkPlaces,
  checkWords,
} from './support/tidy/text.ts'

const imports = (path: string, code: string) => checkImports(parseSource(path, code)).length
const effects = (code: string, path = 'streams/task.ts') =>
  checkEffects(parseSource(path, code)).map(one => one.detail.split(':')[0])

test.each([
  ['contracts/orders.ts', `import { x } from '../log/port.ts'`],
  ['contracts/orders.ts', `import { x } from 'fastify'`],
  ['client/live.ts', `import { schema } from '../contracts/live.ts'`],
  ['log/port.ts', `import { open } from './embedded/log.ts'`],
  ['log/port.ts', `import { Store } from '../state/port.ts'`],
  ['log/embedded/log.ts', `import { Fetcher } from '../kafka/fetcher.ts'`],
  ['log/embedded/log.ts', `import { rocks } from '../../state/rocksdb.ts'`],
  ['log/embedded/log.ts', `import RocksDB from 'rocksdb-native'`],
  ['state/store.ts', `import RocksDB from 'rocksdb-native'`],
  ['state/store.ts', `import { Log } from '../log/embedded/log.ts'`],
  ['state/store.ts', `import { task } from '../streams/task.ts'`],
  ['streams/task.ts', `import { open } from '../log/embedded/log.ts'`],
  ['streams/task.ts', `import { open } from '../state/rocksdb.ts'`],
  ['streams/task.ts', `const { open } = await import('../state/rocksdb.ts')`],
  ['streams/task.ts', `export * from '../log/kafka/log.ts'`],
  ['streams/task.ts', `import { driver } from './testing/driver.ts'`],
  ['streams/task.ts', `import { readFileSync } from 'node:fs'`],
  ['streams/task.ts', `import { setTimeout } from 'node:timers/promises'`],
  ['streams/task.ts', `import { randomBytes } from 'node:crypto'`],
  ['streams/task.ts', `import * as crypto from 'node:crypto'`],
  ['processors/orders.ts', `import { x } from '../log/port.ts'`],
  ['api/server.ts', `import { task } from '../streams/task.ts'`],
  ['api/server.ts', `import { log } from '../log/port.ts'`],
  ['dashboards/page.tsx', `import { views } from '../streams/views.ts'`],
  ['dashboards/page.tsx', `import { live } from '../contracts/live.ts'`],
])('%s may not %s', (path, code) => {
  expect(imports(path, code)).toBe(1)
})

test.each([
  ['contracts/orders.ts', `import { Type } from 'typebox'`],
  ['client/live.ts', `import type { Frame } from '../contracts/live.ts'`],
  ['client/live.ts', `import { type Frame } from '../contracts/live.ts'`],
  ['log/embedded/log.ts', `import { decode } from '../record-batch.ts'`],
  ['log/embedded/log.ts', `import { Writer } from './writer.ts'`],
  ['log/kafka/log.ts', `import { Producer } from '@platformatic/kafka'`],
  ['state/rocksdb.ts', `import RocksDB from 'rocksdb-native'`],
  ['state/store.ts', `import type { Database } from '../log/database.ts'`],
  ['streams/operators/filter.ts', `import type { Operator } from '../operator.ts'`],
  ['streams/task.ts', `import { createHash } from 'node:crypto'`],
  ['streams/testing/driver.ts', `import { open } from '../../log/embedded/log.ts'`],
  ['processors/orders.ts', `import { stream } from '../streams/index.ts'`],
  ['api/server.ts', `import fastify from 'fastify'`],
  ['api/server.ts', `import { ViewReader } from '../streams/views.ts'`],
  ['dashboards/page.tsx', `import { signal } from '@preact/signals'`],
  ['cli/main.ts', `import { open } from '../log/embedded/log.ts'`],
])('%s may %s', (path, code) => {
  expect(imports(path, code)).toBe(0)
})

test('a clock, randomness, a timer or the environment below cli/ is found', () => {
  expect(effects('const now = Date.now()')).toEqual(['Date.now'])
  expect(effects('const f = globalThis.Date.now')).toEqual(['Date.now'])
  expect(effects(`const now = Date['now']()`)).toEqual(['Date.now'])
  expect(effects('const d = new Date()')).toEqual(['Date()'])
  expect(effects('const d = Date()')).toEqual(['Date()'])
  expect(effects('const r = Math.random()')).toEqual(['Math.random'])
  expect(effects('setTimeout(() => {}, 1)')).toEqual(['setTimeout'])
  expect(effects('const o = { schedule: setInterval }')).toEqual(['setInterval'])
  expect(effects('await new Promise(done => setImmediate(done))')).toEqual(['setImmediate'])
  expect(effects('globalThis.setTimeout(() => {}, 1)')).toEqual(['setTimeout'])
  expect(effects('const t = performance.now()')).toEqual(['performance'])
  expect(effects('const t = process.hrtime.bigint()')).toEqual(['process.hrtime'])
  expect(effects('const p = process.env.PORT')).toEqual(['process.env'])
  expect(effects('const id = crypto.randomUUID()')).toEqual(['crypto.randomUUID'])
  expect(effects(`console.log('x')`)).toEqual(['console'])
  for (const folder of ['contracts', 'client', 'log', 'state', 'processors', 'api']) {
    expect(effects('Date.now()', `${folder}/x.ts`)).toHaveLength(1)
  }
})

test('an injected effect, a given time and a free folder are no violation', () => {
  expect(effects('const d = new Date(startMs)')).toEqual([])
  expect(
    effects('function f(setTimeout: (t: () => void) => void) { setTimeout(() => {}) }'),
  ).toEqual([])
  expect(effects('const now = environment.clock.now()')).toEqual([])
  expect(effects('interface E { setTimeout: typeof globalThis.setTimeout }')).toEqual([])
  expect(effects('type T = typeof setTimeout')).toEqual([])
  expect(effects('const t = { setTimeout: schedule }')).toEqual([])
  expect(effects('Date.now()', 'cli/main.ts')).toEqual([])
  expect(effects('Date.now()', 'test/run.ts')).toEqual([])
})

test('any, a default export and a switched-off check are found', () => {
  const rules = (code: string, path = 'log/x.ts') =>
    checkTypes(parseSource(path, code)).map(one => one.rule)
  expect(rules('const x = y as any')).toEqual(['any'])
  expect(rules('export default 1')).toEqual(['default export'])
  expect(rules('export default 1', 'vitest.config.ts')).toEqual([])
  expect(rules(`// @ts-${'ignore'}\nconst x = 1`)).toEqual(['unchecked'])
  expect(rules(`const x: unknown = 'any' // any`)).toEqual([])
})

test('a file, a function, a parameter list or a line beyond its limit is found', () => {
  const sizes = (code: string, path = 'log/x.ts') =>
    checkSizes(parseSource(path, code)).map(one => `${one.rule} ${one.size}`)
  const lines = (count: number) => 'f()\n'.repeat(count)
  expect(sizes(lines(400))).toEqual([])
  expect(sizes(lines(401))).toEqual(['file lines 401'])
  expect(sizes(lines(600), 'test/x.test.ts')).toEqual([])
  expect(sizes(lines(601), 'test/x.test.ts')).toEqual(['file lines 601'])
  expect(sizes(`function f() {\n${lines(68)}}`)).toEqual([])
  expect(sizes(`function f() {\n${lines(69)}}`)).toEqual(['function lines 71'])
  expect(sizes(`class A { m = () => {\n${lines(69)}} }`)).toEqual(['function lines 71'])
  expect(sizes(`describe('x', () => {\n${lines(90)}})`)).toEqual([])
  const suite = `function logSuite() {\n${lines(90)}}`
  expect(sizes(suite, 'test/conformance/log.suite.ts')).toEqual([])
  expect(sizes(suite)).toEqual(['function lines 92'])
  expect(sizes('const f = (a, b, c, d, e) => a')).toEqual(['parameters 5'])
  expect(sizes('interface I { m(a: A, b: A, c: A, d: A, e: A): void }')).toEqual(['parameters 5'])
  expect(sizes('function f(this: A, a, b, c, d) {}')).toEqual([])
  const columns = (code: string) => checkColumns(parseSource('log/x.ts', code)).length
  expect(columns(`// ${'x'.repeat(97)}`)).toBe(0)
  expect(columns(`// ${'x'.repeat(98)}`)).toBe(1)
  expect(columns(`const s = '${'x'.repeat(120)}'`)).toBe(0)
  expect(columns(`const s = '' // ${'x'.repeat(120)}`)).toBe(1)
})

const header = `/**
 * Keeps some.
 *
 * in     any
 * time   none
 * state  none
 * out    those kept
 * late   none
 */
`

test('an operator or topology without its five rows is found', () => {
  const missing = (path: string, code: string) => checkHeader(parseSource(path, code)).length
  const operator = 'export function keep() {}'
  expect(missing('streams/operators/keep.ts', header + operator)).toBe(0)
  expect(missing('streams/operators/keep.ts', operator + header)).toBe(1)
  expect(missing('streams/operators/keep.ts', header.replace('late', 'lost') + operator)).toBe(1)
  const swapped = header.replace(' * in     any\n', '').replace(' */', ' * in     any\n */')
  expect(missing('streams/operators/keep.ts', swapped + operator)).toBe(1)
  const topology = 'export function revenueTopology() {}'
  expect(missing('processors/analytics/revenue.ts', topology)).toBe(1)
  expect(missing('processors/analytics/revenue.ts', header + topology)).toBe(0)
  expect(missing('processors/analytics/money.ts', 'export function add() {}')).toBe(0)
  expect(missing('streams/task.ts', operator)).toBe(0)
})

test('unfinished work, machine paths and registry hosts are found', () => {
  const words = (text: string) => checkWords(parseSource('log/x.ts', text)).length
  expect(words(`// ${'FIX'}ME later`)).toBe(1)
  expect(words(`// ${'TO'}DO later`)).toBe(1)
  expect(words(`// ${'TO'}DO(#12) later`)).toBe(0)
  expect(words(`const ${'black'}list = 1`)).toBe(1)
  const places = (text: string) => checkPlaces(parseSource('docs/x.md', text)).length
  expect(places(`see /${'ho'}me/ada/x`)).toBe(1)
  expect(places(`'/${'wo'}rk/x'`)).toBe(1)
  expect(places(`https://registry.${'npm'}js.org/x`)).toBe(1)
  expect(places(`https://repo.${'mav'}en.apache.org`.replace('repo.', 'repo1.'))).toBe(1)
  expect(places('streams/home/x and the work/rest')).toBe(0)
})

test('collecting folders, deep folders and odd file names are found', () => {
  const path = (name: string) => checkPath(parseSource(name, '')).length
  expect(path('src/x.ts')).toBe(1)
  expect(path('streams/utils/x.ts')).toBe(1)
  expect(path('streams/a/b/x.ts')).toBe(1)
  expect(path('streams/recordBatch.ts')).toBe(1)
  expect(path('streams/operators/window-join.ts')).toBe(0)
  expect(path('test/streams/operators/window-join.test.ts')).toBe(0)
})

test('pages need one title, links that lead somewhere and commands that exist', () => {
  const paths = new Set(['docs/TIME.md', 'cli/main.ts'])
  const page = (text: string) => checkMarkdown(parseSource('docs/X.md', text), paths)
  expect(page('# One\n\n[time](TIME.md#late) [out](https://example.com)')).toEqual([])
  expect(page('## None').map(one => one.rule)).toEqual(['title'])
  expect(page('# One\n# Two').map(one => one.rule)).toEqual(['title'])
  expect(page('# One\n```sh\n# comment\n```\n')).toEqual([])
  expect(page('# One\n[x](GONE.md)').map(one => one.rule)).toEqual(['link'])
  const commands = (text: string) =>
    checkCommands(parseSource('README.md', text), new Set(['start']), paths).length
  expect(commands('```sh\nnpm ci && npm start\nnode cli/main.ts\n```\n')).toBe(0)
  expect(commands('```sh\nnpm ci && npm test\n```\n')).toBe(1)
  expect(commands('```sh\nnpm run gone\nnode cli/gone.ts\n```\n')).toBe(2)
})

test('the error page and the catalogues are compared in both directions', () => {
  const row = (code: string): CatalogueRow => ({
    code,
    folder: 'log',
    message: `It is ${code}.`,
    recovery: 'stop',
    status: 500,
  })
  const page = renderPage([row('A'), row('B')], '`OLD` until 0.1')
  expect(comparePage(page, [row('A'), row('B')])).toEqual([])
  expect(comparePage(page, [row('A'), row('B'), row('C')])).toEqual(['C is not on the page'])
  expect(comparePage(page, [row('A')])).toEqual(['B is in no catalogue'])
  expect(comparePage(page, [row('A'), { ...row('B'), status: 404 }])).toEqual([
    'B differs on the page',
  ])
  expect(comparePage(page, [row('A'), row('B'), row('B')])).toEqual(['B is in log and in log'])
  expect(comparePage(renderPage([row('OLD')], '`OLD` until 0.1'), [row('OLD')])).toEqual([
    'OLD is retired',
  ])
})

test('an exception covers what it names, and may only shrink', () => {
  const long = (size: number) => checkSizes(parseSource('log/x.ts', 'f()\n'.repeat(size)))
  const texts = (size: number, allowed: Record<string, number>) =>
    judge(long(size), allowed).map(one => one.text)
  expect(texts(450, {})).toEqual(['log/x.ts:1 450 lines, at most 400'])
  expect(texts(450, { 'file lines log/x.ts': 450 })).toEqual([])
  expect(texts(451, { 'file lines log/x.ts': 450 })).toHaveLength(1)
  expect(texts(449, { 'file lines log/x.ts': 450 })).toEqual([
    'file lines log/x.ts: lower its exception to 449',
  ])
  expect(texts(10, { 'file lines log/x.ts': 450 })).toEqual([
    'file lines log/x.ts: lower its exception to 0',
  ])
})

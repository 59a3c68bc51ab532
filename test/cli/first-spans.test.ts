import { expect, it } from 'vitest'
import { acceptRecords, FirstSpans, TraceIds } from '../../cli/first-spans.ts'
import { Random } from '../support/random.ts'
import { keptSpans } from '../support/spans.ts'

const ROOT = 'b7ad6b7169203331'
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const asked = `00-${TRACE}-${ROOT}-01`

function bytesOf(seed: number) {
  const random = new Random(seed)
  return (size: number) => Buffer.from(Array.from({ length: size }, () => random.below(256)))
}

function firstSpans(share: number, spansPerSecondMax = 1e9) {
  let nowMs = 1_750_000_000_000
  const { tracing, ended } = keptSpans({ clock: () => ++nowMs, spansPerSecondMax })
  return { first: new FirstSpans({ ...tracing, ids: new TraceIds(share, bytesOf(1)) }), ended }
}

const record = (id: string, headers: readonly (readonly [string, string])[] = []) => ({
  topic: 'orders',
  key: Buffer.from(id),
  value: Buffer.from('x'),
  timestamp: 1,
  headers: [['ce_id', id] as const, ...headers].map(
    ([name, text]) => [name, Buffer.from(text)] as const,
  ),
})

const tracesOf = (records: readonly ReturnType<typeof record>[]) =>
  records.map(({ headers }) => headers.find(([name]) => name === 'traceparent')?.[1].toString())

it('a share of the new traces is sampled, by the last 56 bits of their ids', () => {
  for (const share of [0, 0.01, 0.25, 1]) {
    const ids = new TraceIds(share, bytesOf(7))
    const drawn = Array.from({ length: 20_000 }, () => ids.draw()).filter(id => id !== undefined)
    expect(Math.abs(drawn.length / 20_000 - share)).toBeLessThan(0.01)
    const least = (1 - share) * 2 ** 56
    for (const id of drawn) {
      expect(id).toMatch(/^[\da-f]{32}$/)
      expect(Number.parseInt(id.slice(18), 16)).toBeGreaterThanOrEqual(least - 2 ** 24)
    }
    expect(new Set(drawn).size).toBe(drawn.length)
  }
})

it('a chosen id is that of the next trace, and of no other', () => {
  const ids = new TraceIds(1, bytesOf(3))
  ids.choose(TRACE)
  expect(ids.generateTraceId()).toBe(TRACE)
  expect(ids.generateTraceId()).not.toBe(TRACE)
  expect(ids.generateSpanId()).toMatch(/^[\da-f]{16}$/)
})

it('records without a trace begin one each, or none; their spans end when they are appended', () => {
  const { first, ended } = firstSpans(1)
  const own = record('b', [['traceparent', asked]])
  const { records, appended } = acceptRecords([record('a'), own, record('c')], undefined, first)
  expect(ended).toEqual([])
  appended()
  expect(ended.map(({ name, attributes }) => [name, attributes['messaging.message.id']])).toEqual([
    ['send orders', 'a'],
    ['send orders', 'c'],
  ])
  const [a, c] = ended.map(({ context: { traceId, spanId } }) => `00-${traceId}-${spanId}-01`)
  expect(tracesOf(records)).toEqual([a, asked, c])
  expect(ended[0]?.context.traceId).not.toBe(ended[1]?.context.traceId)
  const none = acceptRecords([record('a'), record('b')], undefined, firstSpans(0).first)
  expect(tracesOf(none.records)).toEqual([undefined, undefined])
})

it('records of a traced request follow from it; of one that is not sampled, they are not either', () => {
  const { first, ended } = firstSpans(0)
  const { records, appended } = acceptRecords([record('a'), record('b')], asked, first)
  appended()
  expect(ended.map(({ parent }) => parent)).toEqual([ROOT, ROOT])
  expect(new Set(tracesOf(records)).size).toBe(2)
  const unsampled = acceptRecords([record('a')], asked.replace(/1$/, '0'), firstSpans(1).first)
  expect(tracesOf(unsampled.records)).toEqual([undefined])
})

it('where nobody traces, or too much is traced, records go on in the trace that they came with', () => {
  expect(tracesOf(acceptRecords([record('a')], asked, undefined).records)).toEqual([asked])
  expect(tracesOf(acceptRecords([record('a')], undefined, undefined).records)).toEqual([undefined])
  const { first, ended } = firstSpans(0, 4)
  const many = Array.from({ length: 50 }, (_, i) => record(`${i}`))
  const { records, appended } = acceptRecords(many, asked, first)
  appended()
  expect(ended.length).toBeLessThan(50)
  const traces = tracesOf(records)
  expect(traces.filter(trace => trace === asked).length).toBe(50 - ended.length)
  expect(traces.every(trace => trace?.includes(TRACE))).toBe(true)
})

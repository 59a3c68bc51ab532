import { expect, it } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches, type RecordColumns } from '../../log/record-columns.ts'
import type { Header } from '../../log/record-headers.ts'
import {
  contextOf,
  decodeContext,
  encodeContext,
  sampledContext,
  traceparentOf,
} from '../../streams/trace-context.ts'
import { TraceLimit } from '../../streams/trace-limit.ts'
import { Random } from '../support/random.ts'

const id = '0af7651916cd43dd8448eb211c80319c'
const span = 'b7ad6b7169203331'
const sampled = `00-${id}-${span}-01`

function columnsOf(...records: Header[][]): RecordColumns {
  const builder = new RecordBatchBuilder()
  for (const headers of records) builder.append(1, null, null, headers)
  return decodeBatches(builder.finish()).runs[0]!
}

const text = (name: string, value: string): Header => [name, Buffer.from(value)]

it('a traceparent is read as W3C Trace Context has it; only sampled ones count', () => {
  expect(sampledContext(sampled)).toMatchObject({ traceId: id, spanId: span, isRemote: true })
  expect(traceparentOf(sampledContext(sampled)!)).toBe(sampled)
  // Of a later version more may follow; flags beside the first one mean nothing here.
  expect(sampledContext(`01-${id}-${span}-03-more`)?.spanId).toBe(span)
  for (const refused of [
    `00-${id}-${span}-00`,
    `00-${id}-${span}-02`,
    `00-${id}-${span}-01-more`,
    `00-${id}-${span}-1`,
    `ff-${id}-${span}-01`,
    `00-${id.toUpperCase()}-${span}-01`,
    `00-${'0'.repeat(32)}-${span}-01`,
    `00-${id}-${'0'.repeat(16)}-01`,
    `${sampled} `,
    '',
  ]) {
    expect(sampledContext(refused), refused).toBeUndefined()
  }
})

it('a context is kept in 24 bytes', () => {
  const bytes = Buffer.concat([Buffer.alloc(3), encodeContext(sampledContext(sampled)!)])
  expect(bytes.length).toBe(27)
  expect(traceparentOf(decodeContext(bytes, 3))).toBe(sampled)
})

it('of all headers of a record the last traceparent is found, wherever it is', () => {
  const columns = columnsOf(
    [],
    [text('ce_id', 'x')],
    [text('traceparent', sampled)],
    [text('n'.repeat(200), 'v'.repeat(70_000)), ['null', null], text('traceparent', sampled)],
    [text('traceparent', sampled), text('ce_id', 'x'), text('', '')],
    [text('traceparent', 'older'), text('traceparent', sampled)],
    [text('traceparent', sampled), text('traceparent', `00-${id}-${span}-00`)],
    [text('traceparent', sampled), ['traceparent', null]],
    [text('Traceparent', sampled)],
    [text('ce_id', 'x'), text('traceparent', sampled)],
    [text('traceparent', sampled), text('ce_id', 'x'), text('traceparent', `00-${id}-${span}-00`)],
    Array.from({ length: 100 }, (_, i) => text(`h${i}`, `${i}`)),
  )
  const found = Array.from({ length: columns.length }, (_, row) => contextOf(columns, row))
  const shown = found.map(context => (context === undefined ? '' : traceparentOf(context)))
  expect(shown).toEqual(['', '', sampled, sampled, sampled, sampled, '', '', '', sampled, '', ''])
})

it('a limit leaves out the same traces, whether it is asked before or after they are made', () => {
  const random = new Random(2)
  let nowMs = 1e12
  const limit = new TraceLimit({ spansPerSecondMax: 8, clock: () => nowMs })
  for (let second = 0; second < 2; second++, nowMs += 1000) {
    for (let i = 0; i < 8; i++) {
      nowMs += 20
      if (limit.admits(id)) limit.count()
    }
  }
  nowMs += 1000
  expect(limit.admits('f'.repeat(32))).toBe(false)
  const traces = Array.from({ length: 1000 }, () => {
    const end = random.below(2 ** 24).toString(16)
    return `${id.slice(0, -6)}${end.padStart(6, '0')}`
  })
  const columns = columnsOf(...traces.map(one => [text('traceparent', `00-${one}-${span}-01`)]))
  const found = traces.map((_, row) => contextOf(columns, row, limit)?.traceId)
  expect(found).toEqual(traces.map(one => (limit.admits(one) ? one : undefined)))
  expect(found.filter(one => one !== undefined).length).toBeGreaterThan(10)
})

it('headers that are broken have no traceparent, and none is read beyond them', () => {
  const random = new Random(1)
  for (let i = 0; i < 2000; i++) {
    const columns = columnsOf([text('a', 'b'), text('traceparent', sampled), text('c', 'd')])
    const { bytes, headersStart, headersEnd } = columns
    const at = headersStart[0]! + random.below(headersEnd[0]! - headersStart[0]!)
    bytes[at] = random.below(256)
    const found = contextOf(columns, 0)
    if (found !== undefined) expect(sampledContext(traceparentOf(found))).toBeDefined()
  }
})

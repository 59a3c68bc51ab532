import { expect, test } from 'vitest'
import { changeEvent } from '../../cli/event-changes.ts'
import { decodeEvent, encodeEvent } from '../../contracts/event-codec.ts'
import { eventRecord } from '../../contracts/event-record.ts'
import type { BusinessEvent } from '../../contracts/events.ts'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches, type RecordColumns } from '../../log/record-columns.ts'
import { batchOf } from '../log/batches.ts'

const timeMs = Date.UTC(2026, 0, 5, 8)

const place = { topic: 'payments', partition: 0 }

const payment: BusinessEvent = {
  type: 'PaymentAuthorized',
  paymentId: 'p1',
  orderId: 'o1',
  amountMinor: 5,
  currency: 'EUR',
  method: 'card',
  authorizedAt: timeMs,
}

function columnsOf(event: BusinessEvent): RecordColumns {
  const headers = { correlationid: 'o1', causationid: 'cause', traceparent: '00-ab-cd-01' }
  const origin = { id: 'o1.2', source: 'test', headers }
  const { key, value, timestamp, headers: all } = eventRecord(event, origin)
  const builder = new RecordBatchBuilder()
  const whole = (bytes: Buffer) => ({ bytes, start: 0, end: bytes.length })
  builder.append(timestamp, whole(key), whole(value), all)
  return decodeBatches(builder.finish()).runs[0]!
}

function changed(event: BusinessEvent, change: { shiftMs: number; pass: number }) {
  const { key, value, headers } = changeEvent(columnsOf(event), 0, change, place)!
  const texts = Object.fromEntries(headers.map(([name, bytes]) => [name, bytes?.toString()]))
  return { key: key?.toString(), event: decodeEvent(value!), headers: texts }
}

test('at another time an event has that time, and is the same event', () => {
  const { key, event, headers } = changed(payment, { shiftMs: 60_000, pass: 0 })
  expect(key).toBe('o1')
  expect(event).toEqual({ ...payment, authorizedAt: timeMs + 60_000 })
  expect(headers).toMatchObject({ ce_id: 'o1.2', ce_time: '2026-01-05T08:01:00.000Z' })
})

test('in a later pass a delivery is another event of the same product', () => {
  const stock = { type: 'StockReceived', sku: 'tea', quantity: 3, receivedAt: timeMs } as const
  const { key, event, headers } = changed(stock, { shiftMs: 1000, pass: 1 })
  expect(key).toBe('tea')
  expect(event).toEqual({ ...stock, receivedAt: timeMs + 1000 })
  expect(headers.ce_id).toBe('o1.2~1')
})

test('in a later pass it is another event, of another order, with the same causes', () => {
  const { key, event, headers } = changed(payment, { shiftMs: 1000, pass: 2 })
  expect(key).toBe('o1~2')
  expect(event).toMatchObject({ orderId: 'o1~2', paymentId: 'p1~2', authorizedAt: timeMs + 1000 })
  expect(headers).toEqual({
    ce_id: 'o1.2~2',
    ce_type: 'PaymentAuthorized',
    ce_source: 'test',
    ce_time: '2026-01-05T08:00:01.000Z',
    ce_specversion: '1.0',
    correlationid: 'o1~2',
    causationid: 'cause~2',
    traceparent: '00-ab-cd-01',
  })
})

test('a record that is no event keeps its bytes', () => {
  const [columns] = decodeBatches(batchOf('a=1', 'b=')).runs
  expect(changeEvent(columns!, 0, { shiftMs: 1, pass: 1 }, place)).toBeUndefined()
  expect(changeEvent(columns!, 1, { shiftMs: 1, pass: 1 }, place)).toBeUndefined()
})

test('at a time that no date can hold, ce_time is the number', () => {
  const shiftMs = 8.64e15
  const { event, headers } = changed(payment, { shiftMs, pass: 0 })
  expect(event).toEqual({ ...payment, authorizedAt: timeMs + shiftMs })
  expect(headers.ce_time).toBe(String(timeMs + shiftMs))
})

test('moved to a time that no event can have, it is named', () => {
  const shiftMs = Number.MAX_SAFE_INTEGER
  const change = () => changed(payment, { shiftMs, pass: 0 })
  expect(change).toThrow(
    'The event at offset 0 of payments-0 in the recording cannot be moved in time: authorizedAt: expected an integer',
  )
})

test('a record whose bytes end too early keeps them', () => {
  const value = encodeEvent(payment).subarray(0, 8)
  const headers = [['ce_type', Buffer.from('PaymentAuthorized')]] as const
  const builder = new RecordBatchBuilder()
  const key = { bytes: Buffer.from('o1'), start: 0, end: 2 }
  builder.append(timeMs, key, { bytes: value, start: 0, end: 8 }, headers)
  const [columns] = decodeBatches(builder.finish()).runs
  expect(changeEvent(columns!, 0, { shiftMs: 1, pass: 1 }, place)).toBeUndefined()
})

/** Dead letters as bytes: golden, read back, and what is read of bytes that are none. */
import { expect, test } from 'vitest'
import { RecordBatchBuilder } from '../../log/record-batch-builder.ts'
import { decodeBatches } from '../../log/record-columns.ts'
import type { Header } from '../../log/record-headers.ts'
import {
  type DeadLetter,
  decodeLetter,
  digestOf,
  encodeLetter,
  errorCode,
  stackDigest,
} from '../../streams/dead-letter-record.ts'
import { streamsError } from '../../streams/errors.ts'

const whole = (bytes: Buffer | null) => bytes && { bytes, start: 0, end: bytes.length }

function batchOf(letter: DeadLetter, bytesMax?: number): Buffer {
  const { timestampMs, key, value, headers } = encodeLetter(letter, bytesMax)
  const builder = new RecordBatchBuilder()
  builder.append(timestampMs, whole(key), whole(value), headers)
  return builder.finish()
}

function read(batch: Buffer): DeadLetter {
  const [columns] = decodeBatches(batch).runs
  return decodeLetter(columns!, 0)
}

const letter: DeadLetter = {
  application: 'shop',
  step: 'totals',
  kind: null,
  branch: null,
  reason: 'poison',
  code: 'TypeError',
  detail: 'TypeError: no',
  stack: '0123456789abcdef',
  attempts: 3,
  atMs: 1_700_000_000_000,
  content: 'record',
  place: { topic: 'orders', partition: 2, offset: 77 },
  taken: null,
  timestampMs: 1234,
  key: Buffer.from('k'),
  value: Buffer.from([0, 255]),
  headers: [
    ['ce_id', Buffer.from('e1')],
    ['dl_reason', Buffer.from('mine')],
    ['empty', null],
    ['ce_id', Buffer.from('e2')],
  ],
}

test('the bytes of version 1 are these', () => {
  const batch = batchOf(letter)
  expect(batch.subarray(61).toString('latin1')).toBe(
    '\xac\x04\x00\x00\x00\x02k\x04\x00\xff\x22' +
      '\x0ace_id\x04e1\x12dl_reason\x08mine\x0aempty\x01\x0ace_id\x04e2' +
      '\x14dl_version\x021\x1cdl_application\x08shop\x0edl_step\x0ctotals' +
      '\x12dl_reason\x0cpoison\x0edl_code\x12TypeError\x12dl_detail\x1aTypeError: no' +
      '\x10dl_stack\x200123456789abcdef\x16dl_attempts\x023\x0adl_at\x1a1700000000000' +
      '\x14dl_content\x0crecord\x10dl_topic\x0corders\x18dl_partition\x022\x12dl_offset\x0477',
  )
  expect(read(batch)).toEqual(letter)
})

test('branch and what the step kept are said; a letter that does not say is an older one', () => {
  for (const taken of ['nothing', 'part'] as const) {
    const own = { ...letter, kind: 'sink', branch: 2, taken } as const
    const batch = batchOf(own)
    expect(batch.latin1Slice()).toMatch(/dl_step.totals.dl_kind.sink.dl_branch.2.dl_reason/s)
    expect(batch.latin1Slice()).toMatch(new RegExp(`dl_offset.77.dl_taken.${taken}$`, 's'))
    expect(read(batch)).toEqual(own)
  }
})

test('what is larger than 1 MiB is a size and a digest, and 1 MiB is kept', () => {
  const value = Buffer.alloc(1024 * 1024, 'v')
  expect(read(batchOf({ ...letter, value })).value).toEqual(value)
  const larger = Buffer.alloc(1024 * 1024 + 1, 'v')
  const read1 = read(batchOf({ ...letter, value: larger, key: larger }))
  expect(read1).toEqual({ ...letter, value: digestOf(larger), key: digestOf(larger) })
  expect(digestOf(Buffer.from('abc'))).toEqual({
    bytes: 3,
    sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  })
})

test('a letter fits what its topic takes: value, key and headers go in this order', () => {
  const large = { ...letter, key: Buffer.alloc(600, 'k'), value: Buffer.alloc(600, 'v') }
  const whole = encodeLetter(large).sizeBytes
  const sizes = [whole, whole - 1, whole - 600, 900]
  const kept = sizes.map(size => {
    const { key, value, headers, timestampMs } = read(batchOf(large, size))
    expect(timestampMs).toBe(1234)
    return [Buffer.isBuffer(value), Buffer.isBuffer(key), headers !== undefined]
  })
  expect(kept).toEqual([
    [true, true, true],
    [false, true, true],
    [false, false, true],
    [false, false, false],
  ])
})

test('a timestamp below 0 is kept beside one that a topic takes', () => {
  const { timestampMs } = encodeLetter({ ...letter, timestampMs: -5 })
  expect(timestampMs).toBe(0)
  expect(read(batchOf({ ...letter, timestampMs: -5 }))).toEqual({ ...letter, timestampMs: -5 })
})

test('without a record, code and stack nothing is made up', () => {
  const bare: DeadLetter = {
    ...letter,
    ...{ code: null, stack: null, place: null, content: 'none', key: null, value: null },
    headers: [],
  }
  expect(read(batchOf(bare))).toEqual(bare)
})

test('letters of version 0 are read: their records are only at their place', () => {
  const headers: Header[] = [
    ['dl_reason', Buffer.from('late')],
    ['dl_detail', Buffer.from('window is closed')],
    ['dl_step', Buffer.from('volume')],
    ['dl_topic', Buffer.from('orders')],
    ['dl_partition', Buffer.from('2')],
    ['dl_offset', Buffer.from('5')],
  ]
  const builder = new RecordBatchBuilder()
  builder.append(9, whole(Buffer.from('k')), whole(Buffer.from('v')), headers)
  expect(read(builder.finish())).toEqual({
    ...letter,
    ...{ application: null, code: null, stack: null, attempts: 1, atMs: null },
    ...{ reason: 'late', detail: 'window is closed', step: 'volume', content: 'derived' },
    place: { topic: 'orders', partition: 2, offset: 5 },
    timestampMs: 9,
    value: Buffer.from('v'),
    headers: [],
  })
})

test('foreign bytes are a letter without a place', () => {
  const builder = new RecordBatchBuilder()
  builder.append(9, null, whole(Buffer.from('hello')), [
    ['dl_version', Buffer.from('9')],
    ['dl_partition', Buffer.from('1e9')],
    ['dl_attempts', null],
    ['dl_content', Buffer.from('__proto__')],
  ])
  const foreign = read(builder.finish())
  expect(foreign).toMatchObject({ place: null, content: 'none', reason: null, attempts: 1 })
  expect(foreign.value).toEqual(Buffer.from('hello'))
})

test('an error is told by its code, and by where it was thrown', () => {
  expect(errorCode(streamsError('VIEW_UNKNOWN', { view: 'x' }))).toBe('VIEW_UNKNOWN')
  expect(errorCode(new TypeError('x'))).toBe('TypeError')
  expect(errorCode('text')).toBe('string')
  expect(errorCode(undefined)).toBe(null)
  const thrown = (at: string) => {
    const error = new Error('x')
    error.stack = `Error: x\n    at f (file:///${at}/a.ts:1:2)\n    at ${at}/b.ts:3:4`
    return stackDigest(error)
  }
  expect(thrown('/opt/one')).toBe(thrown('/opt/two'))
  expect(thrown('/opt/one')).toMatch(/^[0-9a-f]{16}$/)
  expect(stackDigest('text')).toBe(null)
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RequestWriter, ResponseReader } from '../../../log/kafka/wire.ts'

/** The bytes of a message in chunks that end at the places given. */
function cut(chunks: readonly Buffer[], places: readonly number[]): Buffer[] {
  const whole = Buffer.concat(chunks)
  const ends = [...new Set(places.map(place => place % (whole.length + 1)))].sort((a, b) => a - b)
  return [...ends, whole.length].map((end, i) => whole.subarray(i === 0 ? 0 : ends[i - 1], end))
}

const message = fc.record({
  small: fc.integer({ min: -128, max: 127 }),
  short: fc.integer({ min: -32768, max: 32767 }),
  port: fc.integer({ min: 0, max: 65535 }),
  int: fc.integer(),
  long: fc.maxSafeInteger(),
  id: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  count: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  text: fc.string({ unit: 'binary', maxLength: 200 }),
  absent: fc.option(fc.string(), { nil: null }),
  uuid: fc.uuid(),
  bytes: fc.uint8Array({ maxLength: 2000 }),
  numbers: fc.option(fc.array(fc.integer()), { nil: null }),
  structs: fc.array(fc.tuple(fc.string(), fc.boolean())),
  struct: fc.option(fc.integer(), { nil: null }),
})

test('what is written is read again, however the answer is cut into chunks', () => {
  fc.assert(
    fc.property(message, fc.array(fc.nat(), { maxLength: 12 }), (given, places) => {
      const writer = new RequestWriter()
        .int8(given.small)
        .int16(given.short)
        .uint16(given.port)
        .int32(given.int)
        .int64(given.long)
        .int64(given.id)
        .uvarint(given.count)
        .string(given.text)
        .nullableString(given.absent)
        .uuid(given.uuid)
        .bytes(Buffer.from(given.bytes))
      writer.array(given.numbers, value => writer.int32(value))
      writer.structs(given.structs, ([text, flag]) => writer.string(text).boolean(flag))
      writer.nullableStruct(given.struct, value => writer.int32(value)).tags()
      const reader = new ResponseReader(cut(writer.finish(), places))
      const read = {
        small: reader.int8(),
        short: reader.int16(),
        port: reader.uint16(),
        int: reader.int32(),
        long: reader.int64(),
        id: reader.bigint64(),
        count: reader.uvarint(),
        text: reader.string(),
        absent: reader.nullableString(),
        uuid: reader.uuid(),
        bytes: new Uint8Array(reader.nullableBytes() ?? []),
        numbers: reader.nullableArray(() => reader.int32()),
        structs: reader.structs(() => [reader.string(), reader.boolean()]),
        struct: reader.nullableStruct(() => reader.int32()),
      }
      reader.tags()
      expect(read).toEqual(given)
      expect(() => reader.int8()).toThrow('it ends within a field')
    }),
    { seed: 4 },
  )
})

test('unknown tagged fields are skipped, known ones read, also where they read too little', () => {
  const bytes = Buffer.from([3, 0, 1, 9, 1, 4, 0, 0, 0, 7, 2, 2, 5, 6, 42])
  const reader = new ResponseReader([bytes.subarray(0, 6), bytes.subarray(6)])
  const read: number[] = []
  reader.tags({ 1: () => read.push(reader.int32()), 2: () => read.push(reader.int8()) })
  expect([...read, reader.int8()]).toEqual([7, 5, 42])
})

test('an answer cut off within a field is refused before memory is taken for it', () => {
  const claim = new ResponseReader([Buffer.from([0xff, 0xff, 0xff, 0xff, 0x07, 1, 2])])
  expect(() => claim.nullableBytes()).toThrow('it ends within a field')
  const endless = new ResponseReader([Buffer.alloc(9, 0xff)])
  expect(() => endless.uvarint()).toThrow('more than five bytes')
})

test('bytes are a copy of exactly their size, so that no chunk is kept in memory', () => {
  const chunk = Buffer.alloc(65_536)
  chunk[0] = 101
  const bytes = new ResponseReader([chunk]).nullableBytes()
  expect([bytes?.length, bytes?.buffer.byteLength]).toEqual([100, 100])
})
